/* Preloaded beside libuprobe.so: probes every function of the program it is in, and turns the probes on and
 * off at random, while another thread loads and unloads a library with probes in it.
 *
 *   SOAK_SECONDS    how long
 *   SOAK_FUNCTIONS  a file with their names
 *   SOAK_CHURN      the library; copies of it are PATH.0, PATH.1 ...
 *   SOAK_STEADY     a function that is called once for each thing the program does: probed from the start
 *   SOAK_REPORT     where the findings go: PATH.ready, PATH.toggled, PATH.end
 *
 * What must hold whatever happens is checked here; what only the program knows, by who started it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <uprobe.h>

#define CHURN_COPIES 4
#define TOGGLED_AT_ONCE 200
#define BATCH 300
#define PERIOD_NS (NANOSECONDS / 10)
#define NANOSECONDS 1000000000ULL

enum state { REFUSED, ABSENT, ON, OFF };

struct place {
	char *name;
	struct uprobe entry;
	struct uretprobe back;
	int follows;                /* it is `back` that is registered */
	enum state state;
	atomic_ulong own;           /* what our handlers have counted */
	atomic_ulong own_back;
	unsigned long earlier;      /* hits under former registrations */
	unsigned long ends;         /* how many these were */
	unsigned long when_off;     /* hits a while after it was turned off, plus 1; 0: not known yet */
};

/* What the environment says, read before main: redis takes its environment away and sets it up again while
 * the threads here are at work (for its title in ps). */
static struct {
	char *seconds, *functions, *churn, *steady, *report;
} given;

static struct place *places;
static size_t place_count;
static struct place steady, steady_back;
static atomic_int stopping;
static atomic_ulong wrong, toggles, registrations, churned, churn_calls, churn_hits, always_calls;
static FILE *report;
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

static void complain(const char *what, const char *name, unsigned long a, unsigned long b)
{
	pthread_mutex_lock(&report_lock);
	if (atomic_fetch_add(&wrong, 1) < 50 && report) {
		fprintf(report, "wrong %s %s: %lu, not %lu\n", what, name, a, b);
		fflush(report);
	}
	pthread_mutex_unlock(&report_lock);
}

static unsigned long long now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned long long)ts.tv_sec * NANOSECONDS + (unsigned long long)ts.tv_nsec;
}

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&ts, NULL);
}

static unsigned long random_below(unsigned long *state, unsigned long limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % limit;
}

static int on_entry(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	atomic_fetch_add_explicit(&((struct place *)probe->data)->own, 1, memory_order_relaxed);
	return 0;
}

static int on_call(struct uretprobe_instance *instance, struct uprobe_regs *regs)
{
	struct place *place = instance->rp->up.data;
	(void)regs;
	*(struct place **)uprobe_instance_data(instance) = place;
	atomic_fetch_add_explicit(&place->own, 1, memory_order_relaxed);
	return 0;
}

static int on_return(struct uretprobe_instance *instance, struct uprobe_regs *regs)
{
	struct place *place = *(struct place **)uprobe_instance_data(instance);
	(void)regs;
	atomic_fetch_add_explicit(&place->own_back, 1, memory_order_relaxed);
	return 0;
}

static struct uprobe *probe_of(struct place *place)
{
	return place->follows ? &place->back.up : &place->entry;
}

/* A registration begins with a clean struct. */
static void prepare(struct place *place, unsigned int flags)
{
	if (place->follows) {
		memset(&place->back, 0, sizeof place->back);
		place->back.handler = on_return;
		place->back.entry_handler = on_call;
		place->back.data_size = sizeof(struct place *);
	} else {
		memset(&place->entry, 0, sizeof place->entry);
		place->entry.pre_handler = on_entry;
	}
	probe_of(place)->symbol_name = place->name;
	probe_of(place)->data = place;
	probe_of(place)->flags = flags;
}

static int register_prepared(struct place *place)
{
	return place->follows ? register_uretprobe(&place->back) : register_uprobe(&place->entry);
}

static int register_place(struct place *place, unsigned int flags)
{
	prepare(place, flags);
	return register_prepared(place);
}

/* The handlers have counted what the library has. Nobody is in one: the probe is not registered. */
static void settle(struct place *place)
{
	place->earlier += probe_of(place)->nhit;
	unsigned long own = atomic_load(&place->own);
	/* A call whose entry_handler runs while another thread unregisters the probe is not followed, and so no
	 * hit: at most one in each thread that is at work here. */
	unsigned long more = place->follows ? ++place->ends * 4 : 0;
	if (own < place->earlier || own > place->earlier + more)
		complain("hits of", place->name, place->earlier, own);
	place->state = ABSENT;
}

static void unregister_place(struct place *place)
{
	int failed = place->follows ? unregister_uretprobe(&place->back) : unregister_uprobe(&place->entry);
	if (failed)
		complain("unregister", place->name, (unsigned long)-failed, 0);
	settle(place);
}

static void toggle(struct place *place)
{
	int failed;

	switch (place->state) {
	case ON:
		failed = disable_uprobe(probe_of(place));
		place->state = OFF;
		place->when_off = 0;
		break;
	case OFF:
		/* A thread that was in its handler and did not get the processor since then may have counted. */
		if (place->when_off && probe_of(place)->nhit + 1 > place->when_off + 4)
			complain("hits while off of", place->name, probe_of(place)->nhit, place->when_off - 1);
		failed = enable_uprobe(probe_of(place));
		place->state = ON;
		break;
	default:
		return;
	}
	atomic_fetch_add(&toggles, 1);
	if (failed)
		complain("toggle", place->name, (unsigned long)-failed, 0);
}

/* Registers or unregisters many at once. */
static void swap_batch(unsigned long *random)
{
	struct uprobe *probes[BATCH];
	struct place *chosen[BATCH];
	int count = 0, absent = (int)random_below(random, 2), failed;

	for (int i = 0; i < BATCH; i++) {
		struct place *place = &places[random_below(random, place_count)];
		int fits = absent ? place->state == ABSENT : place->state == ON || place->state == OFF;
		if (place->follows || !fits)
			continue;
		for (int j = 0; j < count; j++)
			fits &= chosen[j] != place;
		if (!fits)
			continue;
		if (absent)
			prepare(place, 0);
		chosen[count] = place;
		probes[count++] = &place->entry;
	}
	if (!count)
		return;
	failed = absent ? register_uprobes(probes, count) : unregister_uprobes(probes, count);
	if (failed)
		complain(absent ? "register" : "unregister", "many", (unsigned long)-failed, 0);
	for (int i = 0; i < count; i++) {
		if (absent)
			chosen[i]->state = failed ? ABSENT : ON;
		else
			settle(chosen[i]);
	}
	atomic_fetch_add(&registrations, (unsigned long)count);
}

/* Registers all there is, or unregisters it: entry probes and return probes, each kind at once where that can
 * be, since a probe alone takes as long as many. How many were refused. */
static unsigned long all_at_once(int wanted)
{
	struct uprobe *entries[BATCH];
	struct uretprobe *backs[BATCH];
	unsigned long refused = 0;

	for (size_t from = 0; from < place_count; from += BATCH) {
		int entry_count = 0, back_count = 0, failed, failed_back;
		size_t end = from + BATCH < place_count ? from + BATCH : place_count;
		for (size_t i = from; i < end; i++) {
			int is_registered = places[i].state == ON || places[i].state == OFF;
			if (is_registered == wanted)
				continue;
			if (wanted)
				prepare(&places[i], 0);
			if (places[i].follows)
				backs[back_count++] = &places[i].back;
			else
				entries[entry_count++] = &places[i].entry;
		}
		failed = wanted ? register_uprobes(entries, entry_count) : unregister_uprobes(entries, entry_count);
		failed_back = wanted ? register_uretprobes(backs, back_count) : unregister_uretprobes(backs, back_count);
		for (size_t i = from; i < end; i++) {
			int is_registered = places[i].state == ON || places[i].state == OFF;
			int has_failed = places[i].follows ? failed_back : failed;
			if (!wanted && is_registered)
				settle(&places[i]);
			if (!wanted)
				continue;
			/* All or nothing: one that is refused is found by trying each. */
			if (has_failed)
				has_failed = register_place(&places[i], 0);
			places[i].state = has_failed ? REFUSED : ON;
			refused += has_failed != 0;
		}
		if (!wanted && (failed || failed_back))
			complain("unregister", "all", (unsigned long)-failed, (unsigned long)-failed_back);
	}
	return refused;
}

static void one_by_one(unsigned long *random)
{
	for (int i = 0; i < 4; i++) {
		struct place *place = &places[random_below(random, place_count)];
		if (place->state == ON || place->state == OFF) {
			unregister_place(place);
		} else if (place->state == ABSENT) {
			int failed = register_place(place, random_below(random, 4) ? 0 : UPROBE_FLAG_INT3);
			if (failed)
				complain("register", place->name, (unsigned long)-failed, 0);
			else
				place->state = ON;
		}
		atomic_fetch_add(&registrations, 1);
	}
}

/* Loads the library, calls it with a probe on it, and unloads it; 0: go on. */
static int churn_once(unsigned long *random)
{
	char name[4096];
	struct place place = { .name = "churn_work" };
	unsigned long calls = random_below(random, 20) + 1;
	int close_first = random_below(random, 3) == 0;
	unsigned long (*work)(unsigned long), (*always)(unsigned long);

	snprintf(name, sizeof name, "%s.%lu", given.churn, random_below(random, CHURN_COPIES));
	void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		complain("dlopen", name, 0, 1);
		return -1;
	}
	*(void **)&work = dlsym(handle, "churn_work");
	*(void **)&always = dlsym(handle, "churn_always");
	place.follows = random_below(random, 2) == 0;
	prepare(&place, random_below(random, 4) ? 0 : UPROBE_FLAG_INT3);
	probe_of(&place)->pathname = name;
	int failed = register_prepared(&place);
	if (failed) {
		complain("register in", name, (unsigned long)-failed, 0);
		return -1;
	}
	for (unsigned long i = 0; i < calls; i++) {
		work(i);
		always(i);
	}
	if (close_first)
		dlclose(handle);
	unregister_place(&place);
	if (!close_first)
		dlclose(handle);
	if (probe_of(&place)->nhit != calls)
		complain("calls of", name, probe_of(&place)->nhit, calls);
	if (place.follows && atomic_load(&place.own_back) != calls)
		complain("returns of", name, atomic_load(&place.own_back), calls);
	atomic_fetch_add(&always_calls, calls);
	atomic_fetch_add(&churn_calls, calls);
	atomic_fetch_add(&churn_hits, probe_of(&place)->nhit);
	atomic_fetch_add(&churned, 1);
	return 0;
}

static void *churn(void *unused)
{
	unsigned long random = 88172645463325252UL;

	while (!atomic_load(&stopping) && churn_once(&random) == 0)
		if (random_below(&random, 8) == 0)
			sleep_ms(1);
	return unused;
}

static void read_names(void)
{
	char line[1024];
	FILE *file = fopen(given.functions, "re");

	places = calloc(20000, sizeof *places);
	while (file && place_count < 20000 && fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = 0;
		places[place_count].name = strdup(line);
		places[place_count].follows = place_count % 5 == 0;
		place_count++;
	}
	if (!place_count)
		complain("open", given.functions, 0, 1);
	if (file)
		fclose(file);
}

static char *variable(const char *name)
{
	const char *value = getenv(name);
	return value ? strdup(value) : NULL;
}

/* Whether all is said. */
static int read_environment(void)
{
	given.seconds = variable("SOAK_SECONDS");
	given.functions = variable("SOAK_FUNCTIONS");
	given.churn = variable("SOAK_CHURN");
	given.steady = variable("SOAK_STEADY");
	given.report = variable("SOAK_REPORT");
	return given.seconds && given.functions && given.churn && given.steady && given.report;
}

/* Whoever reads it finds all of it or nothing. */
static void write_file(const char *ending, const char *text)
{
	char path[4096], whole[4200];

	snprintf(path, sizeof path, "%s.%s", given.report, ending);
	snprintf(whole, sizeof whole, "%s.part", path);
	FILE *file = fopen(whole, "we");
	if (file) {
		fputs(text, file);
		fclose(file);
		rename(whole, path);
	}
}

static void toggle_until(unsigned long long end)
{
	unsigned long random = 0x9e3779b97f4a7c15UL;

	for (unsigned long round = 0; now() < end; round++) {
		unsigned long long begun = now();
		for (int i = 0; i < TOGGLED_AT_ONCE && now() < begun + PERIOD_NS / 2; i++)
			toggle(&places[random_below(&random, place_count)]);
		if (round % 5 == 0)
			swap_batch(&random);
		one_by_one(&random);
		unsigned long long taken = now() - begun;
		sleep_ms(taken < PERIOD_NS ? (long)((PERIOD_NS - taken) / 1000000) + 1 : 10);
		for (size_t i = 0; i < place_count; i++)
			if (places[i].state == OFF && !places[i].when_off)
				places[i].when_off = probe_of(&places[i])->nhit + 1;
	}
}

static void *direct(void *unused)
{
	unsigned long refused, hits = 0, returns = 0, hit_places = 0;
	pthread_t churner;
	char text[1024];

	read_names();
	refused = all_at_once(1);
	snprintf(text, sizeof text, "functions %zu\nrefused %lu\n", place_count, refused);
	write_file("ready", text);
	if (!place_count)
		return unused;
	pthread_create(&churner, NULL, churn, NULL);
	toggle_until(now() + strtoull(given.seconds, NULL, 10) * NANOSECONDS);
	atomic_store(&stopping, 1);
	pthread_join(churner, NULL);
	all_at_once(0);
	for (size_t i = 0; i < place_count; i++) {
		hits += places[i].earlier;
		returns += atomic_load(&places[i].own_back);
		hit_places += places[i].earlier != 0;
	}
	snprintf(text, sizeof text,
		 "toggles %lu\nregistrations %lu\nhits %lu\nreturns %lu\nplaces_hit %lu\n"
		 "churned %lu\nchurn_calls %lu\nchurn_hits %lu\nalways_calls %lu\nwrong %lu\n",
		 atomic_load(&toggles), atomic_load(&registrations), hits, returns, hit_places,
		 atomic_load(&churned), atomic_load(&churn_calls), atomic_load(&churn_hits),
		 atomic_load(&always_calls), atomic_load(&wrong));
	write_file("toggled", text);
	return unused;
}

__attribute__((constructor)) static void begin(void)
{
	char path[4096];
	pthread_t director;

	if (!UPROBE_AVAILABLE() || !read_environment())
		return;
	snprintf(path, sizeof path, "%s.wrong", given.report);
	report = fopen(path, "we");
	steady.name = steady_back.name = given.steady;
	steady_back.follows = 1;
	if (register_place(&steady, 0) || register_place(&steady_back, 0))
		complain("register", steady.name, 1, 0);
	pthread_create(&director, NULL, direct, NULL);
	pthread_detach(director);
}

/* In exit() of the program. */
__attribute__((destructor)) static void finish(void)
{
	char text[512];

	if (!steady.name)
		return;
	snprintf(text, sizeof text,
		 "steady %llu\nsteady_own %lu\nsteady_followed %llu\nsteady_own_followed %lu\n"
		 "steady_returns %lu\nsteady_missed %llu\n",
		 (unsigned long long)steady.entry.nhit, atomic_load(&steady.own),
		 (unsigned long long)steady_back.back.up.nhit, atomic_load(&steady_back.own),
		 atomic_load(&steady_back.own_back),
		 (unsigned long long)(steady.entry.nmissed + steady_back.back.nmissed));
	write_file("end", text);
}
