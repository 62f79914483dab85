#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
/* cmocka wants those above */
#include <cmocka.h>

struct outer {
	int first;
	char member;
};

static int n_freed;

static void outer_free(struct outer *outer)
{
	n_freed++;
	free(outer);
}

DEFINE_FREEP(struct outer, outer_free);

static void test_cleanup(void **state)
{
	int fd;
	{
		_cleanup_free_ char *text = mem_strdup("x");
		_cleanup_(outer_freep) struct outer *outer = mem_new(struct outer);
		_cleanup_(outer_freep) struct outer *none = NULL;
		_cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		fd = null;
		assert_true(fd >= 0);
		assert_string_equal(text, "x");
		assert_non_null(outer);
		assert_null(none);
	}
	assert_int_equal(n_freed, 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_close_all(void **state)
{
	int fds[3];
	for (int i = 0; i < 3; i++)
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	mem_close_all(fds, 0);
	mem_close_all(fds, 2);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1);
	assert_int_not_equal(fcntl(fds[2], F_GETFD), -1);
	close(fds[2]);
}

static void test_take(void **state)
{
	int fd = 7;
	char text[] = "x", *p = text;
	assert_ptr_equal(TAKE_PTR(p), text);
	assert_null(p);
	assert_int_equal(TAKE_FD(fd), 7);
	assert_int_equal(fd, -1);
}

static void test_container_of(void **state)
{
	struct outer outer;
	assert_ptr_equal(container_of(&outer.member, struct outer, member), &outer);
}

static void test_allocate(void **state)
{
	unsigned char *bytes = mem_calloc(0, 0);
	assert_non_null(bytes);
	bytes = mem_realloc(bytes, 100, 2);
	bytes[199] = 1;
	bytes = mem_realloc(bytes, 0, 2);
	assert_non_null(bytes);
	free(bytes);
	bytes = mem_calloc(10, 10);
	for (int i = 0; i < 100; i++)
		assert_int_equal(bytes[i], 0);
	free(bytes);
	_cleanup_free_ char *part = mem_strndup("abcdef", 3), *made = mem_printf("%d-%s", 1, "x");
	assert_string_equal(part, "abc");
	assert_string_equal(made, "1-x");
}

/* A product that overflows ends the process; it must not allocate a little. */
static void test_overflow(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		free(mem_realloc(NULL, SIZE_MAX / 2, 3));
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cleanup),  cmocka_unit_test(test_close_all),
		cmocka_unit_test(test_take),     cmocka_unit_test(test_container_of),
		cmocka_unit_test(test_allocate), cmocka_unit_test(test_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
