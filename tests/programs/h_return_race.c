/* Return probes come and go as fast as they can, while threads are inside the functions all the time:
 * h_return_race TURNS. Checked: each value; a handler never runs outside its registration; one handler
 * for each followed call, with the data of that call. */
#include "handlers.h"
#include <pthread.h>
#include <stdatomic.h>
#include <ucontext.h>

#define CALLERS 3
#define CHANGERS 2

static atomic_int stop;
/* Handlers outside their time or with another call's data; errors; wrong counts; wrong values. */
static atomic_long early, mixed, errors, miscounted, missed, wrong;
static long turns = 300;

FUNCTION long one(long a) { KEEP(); return a + 1; }
FUNCTION long two(long a) { long b = one(a); KEEP(); return b * 2; }
FUNCTION long deep(long a) { long b = a == 0 ? 0 : deep(a - 1); KEEP(); return a + b; }
FUNCTION long tail(long a) { KEEP(); return one(a + 1); }

struct registration {
	struct uretprobe probe;
	atomic_int live;
	atomic_long entered, returned;
};
struct of_a_call { uint64_t argument, check; };

static int enter(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	struct registration *mine = ri->rp->up.data;
	struct of_a_call *data = uprobe_instance_data(ri);
	if (!atomic_load(&mine->live))
		atomic_fetch_add(&early, 1);
	if (data->argument || data->check)
		atomic_fetch_add(&mixed, 1);
	data->argument = regs->rdi;
	data->check = ~regs->rdi ^ ri->slot;
	atomic_fetch_add(&mine->entered, 1);
	return 0;
}
static int leave(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	struct registration *mine = ri->rp->up.data;
	const struct of_a_call *data = uprobe_instance_data(ri);
	if (!atomic_load(&mine->live))
		atomic_fetch_add(&early, 1);
	if (data->check != (~data->argument ^ ri->slot) || regs->rip != ri->ret_addr)
		atomic_fetch_add(&mixed, 1);
	atomic_fetch_add(&mine->returned, 1);
	return 0;
}

static void calls(long n)
{
	if (one(n) != n + 1 || two(n) != n * 2 + 2 || deep(20) != 210 || tail(n) != n + 2)
		atomic_fetch_add(&wrong, 1);
}
struct aside { ucontext_t here, there; char stack[65536]; };
static __thread struct aside *current;
static void begin(void)
{
	struct aside *mine = current;
	for (long n = 0;; n++) {
		calls(n);
		MUST(swapcontext(&mine->there, &mine->here));
	}
}
static void *caller(void *arg)
{
	struct aside *aside = malloc(sizeof *aside);
	MUST(getcontext(&aside->there));
	aside->there.uc_stack.ss_sp = aside->stack;
	aside->there.uc_stack.ss_size = sizeof aside->stack;
	makecontext(&aside->there, begin, 0);
	current = aside;
	for (long n = 0; !atomic_load(&stop); n++) {
		calls(n);
		MUST(swapcontext(&aside->here, &aside->there));
	}
	return arg;
}

static void *changer(void *arg)
{
	static const char *const names[] = { "one", "two", "deep", "tail" };
	struct registration *r = calloc(1, sizeof *r);
	for (long turn = 0; turn < turns; turn++) {
		memset(r, 0, sizeof *r);
		r->probe.up.symbol_name = names[(turn + (long)arg) % 4];
		r->probe.up.data = r;
		r->probe.handler = leave;
		r->probe.entry_handler = turn % 3 == 2 ? NULL : enter;
		if (turn % 3 == 2)
			r->probe.handler = NULL;
		r->probe.data_size = sizeof(struct of_a_call);
		r->probe.maxactive = turn % 5 == 0 ? 3 : 0;
		atomic_store(&r->live, 1);
		int error = register_uretprobe(&r->probe);
		if (error == 0)
			calls(turn);
		if (turn % 3 == 2) {
			/* Without a handler there is nothing to register. */
			if (error != -EINVAL)
				atomic_fetch_add(&errors, 1);
			continue;
		}
		if (error != 0)
			atomic_fetch_add(&errors, 1);
		if (turn % 4 == 0 && (disable_uprobe(&r->probe.up) != 0 || enable_uprobe(&r->probe.up) != 0))
			atomic_fetch_add(&errors, 1);
		calls(turn);
		if (unregister_uretprobe(&r->probe) != 0)
			atomic_fetch_add(&errors, 1);
		atomic_store(&r->live, 0);
		long entered = atomic_load(&r->entered), returned = atomic_load(&r->returned);
		/* A call whose entry was seen while the probe was being unregistered isn't followed. */
		long followed = (long)r->probe.up.nhit;
		if (followed < 2 || followed > entered || returned > followed)
			atomic_fetch_add(&miscounted, 1);
		if (r->probe.maxactive == 0 && r->probe.nmissed != 0)
			atomic_fetch_add(&missed, 1);
	}
	return r;
}

int main(int argc, char **argv)
{
	pthread_t callers[CALLERS], changers[CHANGERS];
	turns = argc > 1 ? atol(argv[1]) : turns;
	NEED_LIBRARY();
	for (long i = 0; i < CALLERS; i++)
		MUST(pthread_create(&callers[i], NULL, caller, (void *)i));
	for (long i = 0; i < CHANGERS; i++)
		MUST(pthread_create(&changers[i], NULL, changer, (void *)i));
	for (long i = 0; i < CHANGERS; i++)
		MUST(pthread_join(changers[i], NULL));
	atomic_store(&stop, 1);
	for (long i = 0; i < CALLERS; i++)
		MUST(pthread_join(callers[i], NULL));
	calls(7);
	printf("handlers early %ld, mixed %ld; errors %ld, miscounted %ld, missed %ld, wrong values %ld\n", early, mixed, errors,
	       miscounted, missed, wrong);
	return 0;
}
