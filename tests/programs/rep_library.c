/* What rep_unload replaces. */
long rep_function(long a);
long rep_function(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
