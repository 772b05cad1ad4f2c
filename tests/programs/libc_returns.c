// Calls as much of libc and libm as has a result that is always the same, and prints the results.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <complex.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <iconv.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <netdb.h>
#include <regex.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

static void strings(void)
{
	char a[256] = "the quick brown fox", b[256], *save, *word;

	printf("%zu %zu %s %s\n", strlen(a), strnlen(a, 5), strchr(a, 'q'), strrchr(a, 'o'));
	printf("%s %s %zu %zu\n", strstr(a, "brown"), strpbrk(a, "xyz"), strspn(a, "eht "), strcspn(a, "k"));
	printf("%d %d %d\n", strcmp("a", "b") < 0, strncmp("abc", "abd", 2), strcasecmp("ABC", "abc"));
	printf("%s ", strcpy(b, "copy"));
	printf("%s\n", strcat(b, "+cat"));
	strncpy(b, "0123456789", 5), b[5] = 0;
	printf("%s ", b);
	printf("%td %s\n", stpcpy(b, "stp") - b, b);
	printf("%d %s\n", memcmp("abcd", "abce", 3), (char *)memmem(a, strlen(a), "fox", 3));
	printf("%s\n", (char *)memmove(a + 1, a, strlen(a) + 1));
	printf("%s %s\n", (char *)memchr("hello", 'l', 5), (char *)memrchr("hello", 'l', 5));
	memset(b, 'z', 7), b[7] = 0;
	printf("%td ", (char *)mempcpy(b, "mem", 3) - b);
	printf("%s\n", b);
	strcpy(a, "one,two;three");
	for (word = strtok_r(a, ",;", &save); word; word = strtok_r(NULL, ",;", &save))
		printf("[%s]", word);
	word = strdup("dup"), save = strndup("dupdup", 4);
	printf(" %s %s %s %d\n", word, save, strerror(ENOENT), strcoll("a", "b") < 0);
	free(word), free(save);
	for (int c = 0, n = 0; c < 256; c++)
		if (n += isalpha(c) + ispunct(c) + (toupper(c) != c), c == 255)
			printf("ctype %d\n", n != 0);
}

static void vary(char *to, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(to, size, format, args);
	va_end(args);
}

static void stdio(void)
{
	char text[256], *line = NULL;
	size_t size = 0;
	long double wide = 0;
	double plain = 0;
	float small = 0;
	int n = 0, i = 0, j = 0;
	FILE *file = tmpfile();

	n = printf("%d %5.2f %Lg %s %c %#lx %-4d| %e %a\n", 1, 2.5, 3.25L, "s", 'c', 255l, 4, 1e100, 0.5);
	vary(text, sizeof text, "%s %d %g %Lf %ls", "vary", 1, 2.0, 3.0L, L"wide");
	printf("%d %s\n", n, text);
	printf("%d ", sscanf("7 8.5 9.25 10.125 word", "%d %f %lf %Lf %s", &i, &small, &plain, &wide, text));
	printf("%d %g %g %Lg %s\n", i, small, plain, wide, text);
	fprintf(file, "line one\nline two\n%d\n", 42);
	fputs("fputs\n", file), fputc('c', file), putc('\n', file), fwrite("fwrite\n", 1, 7, file);
	printf("%ld ", ftell(file));
	rewind(file);
	while (getline(&line, &size, file) > 0)
		printf("%s", line);
	printf("%d %d\n", feof(file), ferror(file));
	fseek(file, 5, SEEK_SET);
	printf("%c ", fgetc(file));
	printf("%s", fgets(text, sizeof text, file));
	ungetc('u', file);
	printf("%c ", getc(file));
	printf("%zu\n", fread(text, 1, 4, file));
	fclose(file);
	free(line), line = NULL;
	file = open_memstream(&line, &size);
	fprintf(file, "in memory %d", 5), fclose(file);
	printf("%s %zu\n", line, size);
	file = fmemopen(line, size, "r");
	printf("%d ", fscanf(file, "in memory %d", &j));
	printf("%d\n", j);
	fclose(file), free(line);
	n = asprintf(&line, "%s-%d", "asprintf", 3);
	printf("%d %s\n", n, line), free(line);
	file = popen("echo popen", "r");
	printf("%s", fgets(text, sizeof text, file));
	printf("%d\n", pclose(file));
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void visit(const void *node, VISIT order, int depth)
{
	if (order == postorder || order == leaf)
		printf("%d ", **(const int *const *)node);
	(void)depth;
}

static void leave(void *node)
{
	(void)node;
}

static void stdlib(void)
{
	int numbers[] = {5, 3, 9, 1, 7, 2, 8}, key = 7, *block;
	void *tree = NULL;
	char *end;
	struct hsearch_data *none = NULL;

	qsort(numbers, 7, sizeof *numbers, by_value);
	for (int i = 0; i < 7; i++)
		printf("%d", numbers[i]);
	printf(" %td\n", (int *)bsearch(&key, numbers, 7, sizeof *numbers, by_value) - numbers);
	for (int i = 0; i < 7; i++)
		tsearch(&numbers[(i * 3) % 7], &tree, by_value);
	twalk(tree, visit);
	printf("%d\n", **(int **)tfind(&key, &tree, by_value));
	tdestroy(tree, leave);
	printf("%ld %lu %lld ", strtol("0x1fz", &end, 0), strtoul("077", NULL, 0), atoll("-5"));
	printf("%s\n", end);
	printf("%g %g %Lg\n", strtod("1.5e3", NULL), (double)strtof("0.25", NULL), strtold("1e400", NULL));
	srand(1), srandom(1), srand48(1);
	printf("%d %d %g %d\n", rand() != rand(), random() > 0, floor(drand48()), lrand48() >= 0);
	block = calloc(4, 4), block = realloc(block, 4096);
	printf("%d %d\n", block[0], abs(-4) + (int)labs(-5) + div(17, 5).rem + (int)ldiv(17l, 5l).quot);
	free(block);
	printf("%d ", posix_memalign((void **)&block, 64, 128));
	printf("%d\n", (int)((uintptr_t)block % 64)), free(block);
	setenv("RETURNS", "yes", 1), putenv("OTHER=1");
	printf("%s %s ", getenv("RETURNS"), getenv("OTHER"));
	printf("%d %d\n", unsetenv("RETURNS"), getenv("RETURNS") == NULL);
	hcreate(16);
	hsearch((ENTRY){.key = "k", .data = (void *)5}, ENTER);
	printf("%ld %d\n", (long)hsearch((ENTRY){.key = "k"}, FIND)->data, none == NULL);
	hdestroy();
}

static void times(void)
{
	time_t then = 86400 * 365;
	struct tm parts;
	char text[128];

	setenv("TZ", "UTC0", 1), tzset();
	gmtime_r(&then, &parts);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %a %j %Z", &parts);
	printf("%s %ld ", text, (long)timegm(&parts));
	printf("%s", asctime(&parts));
	localtime_r(&then, &parts);
	printf("%ld ", (long)mktime(&parts));
	printf("%s", ctime(&then));
	printf("[%s] ", strptime("2001-02-03", "%Y-%m-%d", &parts));
	printf("%d\n", parts.tm_mon);
	printf("%d %d\n", time(NULL) > 0, clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0}));
	printf("%d\n", nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL));
}

static void words(void)
{
	wchar_t wide[64];
	char bytes[64], *in = bytes, *out = (char *)wide;
	size_t left = 3, room = sizeof wide;
	regex_t regex;
	regmatch_t match[2];
	glob_t found;
	iconv_t conversion;
	mbstate_t state = {0};

	printf("%s ", setlocale(LC_ALL, "C.UTF-8"));
	printf("%s %d\n", nl_langinfo(CODESET), localeconv() != NULL);
	printf("%zu ", mbstowcs(wide, "h\xc3\xa9llo", 64));
	printf("%zu %zu %d\n", wcslen(wide), wcstombs(bytes, wide, 64), wcscmp(wide, L"h\u00e9llo"));
	printf("%zu %d %d\n", mbrtowc(wide, "\xc3\xa9", 2, &state), iswalpha(0xe9) != 0, (int)towupper(0xe9));
	printf("%d ", swprintf(wide, 64, L"%d-%s", 5, "wide"));
	printf("%ls %ld\n", wide, wcstol(L"12", NULL, 10));
	conversion = iconv_open("UTF-16LE", "ISO-8859-1");
	memcpy(bytes, "ab\xe9", 3);
	printf("%d ", conversion != (iconv_t)-1);
	printf("%zu ", iconv(conversion, &in, &left, &out, &room));
	printf("%zu %x %d\n", left, (unsigned)wide[0], iconv_close(conversion));
	printf("%d ", regcomp(&regex, "b(r+)", REG_EXTENDED));
	printf("%d ", regexec(&regex, "abrrrc", 2, match, 0));
	printf("%d %d\n", match[1].rm_so, match[1].rm_eo);
	regfree(&regex);
	printf("%d ", glob("/etc/pass*d", 0, NULL, &found));
	printf("%s ", found.gl_pathv[0]);
	globfree(&found);
	printf("%d %d\n", fnmatch("*.c", "x.c", 0), fnmatch("*.c", "x.h", 0));
}

static void files(void)
{
	char name[] = "/tmp/returnsXXXXXX", text[16];
	int fd = mkstemp(name), other;
	struct stat status;
	struct iovec parts[2] = {{"ab", 2}, {"cd", 2}};
	int ends[2];
	struct addrinfo *list, hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};

	printf("%zd ", write(fd, "0123", 4));
	printf("%zd\n", writev(fd, parts, 2));
	printf("%ld ", (long)lseek(fd, 2, SEEK_SET));
	printf("%zd\n", read(fd, text, 3));
	printf("%d ", fstat(fd, &status));
	printf("%ld %zd\n", (long)status.st_size, pread(fd, text, 4, 4));
	printf("%d %d\n", ftruncate(fd, 2), access(name, R_OK));
	other = dup(fd);
	printf("%d %d %d\n", close(fd), close(other), unlink(name));
	printf("%d ", open(name, O_RDONLY));
	printf("%d %d\n", errno, close(-1));
	printf("%d ", pipe(ends));
	printf("%zd ", write(ends[1], "pipe", 4));
	printf("%zd\n", read(ends[0], text, 16));
	printf("%d ", getaddrinfo("127.0.0.1", "80", &hints, &list));
	printf("%s\n", inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr, text, 16));
	freeaddrinfo(list);
	printf("%s\n", gethostbyname("127.0.0.1")->h_name);
	printf("%x %s\n", htonl(inet_addr("10.0.0.1")), gai_strerror(EAI_NONAME));
}

static void maths(void)
{
	volatile double x = 0.75;
	volatile long double y = 1.25L;
	double complex z;
	double whole;
	int exponent;

	printf("%.15g %.15g %.15g %.15g\n", sin(x), cos(x), tan(x), atan2(x, 2));
	printf("%.15g %.15g %.15g %.15g\n", exp(x), log(x), pow(x, 3.5), hypot(x, 2));
	printf("%.15g %.15g %.15g", cbrt(x), fmod(7.5, x), modf(3.75, &whole));
	printf(" %g\n", whole);
	printf("%.18Lg %.18Lg %.18Lg\n", sinl(y), expl(y), powl(y, 3));
	printf("%.7g %.7g %.15g\n", (double)sinf((float)x), (double)sqrtf(2), tgamma(5.5));
	printf("%ld %lld %.15g ", lrint(2.5), llround(2.5), frexp(x * 16, &exponent));
	printf("%d\n", exponent);
	z = cexp(I * x) * csqrt(-1 + 0 * I);
	printf("%.12g %.12g %.12g\n", creal(z), cimag(z), cabs(3 + 4 * I));
}

int main(void)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	strings(), stdio(), stdlib(), times(), words(), files(), maths();
	return fflush(stdout);
}
