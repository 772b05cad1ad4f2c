/* A shared object whose function calls its caller back. */
#include "check.h"

FUNCTION long plugged_calls(long (*callback)(long), long a)
{
	long b = callback(a);
	KEEP();
	return b + 1;
}
