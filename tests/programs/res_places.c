/* Each mode leaves the place where the program was started in some way: its root, its user, its /proc, its
 * descriptors, its right to make code. It tells how often work() ran. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

static int calls;
__attribute__((noinline, noclone)) void work(void)
{
	calls++;
	__asm__ volatile("" ::: "memory");
}
static void *thread(void *arg)
{
	work();
	return arg;
}
static void some_work(void)
{
	for (int i = 0; i < 100; i++)
		work();
	pthread_t t;
	if (!pthread_create(&t, NULL, thread, NULL))
		pthread_join(t, NULL);
	free(malloc(100000));
}
static void must(const char *what, int status)
{
	if (status) {
		printf("%s: %s\n", what, strerror(errno));
		fflush(stdout);
		_exit(77);
	}
}
/* Where work() is, on a page of its own making: what servers do that put their text on huge pages. */
static void remap_text(int advice)
{
	extern char __executable_start, etext;
	uintptr_t start = (uintptr_t)&__executable_start & ~4095UL, end = ((uintptr_t)&etext + 4095) & ~4095UL;
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	while (maps && fgets(line, sizeof line, maps)) {
		unsigned long low, high;
		char access[8];
		if (sscanf(line, "%lx-%lx %7s", &low, &high, access) == 3 && access[2] == 'x' && low >= start && low < end) {
			size_t len = high - low;
			if (advice) {
				printf("madvise %d\n", madvise((void *)low, len, MADV_HUGEPAGE));
				break;
			}
			void *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			memcpy(copy, (void *)low, len);
			must("mprotect", mprotect(copy, len, PROT_READ | PROT_EXEC));
			must("mremap", mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)low) == MAP_FAILED);
			break;
		}
	}
	if (maps)
		fclose(maps);
}
int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "", *dir = getenv("SCRATCH");
	char path[4096];
	snprintf(path, sizeof path, "%s/root", dir ? dir : "/tmp");
	work();
	if (!strcmp(mode, "chroot")) {
		mkdir(path, 0755);
		must("chroot", chroot(path));
		must("chdir", chdir("/"));
	} else if (!strcmp(mode, "chdir")) {
		must("chdir", chdir("/"));
	} else if (!strcmp(mode, "another user")) {
		must("setgroups", setgroups(0, NULL));
		must("setgid", setgid(65534));
		must("setuid", setuid(65534));
	} else if (!strcmp(mode, "another user for a while")) {
		must("seteuid", seteuid(65534));
		some_work();
		must("seteuid", seteuid(0));
	} else if (!strcmp(mode, "no proc")) {
		must("unshare", unshare(CLONE_NEWNS));
		must("private", mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must("hide", mount("none", "/proc", "tmpfs", 0, NULL));
	} else if (!strcmp(mode, "read only")) {
		must("unshare", unshare(CLONE_NEWNS));
		must("private", mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must("bind", mount(dir, dir, NULL, MS_BIND, NULL));
		must("read only", mount("none", dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	} else if (!strcmp(mode, "hidden")) {
		must("unshare", unshare(CLONE_NEWNS));
		must("private", mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must("hide", mount("none", dir, "tmpfs", 0, NULL));
	} else if (!strcmp(mode, "not dumpable")) {
		must("prctl", prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	} else if (!strcmp(mode, "no new privileges")) {
		must("prctl", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	} else if (!strcmp(mode, "no new code")) {
		must("prctl", prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0));
	} else if (!strcmp(mode, "not random")) {
		if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
			personality(ADDR_NO_RANDOMIZE);
			execv("/proc/self/exe", argv);
		}
	} else if (!strcmp(mode, "huge pages")) {
		remap_text(1);
	} else if (!strcmp(mode, "text remapped")) {
		remap_text(0);
	} else if (!strcmp(mode, "nothing open")) {
		must("close_range", close_range(3, ~0U, 0));
		printf("%d\n", open("/dev/null", O_RDONLY));
		for (int fd = 3; fd < 65536; fd++)
			close(fd);
		closefrom(3);
		for (int fd = 3; fd < 1000; fd++)
			if (dup2(0, fd) != fd)
				printf("dup2 %d: %s\n", fd, strerror(errno));
	} else if (!strcmp(mode, "nothing at all open")) {
		some_work();
		printf("hits work %d\n", calls + 101);
		fflush(stdout);
		closefrom(0);
		some_work();
		return open("/dev/null", O_RDONLY) == 0 ? 0 : 1;
	}
	some_work();
	if (argc > 2) {
		void *z = dlopen("libz.so.1", RTLD_NOW);
		unsigned long (*crc32)(unsigned long, const char *, unsigned) =
			z ? (unsigned long (*)(unsigned long, const char *, unsigned))dlsym(z, "crc32") : NULL;
		printf("crc %lx\n", crc32 ? crc32(0, "text", 4) : 0);
	}
	printf("hits work %d\n", calls);
	return 0;
}
