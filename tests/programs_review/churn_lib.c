#ifndef ANSWER
#define ANSWER 1
#endif
static volatile int constructed;
__attribute__((noinline, visibility("default"))) int answer(int x) { __asm__ volatile("" : "+r"(x)); return x + ANSWER; }
__attribute__((constructor)) static void construct(void) { constructed = answer(0); }
__attribute__((visibility("default"))) int was_constructed(void) { return constructed; }
