/* What makes libc start threads of its own, with all signals blocked meanwhile: helper_threads WAY. */
#include "check.h"
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netdb.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static sem_t done;
static int value_got;

/* It says nothing itself: it may run before the call that asked for it has returned. */
static void notified(union sigval value)
{
	value_got = value.sival_int;
	sem_post(&done);
}

static void wait_for_it(void)
{
	fflush(stdout);
	sem_wait(&done);
	printf("notified %d\n", value_got);
}

static void aio(void)
{
	char name[] = "/tmp/helper_threads_XXXXXX", text[] = "some text\n", back[sizeof text] = "";
	int fd = mkstemp(name);
	unlink(name);
	struct aiocb write_it = { .aio_fildes = fd, .aio_buf = text, .aio_nbytes = sizeof text };
	struct aiocb read_it = { .aio_fildes = fd, .aio_buf = back, .aio_nbytes = sizeof back };
	const struct aiocb *list[] = { &write_it };
	printf("aio_write %d\n", aio_write(&write_it));
	while (aio_error(&write_it) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
	printf("written %zd\n", aio_return(&write_it));
	/* Some at once: more threads. */
	printf("aio_read %d\n", aio_read(&read_it));
	list[0] = &read_it;
	while (aio_error(&read_it) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
	printf("read %zd %s", aio_return(&read_it), back);
}

static void lookup(void)
{
	struct gaicb one = { .ar_name = "127.0.0.1" }, *list[] = { &one };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notified,
				  .sigev_value.sival_int = 2 };
	printf("getaddrinfo_a %d\n", getaddrinfo_a(GAI_NOWAIT, list, 1, &event));
	wait_for_it();
	printf("found %d\n", gai_error(&one));
}

static void timer(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notified,
				  .sigev_value.sival_int = 3 };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	timer_t id;
	printf("timer_create %d\n", timer_create(CLOCK_MONOTONIC, &event, &id));
	timer_settime(id, 0, &soon, NULL);
	wait_for_it();
	printf("timer_delete %d\n", timer_delete(id));
}

static void queue(void)
{
	char name[64];
	struct mq_attr attr = { .mq_maxmsg = 2, .mq_msgsize = 8 };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notified,
				  .sigev_value.sival_int = 4 };
	snprintf(name, sizeof name, "/helper_threads_%d", getpid());
	mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
	mq_unlink(name);
	if (q == (mqd_t)-1) {
		printf("no queues here\n");
		return;
	}
	printf("mq_notify %d\n", mq_notify(q, &event));
	printf("mq_send %d\n", mq_send(q, "m", 1, 0));
	wait_for_it();
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";
	sem_init(&done, 0, 0);
	if (!strcmp(way, "aio"))
		aio();
	else if (!strcmp(way, "lookup"))
		lookup();
	else if (!strcmp(way, "timer"))
		timer();
	else if (!strcmp(way, "queue"))
		queue();
	printf("end\n");
	return 0;
}
