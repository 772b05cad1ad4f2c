/* A function that is called from SITES different places, made at run time, twice each; then the places
 * are unmapped, and others made at the same addresses: r_sites SITES. */
#include "returns.h"
#include <string.h>
#include <sys/mman.h>

FUNCTION long work(long a) { KEEP(); return a * 3; }
FUNCTION long settle(long a) { KEEP(); return a; }

/* sub $8,%rsp; movabs $work,%rax; call *%rax; add $imm8,%rax; add $8,%rsp; ret */
static const unsigned char code[] = { 0x48, 0x83, 0xec, 0x08, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0,
				      0x48, 0x83, 0xc0, 0x00, 0x48, 0x83, 0xc4, 0x08, 0xc3 };
#define SIZE 32

static unsigned char *make(long sites, unsigned char plus, void *where)
{
	size_t size = (size_t)sites * SIZE;
	unsigned char *at = mmap(where, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0),
				 -1, 0);
	if (at == MAP_FAILED)
		DIE("mmap");
	void *target = (void *)work;
	for (long i = 0; i < sites; i++) {
		memcpy(at + i * SIZE, code, sizeof code);
		memcpy(at + i * SIZE + 6, &target, 8);
		at[i * SIZE + 19] = plus;
	}
	MUST(mprotect(at, size, PROT_READ | PROT_EXEC));
	return at;
}

int main(int argc, char **argv)
{
	long sites = argc > 1 ? atol(argv[1]) : 1000, calls = 0;
	unsigned char *at = NULL;
	for (unsigned char plus = 1; plus <= 2; plus++) {
		at = make(sites, plus, at);
		for (int turn = 0; turn < 2; turn++)
			for (long i = 0; i < sites; i++, calls++) {
				long (*site)(long) = (long (*)(long))(void *)(at + i * SIZE);
				EXPECT(site(i), i * 3 + plus);
			}
		MUST(munmap(at, (size_t)sites * SIZE));
	}
	EXPECT(settle(1), 1);
	printf("executed work %ld\n", calls);
	RETURNED("settle", 1);
	return 0;
}
