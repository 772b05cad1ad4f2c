// The same in C++: destructors in place of cleanup handlers.
#include "cancels.c"
