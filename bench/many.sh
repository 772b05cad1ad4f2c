#!/usr/bin/env bash
# Prints as many C functions as said, fn_00000 and on, and their count: arming has them all to decode.
set -euo pipefail
awk -v n="${1:-50000}" 'BEGIN {
	for (i = 0; i < n; i++) {
		if (i % 4 == 0)
			printf "long fn_%05d(long a, long *p) { for (long k = 0; k < a; k++) p[k] += %d; return *p; }\n", i, i
		else if (i % 4 == 1)
			printf "long fn_%05d(long a, long *p) { return a > %d ? p[1] * a : fn_%05d(a - 1, p); }\n", i, i, i - 1
		else if (i % 4 == 2)
			printf "long fn_%05d(long a, long *p) { p[a & 7] ^= %d; return a + p[2]; }\n", i, i * 77
		else
			printf "long fn_%05d(long a, long *p) { return fn_%05d(a, p) - fn_%05d(a + 1, p) + %d; }\n", i, i - 1, i - 2, i
	}
	print "const int function_count = " n ";"
}'
