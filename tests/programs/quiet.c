/* What a library could leave in a process: signal actions, masks, descriptors, threads, mappings. */
#include "check.h"
#include <dirent.h>
#include <signal.h>
#include <string.h>

static void count(const char *what, const char *path)
{
	int n = 0;
	DIR *dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	printf("%s %d\n", what, n);
}

int main(void)
{
	for (int i = 1; i < 65; i++) {
		struct sigaction a;
		if (sigaction(i, NULL, &a) == 0 && (a.sa_handler != SIG_DFL || a.sa_flags != 0))
			printf("action of %d is set\n", i);
	}
	/* The kernel's own view, which no library can colour. */
	char line[512];
	FILE *file = fopen("/proc/self/status", "r");
	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, "Sig", 3) == 0 || strncmp(line, "Threads", 7) == 0)
			if (strncmp(line, "SigQ", 4) != 0)
				fputs(line, stdout);
	if (file)
		fclose(file);
	count("descriptors", "/proc/self/fd");
	file = fopen("/proc/self/maps", "r");
	unsigned long library_end = 0;
	while (file && fgets(line, sizeof line, file)) {
		/* Without the library itself and what it is linked against, each with its .bss behind it. */
		char *path = strchr(line, '/');
		unsigned long start = 0, end = 0;
		sscanf(line, "%lx-%lx", &start, &end);
		int of_library = path && (strstr(path, ".so") || strstr(path, "locale"));
		int bss = !path && !strchr(line, '[') && start == library_end;
		if (of_library || bss) {
			library_end = end;
			continue;
		}
		/* Where nobody else is: names of anonymous mappings and their rights. Small ones (thread-local
		 * storage, what the loader and libc keep) lie by chance beside each other or not. */
		char rights[8] = "", *name = strchr(line, '[');
		sscanf(line, "%*s %7s", rights);
		if (!path && !name && strcmp(rights, "rw-p") == 0 && end - start < 256 * 1024)
			continue;
		printf("mapping %s %s", rights, name ? name : path ? "program\n" : "anonymous\n");
	}
	if (file)
		fclose(file);
	return 0;
}
