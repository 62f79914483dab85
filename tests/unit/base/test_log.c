#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants those above */
#include <cmocka.h>

static int saved_stderr, reader;

static int setup(void **state)
{
	int fds[2];
	saved_stderr = dup(STDERR_FILENO);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	reader = fds[0];
	dup2(fds[1], STDERR_FILENO);
	return close(fds[1]);
}

static int teardown(void **state)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	unsetenv("JOURNAL_STREAM");
	return close(reader);
}

/* What was written; the longest line is four times 1024 bytes and a little. */
static const char *written(void)
{
	static char text[8192];
	ssize_t n = read(reader, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_levels(void **state)
{
	log_open("prog", LOG_LEVEL_WARN);
	log_info("not shown");
	log_debug("not shown");
	assert_string_equal(written(), "");
	log_warn("shown %d", 1);
	assert_string_equal(written(), "prog: shown 1\n");
	log_err("too");
	assert_string_equal(written(), "prog: too\n");
}

static void test_journal(void **state)
{
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_open("prog", LOG_LEVEL_DEBUG);
	log_warn("w");
	assert_string_equal(written(), "<4>w\n");
	log_debug("d");
	assert_string_equal(written(), "<7>d\n");
}

static void test_forged_lines(void **state)
{
	log_open("prog", LOG_LEVEL_INFO);
	log_info("a\n<0>b\x1b[0m\x7f\tc%s", "\xc3\xa4");
	assert_string_equal(written(), "prog: a\\x0a<0>b\\x1b[0m\\x7f\\x09c\xc3\xa4\n");
}

static void test_long_lines(void **state)
{
	char text[5000];
	memset(text, '\n', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_open("a-name-of-a-program-that-is-much-too-long", LOG_LEVEL_INFO);
	log_info("%s", text);
	const char *line = written();
	assert_true(strlen(line) < 4 * 1024 + 64);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

#define case_of(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(test_levels),
		case_of(test_journal),
		case_of(test_forged_lines),
		case_of(test_long_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
