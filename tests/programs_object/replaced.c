/* Files of libraries that are loaded: removed, replaced by another, renamed, in memory only; then others are
 * loaded and unloaded, and all go on as before. replaced DIRECTORY LIBRARY OTHER */
#include "check.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int works;
void counted(int what, int n) { if (what == 2) works += n; }
static const char *directory, *library, *other;

static void copy(const char *from, int out)
{
	static char buffer[1 << 16];
	int in = open(from, O_RDONLY);
	ssize_t n;

	while ((n = read(in, buffer, sizeof buffer)) > 0)
		if (write(out, buffer, (size_t)n) != n)
			DIE("write");
	close(in);
}
static char *path(const char *name)
{
	char *text;

	if (asprintf(&text, "%s/%s", directory, name) < 0)
		DIE("asprintf");
	return text;
}
static char *make(const char *name)
{
	char *to = path(name);
	int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	copy(library, fd);
	close(fd);
	return to;
}
static void *load(const char *name)
{
	void *handle = dlopen(name, RTLD_NOW);

	if (!handle) {
		printf("%s\n", dlerror());
		exit(98);
	}
	return handle;
}
static void call(void *handle, int n)
{
	int (*work)(int) = (int (*)(int))dlsym(handle, "busy_work");

	for (int i = 0; i < n; i++)
		if (work(i) != i + 1)
			printf("wrong\n");
}
/* The linker's list changes. */
static void something_else(void)
{
	void *handle = load(other);

	call(handle, 1);
	dlclose(handle);
}

static void try(const char *what, void (*change)(const char *))
{
	char *file = make(what);
	void *handle = load(file);

	works = 0;
	call(handle, 3);
	change(file);
	call(handle, 3);
	something_else();
	call(handle, 3);
	something_else();
	call(handle, 3);
	dlclose(handle);
	something_else();
	printf("%s: %d\n", what, works);
}
static void removes(const char *file) { unlink(file); }
static void renames(const char *file) { MUST(rename(file, path("renamed"))); }
static void replaces(const char *file)
{
	/* As package managers do. */
	char *fresh = path("fresh");
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	copy(other, fd);
	close(fd);
	MUST(rename(fresh, file));
}
static void replaces_by_nothing(const char *file)
{
	unlink(file);
	close(open(file, O_WRONLY | O_CREAT | O_TRUNC, 0755));
}
static void in_memory(void)
{
	char name[100];
	int fd = memfd_create("libbusy.so", MFD_CLOEXEC);
	void *handle;

	copy(library, fd);
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	handle = load(name);
	works = 0;
	call(handle, 3);
	close(fd);
	call(handle, 3);
	something_else();
	/* Another file has the name now. */
	fd = open("/dev/null", O_RDONLY);
	something_else();
	call(handle, 3);
	close(fd);
	dlclose(handle);
	printf("in memory: %d\n", works);
}

int main(int argc, char **argv)
{
	(void)argc;
	directory = argv[1];
	library = argv[2];
	other = argv[3];
	try("removed", removes);
	try("renamed", renames);
	try("replaced", replaces);
	try("emptied", replaces_by_nothing);
	in_memory();
	return 0;
}
