/* A program linked to a shared object, with code that runs before main. */
#include "check.h"

long plugged_work(long a);
static volatile long sink;
FUNCTION void before_main(void) { KEEP(); sink = plugged_work(1); }
FUNCTION void first_of_all(void) { KEEP(); }
__attribute__((constructor)) static void construct(void) { before_main(); }
static void preinit(int argc, char **argv, char **envp) { (void)argc; (void)argv; (void)envp; first_of_all(); }
__attribute__((section(".preinit_array"), used)) static void (*const entry)(int, char **, char **) = preinit;

int main(void)
{
	printf("%ld\n", plugged_work(1) + plugged_work(2));
	return 0;
}
