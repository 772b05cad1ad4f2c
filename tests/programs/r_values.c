/* Values of every kind, in every place the ABI returns them: r_values ROUNDS. */
#include "returns.h"
#include <complex.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct two_doubles { double a, b; };
struct two_longs { long a, b; };
struct mixed { long a; double b; };
struct mixed_back { double a; long b; };
struct three_floats { float a, b, c; };
struct packed { char a; short b; int c; } __attribute__((packed));
struct big { long a[20]; };
struct long_double { long double a; };
struct empty { int none[0]; };
typedef int64_t vector16 __attribute__((vector_size(16)));
typedef int64_t vector32 __attribute__((vector_size(32)));
typedef int64_t vector64 __attribute__((vector_size(64)));

#define F(type, name, ...) FUNCTION type name(long i) { KEEP(); return __VA_ARGS__; }
F(int, as_int, (int)(i - 5))
F(bool, as_bool, i % 3 == 1)
F(signed char, as_schar, (signed char)(i * 3 - 128))
F(unsigned short, as_ushort, (unsigned short)(i * 1000))
F(uint64_t, as_u64, 0x8182838485868788u + (uint64_t)i)
F(void *, as_pointer, (void *)(uintptr_t)i)
F(float, as_float, (float)i * 1.5f)
F(double, as_double, (double)i * 2.25 - 1)
F(long double, as_long_double, (long double)i / 3)
F(float complex, as_float_complex, (float)i + (float)(i + 1) * I)
F(double complex, as_double_complex, (double)i - (double)(i * 2) * I)
F(long double complex, as_long_double_complex, (long double)i / 3 + (long double)i / 7 * I)
F(__int128, as_int128, (__int128)i << 70 | 12345)
F(struct two_doubles, as_two_doubles, (struct two_doubles){ (double)i, (double)i / 2 })
F(struct two_longs, as_two_longs, (struct two_longs){ i * 3, ~i })
F(struct mixed, as_mixed, (struct mixed){ i * 7, (double)i / 4 })
F(struct mixed_back, as_mixed_back, (struct mixed_back){ (double)i / 8, i * 9 })
F(struct three_floats, as_three_floats, (struct three_floats){ (float)i, (float)i + .5f, (float)-i })
F(struct packed, as_packed, (struct packed){ (char)(i % 100), (short)i, (int)-i })
F(struct long_double, as_long_double_struct, (struct long_double){ (long double)i / 11 })
FUNCTION struct big as_big(long i)
{
	struct big big;
	for (int k = 0; k < 20; k++)
		big.a[k] = i * k;
	KEEP();
	return big;
}
FUNCTION void as_void(long i) { (void)i; KEEP(); }
FUNCTION vector16 as_vector16(long i) { KEEP(); return (vector16){ i, -i }; }
__attribute__((target("avx"))) FUNCTION vector32 as_vector32(long i) { KEEP(); return (vector32){ i, -i, i * 3, i * 5 }; }
__attribute__((target("avx512f"))) FUNCTION vector64 as_vector64(long i)
{
	KEEP();
	return (vector64){ i, -i, i * 3, i * 5, ~i, i * 7, i * 11, i * 13 };
}
/* And arguments of every kind go in. */
FUNCTION double takes_all(long a, long b, long c, long d, long e, long f, long g, double h, float j, long double k,
			  double l, double m, double n, double o, double p, double q, double r, ...)
{
	__builtin_va_list more;
	__builtin_va_start(more, r);
	int s = __builtin_va_arg(more, int);
	double t = __builtin_va_arg(more, double);
	__builtin_va_end(more);
	KEEP();
	return (double)(a + b + c + d + e + f + g) + h + (double)j + (double)k + l + m + n + o + p + q + r + s + t;
}

static uint64_t digest = 14695981039346656037u;
static void add(const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		digest = (digest ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
}

__attribute__((target("avx"))) FUNCTION void try_vector32(long i)
{
	vector32 v = as_vector32(i);
	int64_t wanted[4] = { i, -i, i * 3, i * 5 };
	EXPECT(memcmp(&v, wanted, sizeof v), 0);
}
__attribute__((target("avx512f"))) FUNCTION void try_vector64(long i)
{
	vector64 v = as_vector64(i);
	int64_t wanted[8] = { i, -i, i * 3, i * 5, ~i, i * 7, i * 11, i * 13 };
	EXPECT(memcmp(&v, wanted, sizeof v), 0);
}

#define NUMBERS(X) X(as_int, long) X(as_bool, long) X(as_schar, long) X(as_ushort, long) X(as_u64, uint64_t) \
	X(as_float, double) X(as_double, double)
#define ALL(X) X(as_int) X(as_bool) X(as_schar) X(as_ushort) X(as_u64) X(as_pointer) X(as_float) X(as_double) \
	X(as_long_double) X(as_float_complex) X(as_double_complex) X(as_long_double_complex) X(as_int128) \
	X(as_two_doubles) X(as_two_longs) X(as_mixed) X(as_mixed_back) X(as_three_floats) X(as_packed) \
	X(as_long_double_struct) X(as_big) X(as_void) X(as_vector16) X(takes_all)

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 3;
	int avx = __builtin_cpu_supports("avx"), avx512 = __builtin_cpu_supports("avx512f");
	for (long i = 0; i < rounds; i++) {
#define ADD_NUMBER(function, type) { type value = (type)function(i); add(&value, sizeof value); }
		NUMBERS(ADD_NUMBER)
		EXPECT(as_pointer(i) == (void *)(uintptr_t)i, 1);
		char text[600];
		long double x = as_long_double(i);
		float complex fc = as_float_complex(i);
		double complex dc = as_double_complex(i);
		long double complex ldc = as_long_double_complex(i);
		__int128 wide = as_int128(i);
		struct two_doubles two = as_two_doubles(i);
		struct two_longs longs = as_two_longs(i);
		struct mixed mixed = as_mixed(i);
		struct mixed_back back = as_mixed_back(i);
		struct three_floats three = as_three_floats(i);
		struct packed packed = as_packed(i);
		struct long_double lds = as_long_double_struct(i);
		struct big big = as_big(i);
		as_void(i);
		vector16 v = as_vector16(i);
		double all = takes_all(i, 2, 3, 4, 5, 6, 7, 8.5, 9.5f, 10.5L, 1, 2, 3, 4, 5, 6, 7, 8, 9.25);
		int n = snprintf(text, sizeof text,
			"%.20Lg %g%+gi %g%+gi %.20Lg%+.20Lgi %lx%016lx %g,%g %ld,%ld %ld,%g %g,%ld %g,%g,%g %d,%d,%d %.20Lg "
			"%ld,%ld %ld,%ld %g", x, (double)crealf(fc), (double)cimagf(fc), creal(dc), cimag(dc), creall(ldc),
			cimagl(ldc), (long)(wide >> 64), (long)wide, two.a, two.b, longs.a, longs.b, mixed.a, mixed.b,
			back.a, back.b, (double)three.a, (double)three.b, (double)three.c, packed.a, packed.b, packed.c,
			lds.a, big.a[1], big.a[19], (long)v[0], (long)v[1], all);
		add(text, (size_t)n);
		if (i < 3)
			printf("%s\n", text);
		if (avx)
			try_vector32(i);
		if (avx512)
			try_vector64(i);
	}
	printf("digest %lx\n", (unsigned long)digest);
	if (!avx)
		printf("NOT RUN, the processor lacks AVX\n");
	if (!avx512)
		printf("NOT RUN, the processor lacks AVX-512\n");
#define TELL_RETURNED(name) RETURNED(#name, rounds);
	ALL(TELL_RETURNED)
	RETURNED("as_vector32", avx ? rounds : 0);
	RETURNED("as_vector64", avx512 ? rounds : 0);
	return 0;
}
