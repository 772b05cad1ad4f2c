/* A thousand short children of each kind, several at once: many N KIND. Each child runs the probed function
 * as often as its number says; what is buffered is printed once. */
#include "ways.h"


int main(int argc, char **argv)
{
	enum { AT_ONCE = 16 };
	int n = argc > 1 ? atoi(argv[1]) : 1000;
	static int running, failed;
	const char *kind = argc > 2 ? argv[2] : "exit";

	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	printf("printed once\n");
	if (strcmp(kind, "exit") == 0)
		fflush(stdout);
	work(0);
	for (int i = 0; i < n || running > 0;) {
		int status;

		if (i < n && running < AT_ONCE) {
			pid_t pid = strcmp(kind, "vfork") == 0 ? vfork() : fork();

			if (pid < 0)
				DIE("fork");
			if (pid == 0) {
				for (int k = 0; k < i % 5; k++)
					work(k);
				if (strcmp(kind, "exit") == 0)
					exit(i % 100);
				if (strcmp(kind, "killed") == 0) {
					LEAVES_NO_REPORT(i % 5);
					kill(getpid(), SIGKILL);
				}
				_exit(i % 100);
			}
			i++;
			running++;
			continue;
		}
		if (wait(&status) < 0)
			DIE("wait");
		failed += !WIFEXITED(status);
		running--;
	}
	printf("%d children, %d killed\n", n, failed);
	TELL_WORKS();
	return 0;
}
