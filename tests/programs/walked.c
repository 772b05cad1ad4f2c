/* Runtimes that walk their own stacks by the return addresses on them, and end the program at one they don't know. What
 * each of them is told by is here, and code that does as theirs: generated(n, runtime) calls itself n times, then
 * runtime(rbp), which looks at all the return addresses up to the call by C.
 *
 * OCAML: the code is in the object, between two symbols. V8: it is there (BLOB, as long as said), and where it was copied
 * to. EXPORTED: the same without these symbols, but with the functions that return what they stand for. HOTSPOT: only
 * where it was copied to. Without any of them nobody looks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEPTH 3
#define CALLS 10

/* The second is never run where it is. */
#define CODE(section, before, name, behind)                                                                            \
	__asm__(".pushsection " section "\n"                                                                           \
		".balign 64\n" before                                                                                  \
		".globl " name "\n"                                                                                    \
		".type " name ", @function\n" name ":\n"                                                               \
		"7: push %rbp\n"                                                                                       \
		"mov %rsp, %rbp\n"                                                                                     \
		"test %edi, %edi\n"                                                                                    \
		"jz 1f\n"                                                                                              \
		"dec %edi\n"                                                                                           \
		"call 7b\n"                                                                                            \
		"returns_to_itself_" name ": pop %rbp\n"                                                               \
		"ret\n"                                                                                                \
		"1: mov %rbp, %rdi\n"                                                                                  \
		"call *%rsi\n"                                                                                         \
		"returns_from_c_" name ": pop %rbp\n"                                                                  \
		"ret\n"                                                                                                \
		".size " name ", . - " name "\n" behind                                                                \
		".globl returns_to_itself_" name ", returns_from_c_" name "\n"                                         \
		".popsection\n")

#ifdef OCAML
CODE(".text", ".globl camlUnit__code_begin\ncamlUnit__code_begin:\n", "generated",
     ".globl camlUnit__code_end\ncamlUnit__code_end:\n");
#elif defined V8 || defined EXPORTED
#ifdef V8
#define BLOB "v8_Default_embedded_blob_code_"
#define SIZE "v8_Default_embedded_blob_code_size_"
#else
#define BLOB ".Lblob"
#define SIZE ".Lsize"
__asm__(".globl _ZN2v88internal23DefaultEmbeddedBlobCodeEv\n"
	".type _ZN2v88internal23DefaultEmbeddedBlobCodeEv, @function\n"
	"_ZN2v88internal23DefaultEmbeddedBlobCodeEv: lea .Lblob(%rip), %rax\n"
	"ret\n"
	".globl _ZN2v88internal27DefaultEmbeddedBlobCodeSizeEv\n"
	".type _ZN2v88internal27DefaultEmbeddedBlobCodeSizeEv, @function\n"
	"_ZN2v88internal27DefaultEmbeddedBlobCodeSizeEv: mov .Lsize(%rip), %eax\n"
	"ret\n");
#endif
CODE(".text", BLOB ":\n", "generated", ".Lend:\n");
__asm__(".pushsection .rodata\n" SIZE ": .long .Lend - " BLOB "\n"
	".popsection\n");
#else
CODE(".text", "", "generated", "");
#endif
CODE(".rodata", "", "template", "end_of_template:\n");

#ifdef HOTSPOT
void *gHotSpotVMStructs;
#endif

void generated(int depth, void (*runtime)(void **));
extern const char template[], end_of_template[], returns_to_itself_template[], returns_from_c_template[];

/* The code that runs. */
static const char *code;
static int looked_at;

__attribute__((noinline)) void expects(const void *found, const char *known)
{
	looked_at++;
#if defined OCAML || defined V8 || defined EXPORTED || defined HOTSPOT
	if (found == code + (known - template))
		return;
	printf("nothing returns to %p\n", found);
	fflush(stdout);
	abort();
#else
	(void)found, (void)known;
#endif
}

__attribute__((noinline)) void collect(void **frame)
{
	expects(frame[-1], returns_from_c_template);
	for (int i = 0; i < DEPTH; i++) {
		expects(frame[1], returns_to_itself_template);
		frame = *frame;
	}
}

__attribute__((noinline)) void run(const void *at)
{
	code = at;
	for (int i = 0; i < CALLS; i++)
		((void (*)(int, void (*)(void **)))at)(DEPTH, collect);
}

int run_all(void)
{
	size_t size = end_of_template - template;
	void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

#ifndef HOTSPOT
	run(generated);
#endif
#ifndef OCAML
	memcpy(copy, template, size);
	run(copy);
#endif
	munmap(copy, size);
	printf("%d return addresses\n", looked_at);
	return 0;
}

#ifndef LIBRARY
/* Of a library, where one is given. */
int main(int argc, char **argv)
{
	int (*run_its)(void) = run_all;

	if (argc > 1) {
		void *library = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);

		run_its = library ? (int (*)(void))dlsym(library, "run_all") : NULL;
	}
	return run_its ? run_its() : 1;
}
#endif
