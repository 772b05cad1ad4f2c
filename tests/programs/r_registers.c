/* Every register is what it was, at entry and at return: r_registers ROUNDS. */
#include "registers.h"

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100;
	try_all(rounds);
	int highest = highest_level();
#define TELL_CALLS(name, level) RETURNED("filled_" #name, level <= highest ? rounds : 0);
	FILLED(TELL_CALLS)
	return 0;
}
