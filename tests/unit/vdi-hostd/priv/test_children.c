#include "vdi-hostd/priv/children.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static pid_t start(int status)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (status < 0)
			pause();
		_exit(status);
	}
	return pid;
}

static void await_zombie(pid_t pid)
{
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void test_reap(void **state)
{
	struct children children = {0};
	struct err err;
	int status = 0;
	pid_t pid = start(-1);

	children_add(&children, pid, 5);
	assert_int_equal(children_reap(&children, pid, 5, &status, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	/* the same pid at another time is another process */
	assert_int_equal(children_reap(&children, pid, 6, &status, &err), 0);
	assert_int_equal(status, -1);
	kill(pid, SIGTERM);
	await_zombie(pid);
	children_collect(&children);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(children_reap(&children, pid, 5, &status, &err), 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(children_reap(&children, pid, 5, &status, &err), 0);
	assert_int_equal(status, -1);
	children_done(&children);
}

/* one that somebody else waited for is over, with a status that nobody knows */
static void test_stolen(void **state)
{
	struct children children = {0};
	struct err err;
	int status = 0;
	pid_t pid = start(3);

	children_add(&children, pid, 5);
	waitpid(pid, NULL, 0);
	assert_int_equal(children_reap(&children, pid, 5, &status, &err), 0);
	assert_int_equal(status, -1);
	children_done(&children);
}

static void test_bounded(void **state)
{
	struct children children = {0};
	struct err err;
	int status;
	pid_t first = 0, last = 0, running = start(-1);

	children_add(&children, running, 1);
	for (int i = 0; i < CHILDREN_ENDED_MAX + 10; i++) {
		last = start(i % 100);
		first = first ? first : last;
		children_add(&children, last, 1);
		await_zombie(last);
		children_collect(&children);
	}
	assert_int_equal(children.n, CHILDREN_ENDED_MAX + 1);
	assert_int_equal(children_reap(&children, first, 1, &status, &err), 0);
	assert_int_equal(status, -1);
	assert_int_equal(children_reap(&children, last, 1, &status, &err), 0);
	assert_int_equal(WEXITSTATUS(status), (CHILDREN_ENDED_MAX + 9) % 100);
	/* those that run are never forgotten */
	assert_int_equal(children_reap(&children, running, 1, &status, &err), -1);
	kill(running, SIGKILL);
	await_zombie(running);
	assert_int_equal(children_reap(&children, running, 1, &status, &err), 0);
	assert_true(WIFSIGNALED(status));
	children_done(&children);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reap),
		cmocka_unit_test(test_stolen),
		cmocka_unit_test(test_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
