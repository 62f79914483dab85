#include "base/proc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
/* cmocka wants those above */
#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"

#define WATCHDOG_MS 60000

/* A child that waits to be killed, under a name that a careless parser stumbles on. */
static pid_t spawn(void)
{
	int ready[2];
	char byte;
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, ") Z 1 (x");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[1]);
		close(ready[0]);
		for (;;)
			pause();
	}
	close(ready[1]);
	/* its end closes once the name is set */
	assert_int_equal(read(ready[0], &byte, 1), 0);
	close(ready[0]);
	return pid;
}

/* Killed, but not reaped. */
static void make_zombie(pid_t pid)
{
	siginfo_t info;
	kill(pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_life(void **state)
{
	struct err err = {0};
	uint64_t start = 0, again = 0;
	int fd = -1;
	pid_t pid = spawn();
	assert_int_equal(proc_start_time(pid, &start, &err), 0);
	assert_true(start > 0);
	assert_int_equal(proc_open(pid, start, &fd, &err), 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(proc_is_alive(fd));

	make_zombie(pid);
	assert_false(proc_is_alive(fd));
	again = 42;
	assert_int_equal(proc_start_time(pid, &again, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(again, 42);
	int second = 42;
	assert_int_equal(proc_open(pid, start, &second, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(second, 42);
	assert_int_equal(proc_signal(fd, SIGTERM, &err), 0);

	reap(pid);
	assert_false(proc_is_alive(fd));
	assert_int_equal(proc_signal(fd, SIGTERM, &err), 0);
	assert_int_equal(proc_open(pid, start, &second, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	close(fd);
}

/* The pid was given to another process since: the start time tells. */
static void test_reused_pid(void **state)
{
	struct err err = {0};
	uint64_t start = 0;
	int fd = -1;
	pid_t pid = spawn();
	assert_int_equal(proc_start_time(pid, &start, &err), 0);
	assert_int_equal(proc_open(pid, start + 1, &fd, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(proc_open(pid, start - 1, &fd, &err), -1);
	assert_int_equal(fd, -1);
	reap(pid);
}

static void test_no_pid(void **state)
{
	static const pid_t none[] = {0, -1, INT32_MAX};
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		struct err err = {0};
		uint64_t start;
		struct proc_stat stat;
		int fd;
		assert_int_equal(proc_start_time(none[i], &start, &err), -1);
		assert_int_equal(err.code, ERR_NOT_FOUND);
		assert_int_equal(proc_open(none[i], 1, &fd, &err), -1);
		assert_int_equal(err.code, ERR_NOT_FOUND);
		assert_int_equal(proc_stat_read(none[i], &stat, &err), -1);
		assert_int_equal(err.code, ERR_NOT_FOUND);
	}
}

static void test_signal(void **state)
{
	struct err err = {0};
	uint64_t start;
	int fd, status;
	pid_t pid = spawn();
	assert_int_equal(proc_start_time(pid, &start, &err), 0);
	assert_int_equal(proc_open(pid, start, &fd, &err), 0);
	assert_int_equal(proc_signal(fd, SIGTERM, &err), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGTERM);
	assert_int_equal(proc_signal(-1, SIGTERM, &err), -1);
	close(fd);
}

static void on_alarm(int sig)
{
}

/* A signal of our own that is about to be handled makes nobody else look dead. */
static void test_alive_under_signals(void **state)
{
	struct err err = {0};
	uint64_t start;
	int fd;
	pid_t pid = spawn();
	struct sigaction action = {.sa_handler = on_alarm};
	sigaction(SIGALRM, &action, NULL);
	assert_int_equal(proc_start_time(pid, &start, &err), 0);
	assert_int_equal(proc_open(pid, start, &fd, &err), 0);
	for (int i = 0; i < 2000; i++) {
		ualarm(20, 0);
		for (int n = 0; n < 20; n++)
			assert_true(proc_is_alive(fd));
	}
	ualarm(0, 0);
	close(fd);
	reap(pid);
}

static void on_ended(void *data)
{
	++*(int *)data;
}

static void on_watchdog(uv_timer_t *timer)
{
	fail_msg("the end of a process was not told");
}

static void run_until(uv_loop_t *loop, const int *counter)
{
	uv_timer_t watchdog;
	uv_timer_init(loop, &watchdog);
	uv_timer_start(&watchdog, on_watchdog, WATCHDOG_MS, 0);
	while (*counter == 0)
		uv_run(loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&watchdog, NULL);
	uv_run(loop, UV_RUN_NOWAIT);
}

static void test_watch(void **state)
{
	struct err err = {0};
	uv_loop_t loop;
	struct proc_watch *early, *late, *never;
	int n_early = 0, n_late = 0, n_never = 0, fd;
	uint64_t start;
	pid_t pid = spawn();
	uv_loop_init(&loop);
	assert_int_equal(proc_start_time(pid, &start, &err), 0);
	assert_int_equal(proc_open(pid, start, &fd, &err), 0);
	assert_int_equal(proc_watch(&loop, fd, on_ended, &n_early, &early, &err), 0);
	assert_int_equal(proc_watch(&loop, fd, on_ended, &n_never, &never, &err), 0);
	uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(n_early, 0);
	proc_unwatch(never);

	make_zombie(pid);
	run_until(&loop, &n_early);
	assert_int_equal(proc_watch(&loop, fd, on_ended, &n_late, &late, &err), 0);
	assert_int_equal(n_late, 0);
	close(fd);
	run_until(&loop, &n_late);
	reap(pid);
	for (int i = 0; i < 5; i++)
		uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(n_early, 1);
	assert_int_equal(n_late, 1);
	assert_int_equal(n_never, 0);

	proc_unwatch(early);
	proc_unwatch(late);
	proc_unwatch(NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_int_equal(proc_watch(&loop, -1, on_ended, NULL, &late, &err), -1);
}

static void test_stat(void **state)
{
	struct err err = {0};
	struct proc_stat stat = {0};
	assert_int_equal(proc_stat_read(getpid(), &stat, &err), 0);
	assert_true(stat.rss_bytes > 100 << 10);
	assert_true(stat.rss_bytes < 64ull << 30);
	uint64_t before = stat.cpu_ms;
	for (volatile uint64_t spin = 0; stat.cpu_ms < before + 20; spin++)
		if (spin % 1000000 == 0)
			assert_int_equal(proc_stat_read(getpid(), &stat, &err), 0);
	pid_t pid = spawn();
	make_zombie(pid);
	assert_int_equal(proc_stat_read(pid, &stat, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	reap(pid);
}

static void test_boot_id(void **state)
{
	char one[STR_UUID_LEN + 1], two[STR_UUID_LEN + 1];
	assert_int_equal(proc_boot_id(one, NULL), 0);
	assert_int_equal(proc_boot_id(two, NULL), 0);
	assert_true(str_is_uuid(one));
	assert_string_equal(one, two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_reused_pid),
		cmocka_unit_test(test_no_pid),
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_alive_under_signals),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_boot_id),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
