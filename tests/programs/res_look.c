/* Looks which of its descriptors are open, by number: argv[1] is the first that it doesn't look at. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int calls;
__attribute__((noinline, noclone)) int work(int fd)
{
	calls++;
	return fd + 1;
}
int main(int argc, char **argv)
{
	int end = argc > 1 ? atoi(argv[1]) : 64;
	for (int fd = 0; fd < end; fd = work(fd)) {
		struct stat found;
		int by_stat = !fstat(fd, &found), by_fcntl = fcntl(fd, F_GETFD) >= 0, copy = dup(fd);
		if (by_stat || by_fcntl || copy >= 0)
			printf("%d is open: %d %d %d\n", fd, by_stat, by_fcntl, copy >= 0);
		if (copy >= 0)
			close(copy);
	}
	printf("hits work %d\n", calls);
	return 0;
}
