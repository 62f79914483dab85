#include "base/listener.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
/* cmocka wants those above */
#include <cmocka.h>

#include "base/mem.h"

#define WATCHDOG_MS 60000

struct fixture {
	uv_loop_t loop;
	uv_timer_t watchdog;
	struct listener *listener;
	struct sockaddr_un addr;
	socklen_t addr_len;
	int accepted[8];
	size_t n;
	size_t wanted; /* the loop stops once so many came */
};

static void on_accepted(void *data, int client)
{
	struct fixture *f = data;
	assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
	f->accepted[f->n++] = client;
	if (f->n == f->wanted)
		uv_stop(&f->loop);
}

static void on_watchdog(uv_timer_t *timer)
{
	fail_msg("waited in vain");
}

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	struct err err;
	/* the abstract namespace: the kernel picks a name */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	f->addr.sun_family = AF_UNIX;
	f->addr_len = sizeof(f->addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&f->addr, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&f->addr, &f->addr_len), 0);
	uv_loop_init(&f->loop);
	uv_timer_init(&f->loop, &f->watchdog);
	uv_timer_start(&f->watchdog, on_watchdog, WATCHDOG_MS, 0);
	assert_int_equal(listener_open(&f->loop, fd, on_accepted, f, &f->listener, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	listener_close(f->listener);
	uv_close((uv_handle_t *)&f->watchdog, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	for (size_t i = 0; i < f->n; i++)
		close(f->accepted[i]);
	free(f);
	return 0;
}

static int knock(struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&f->addr, f->addr_len), 0);
	return fd;
}

static void test_hands_out_what_connects(void **state)
{
	struct fixture *f = *state;
	int one = knock(f), two = knock(f);
	f->wanted = 2;
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->n, 2);
	close(one);
	close(two);
}

/* Out of descriptors, it rests instead of spinning, and takes the one who waits once there is room.
 */
static void test_rests_without_descriptors(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;
	int client = knock(f);
	int lowest_free = dup(0);
	close(lowest_free);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)lowest_free;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int turns = 0; turns < 3; turns++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_int_equal(f->n, 0);
	assert_int_not_equal(uv_backend_timeout(&f->loop), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	f->wanted = 1;
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->n, 1);
	close(client);
}

static void test_closed_hands_out_nothing(void **state)
{
	struct fixture *f = *state;
	int client = knock(f);
	listener_close(f->listener);
	f->listener = NULL;
	for (int turns = 0; turns < 3; turns++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_int_equal(f->n, 0);
	close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hands_out_what_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rests_without_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_hands_out_nothing, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
