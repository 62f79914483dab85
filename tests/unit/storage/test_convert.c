#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "help.h"
#include "storage/convert.h"

static char dir[64];
static uv_loop_t loop;

/* struct tool - a shell command in qemu-img's place */
struct tool {
	const char *command; /* NULL: cannot be started */
	struct convert *convert;
	pid_t pid;
	int pidfd;
	int done, progress, kills;
	bool cancel_at_once, cancel_on_progress;
	struct err err;
	uv_timer_t later;
};

static void closed(uv_handle_t *handle)
{
}

static void answer_spawn(uv_timer_t *timer)
{
	struct tool *tool = timer->data;
	struct err err = {0};

	uv_close((uv_handle_t *)timer, closed);
	if (tool->pid == 0) {
		err_set(&err, ERR_UNAVAILABLE, "there is no tool");
		convert_spawned(tool->convert, -1, &err);
		return;
	}
	convert_spawned(tool->convert, tool->pidfd, NULL);
}

static void spawn(void *data, const int fds[CONVERT_FDS])
{
	struct tool *tool = data;

	if (tool->command) {
		tool->pid = fork();
		if (tool->pid == 0) {
			dup2(fds[CONVERT_FD_STDOUT], 1);
			dup2(fds[CONVERT_FD_STDERR], 2);
			execl("/bin/sh", "sh", "-c", tool->command, NULL);
			_exit(127);
		}
		tool->pidfd = (int)syscall(SYS_pidfd_open, tool->pid, 0);
	}
	uv_timer_init(&loop, &tool->later);
	tool->later.data = tool;
	uv_timer_start(&tool->later, answer_spawn, 1, 0);
	if (tool->cancel_at_once)
		convert_cancel(tool->convert);
}

static void kill_tool(void *data)
{
	struct tool *tool = data;
	struct err err = {0};

	tool->kills++;
	assert_int_equal(proc_signal(tool->pidfd, SIGKILL, &err), 0);
}

static void reap(void *data)
{
	struct tool *tool = data;
	int status = -1;

	assert_int_equal(waitpid(tool->pid, &status, 0), tool->pid);
	close(tool->pidfd);
	convert_reaped(tool->convert, status);
}

static void on_progress(void *data, int percent_100)
{
	struct tool *tool = data;

	assert_true(percent_100 > tool->progress);
	tool->progress = percent_100;
	if (tool->cancel_on_progress)
		convert_cancel(tool->convert);
}

static void on_done(void *data, const struct err *err)
{
	struct tool *tool = data;

	tool->done++;
	if (err)
		tool->err = *err;
}

static const struct convert_ops ops = {spawn, kill_tool, reap, on_progress, on_done};

static void run(struct tool *tool, struct convert_limits limits)
{
	struct err err = {0};
	_cleanup_close_ int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(convert_start(&loop, fd, &ops, limits, tool, &tool->convert, &err), 0);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(tool->done, 1);
}

static const struct convert_limits usual = {0};

/* somebody else may have filled the disk: it is the room that counts */
static void test_room(void **state)
{
	struct tool tool = {.command = "exec sleep 10"};

	run(&tool, (struct convert_limits){.reserve = UINT64_C(1) << 60});
	assert_int_equal(tool.err.code, ERR_LIMIT);
	assert_non_null(strstr(tool.err.msg, "full"));
	assert_int_equal(tool.kills, 1);
	tool = (struct tool){.command = "exit 0"};
	run(&tool, (struct convert_limits){.reserve = 1});
	assert_int_equal(tool.err.code, 0);
}

static void test_parse(void **state)
{
	assert_int_equal(convert_parse_progress("    (0.00/100%)\r"), 0);
	assert_int_equal(convert_parse_progress("(1.00/100%)\r    (12.34/100%)\r"), 1234);
	assert_int_equal(convert_parse_progress("(100.00/100%)\r\n"), 10000);
	assert_int_equal(convert_parse_progress("(12.34/10"), -1);
	assert_int_equal(convert_parse_progress("(12.34/100%)(13."), 1234);
	assert_int_equal(convert_parse_progress("(999.99/100%)"), -1);
	assert_int_equal(convert_parse_progress("(99999999999.99/100%)"), -1);
	assert_int_equal(convert_parse_progress("(-1.00/100%)"), -1);
	assert_int_equal(convert_parse_progress("((((()"), -1);
	assert_int_equal(convert_parse_progress(""), -1);
}

static void test_success(void **state)
{
	struct tool tool = {.command = "printf '(0.00/100%%)\\r(50.00/100%%)\\r'; sleep 0.1; "
				       "printf '(100.00/100%%)\\r'"};

	run(&tool, usual);
	assert_int_equal(tool.err.code, 0);
	assert_int_equal(tool.progress, 10000);
	assert_int_equal(tool.kills, 0);
}

static void test_failure_has_last_words(void **state)
{
	struct tool tool = {.command =
				    "echo first >&2; echo 'qemu-img: went \x01 wrong' >&2; exit 1"};

	run(&tool, usual);
	assert_int_equal(tool.err.code, ERR_IO);
	assert_string_equal(tool.err.msg, "the image could not be converted: went ? wrong");
}

static void test_failures(void **state)
{
	struct tool silent = {.command = "exit 3"};
	struct tool signalled = {.command = "kill -SEGV $$"};
	struct tool full = {.command = "echo 'qemu-img: x: No space left on device' >&2; exit 1"};
	struct tool missing = {.command = NULL};

	run(&silent, usual);
	assert_non_null(strstr(silent.err.msg, "without a word"));
	run(&signalled, usual);
	assert_non_null(strstr(signalled.err.msg, "signal 11"));
	run(&full, usual);
	assert_int_equal(full.err.code, ERR_LIMIT);
	run(&missing, usual);
	assert_int_equal(missing.err.code, ERR_UNAVAILABLE);
}

static void test_flood(void **state)
{
	struct tool tool = {.command = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; "
				       "printf '(7.00/100%%)'; echo end >&2; exit 1"};

	run(&tool, usual);
	assert_int_equal(tool.progress, 700);
	assert_non_null(strstr(tool.err.msg, "end"));
}

static void test_stands_still(void **state)
{
	struct tool still = {.command = "exec sleep 100"};
	struct tool busy = {.command = "i=10; while :; do printf \"($i.00/100%%)\"; i=$((i+1)); "
				       "sleep 0.05; done"};

	run(&still, (struct convert_limits){.still_ms = 100});
	assert_int_equal(still.err.code, ERR_TIMEOUT);
	assert_non_null(strstr(still.err.msg, "stood still"));
	assert_int_equal(still.kills, 1);
	run(&busy, (struct convert_limits){.still_ms = 2500, .deadline_ms = 3000});
	assert_int_equal(busy.err.code, ERR_TIMEOUT);
	assert_non_null(strstr(busy.err.msg, "deadline"));
}

static void test_cancel(void **state)
{
	struct tool early = {.command = "exec sleep 100", .cancel_at_once = true};
	struct tool running = {.command = "printf '(1.00/100%%)'; exec sleep 100",
			       .cancel_on_progress = true};
	struct tool missing = {.command = NULL, .cancel_at_once = true};

	run(&early, usual);
	assert_int_equal(early.err.code, ERR_CANCELLED);
	run(&running, usual);
	assert_int_equal(running.err.code, ERR_CANCELLED);
	assert_int_equal(running.kills, 1);
	run(&missing, usual);
	assert_int_equal(missing.err.code, ERR_CANCELLED);
}

static void test_cancel_before_it_began(void **state)
{
	struct tool tool = {.command = "exit 1"};
	struct err err = {0};
	_cleanup_close_ int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(convert_start(&loop, fd, &ops, usual, &tool, &tool.convert, &err), 0);
	convert_cancel(tool.convert);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(tool.done, 1);
	assert_int_equal(tool.pid, 0);
	assert_int_equal(tool.err.code, ERR_CANCELLED);
}

static int setup(void **state)
{
	help_dir(dir, sizeof(dir));
	return uv_loop_init(&loop);
}

static int teardown(void **state)
{
	help_remove_dir(dir);
	return uv_loop_close(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_success),
		cmocka_unit_test(test_failure_has_last_words),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_stands_still),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_before_it_began),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
