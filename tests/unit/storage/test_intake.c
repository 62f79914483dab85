#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "help.h"
#include "storage/intake.h"

static char dir[64];
static uv_loop_t loop;

struct outcome {
	int done, progress;
	uint64_t total;
	struct intake_result result;
	struct err err;
	struct intake *intake;
	bool cancel;
};

static void on_progress(void *data, uint64_t read, uint64_t total)
{
	struct outcome *outcome = data;

	outcome->progress++;
	outcome->total = total;
	if (outcome->cancel)
		intake_cancel(outcome->intake);
}

static void on_done(void *data, const struct intake_result *result, const struct err *err)
{
	struct outcome *outcome = data;

	outcome->done++;
	assert_true(!result == !!err);
	if (result)
		outcome->result = *result;
	else
		outcome->err = *err;
}

static const struct intake_ops ops = {on_progress, on_done};

static void run(struct outcome *outcome, int from, const char *to, struct intake_limits limits)
{
	_cleanup_close_ int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(from >= 0 && out >= 0);
	outcome->intake = intake_start(&loop, from, out, limits, &ops, outcome);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(outcome->done, 1);
}

static struct outcome take(const char *path, struct intake_limits limits)
{
	struct outcome outcome = {0};
	_cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC);

	run(&outcome, from, "out", limits);
	return outcome;
}

static struct outcome take_pipe(const char *command, struct intake_limits limits)
{
	struct outcome outcome = {0};
	FILE *f = popen(command, "re");

	assert_non_null(f);
	run(&outcome, fileno(f), "out", limits);
	/* the pipe is given back as it came */
	assert_false(fcntl(fileno(f), F_GETFL) & O_NONBLOCK);
	pclose(f);
	return outcome;
}

static const struct intake_limits usual = {0};

static void check_sum(const struct outcome *outcome, const char *path)
{
	assert_int_equal(outcome->err.code, 0);
	assert_int_equal(
		help_run("echo '%s  %s' | sha256sum -c --status", outcome->result.sha256, path), 0);
}

static void test_every_kind(void **state)
{
	static const char *const commands[] = {"cat", "gzip -1", "xz -0", "zstd -q"};
	char command[128];

	assert_int_equal(help_run("truncate -s 40M data && head -c 3000000 /dev/urandom | "
				  "dd of=data bs=1M seek=3 conv=notrunc status=none; "
				  "printf end >> data"),
			 0);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		struct stat st;
		assert_int_equal(help_run("%s < data > packed", commands[i]), 0);
		struct outcome outcome = take("packed", usual);
		check_sum(&outcome, "packed");
		assert_true(help_same("data", "out"));
		assert_true(outcome.progress > 0);
		assert_int_equal(stat("packed", &st), 0);
		assert_int_equal(outcome.total, st.st_size);
		assert_int_equal(outcome.result.read, st.st_size);
		assert_int_equal(outcome.result.written, (40 << 20) + 3);
		assert_int_equal(stat("out", &st), 0);
		assert_true(st.st_blocks * 512 < 10 << 20);
		snprintf(command, sizeof(command), "%s < data", commands[i]);
		outcome = take_pipe(command, usual);
		check_sum(&outcome, "packed");
		assert_true(help_same("data", "out"));
		assert_int_equal(outcome.total, 0);
	}
}

static void test_slow_pipe(void **state)
{
	struct outcome outcome =
		take_pipe("for i in 1 2 3 4 5 6 7; do printf $i; sleep 0.02; done", usual);

	assert_int_equal(outcome.err.code, 0);
	assert_int_equal(help_run("test \"$(cat out)\" = 1234567"), 0);
	outcome = take_pipe("printf data | gzip | dd bs=1 status=none", usual);
	assert_int_equal(help_run("test \"$(cat out)\" = data"), 0);
	outcome = take_pipe("true", usual);
	assert_int_equal(outcome.err.code, 0);
	assert_int_equal(outcome.result.read, 0);
}

static void test_silent_pipe(void **state)
{
	struct outcome outcome = take_pipe("printf some; exec sleep 1 >/dev/null",
					   (struct intake_limits){.stall_ms = 5000});
	assert_int_equal(outcome.err.code, 0);
	outcome = take_pipe("printf some; sleep 3", (struct intake_limits){.stall_ms = 50});
	assert_int_equal(outcome.err.code, ERR_TIMEOUT);
	assert_non_null(strstr(outcome.err.msg, "pipe"));
}

static void test_pipe_cut(void **state)
{
	struct outcome outcome =
		take_pipe("head -c 100000 /dev/urandom | zstd -q | head -c 5000", usual);

	assert_int_equal(outcome.err.code, ERR_CORRUPT);
	assert_non_null(strstr(outcome.err.msg, "truncated"));
}

static void test_cancel(void **state)
{
	struct outcome outcome = {.cancel = true};
	_cleanup_close_ int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	run(&outcome, zero, "out", usual);
	assert_int_equal(outcome.err.code, ERR_CANCELLED);
	assert_int_equal(outcome.progress, 1);
}

static void on_timer(uv_timer_t *timer)
{
	struct outcome *outcome = timer->data;

	intake_cancel(outcome->intake);
	intake_cancel(outcome->intake);
	uv_close((uv_handle_t *)timer, NULL);
}

static void test_cancel_while_waiting(void **state)
{
	struct outcome outcome = {0};
	uv_timer_t timer = {.data = &outcome};
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	uv_timer_init(&loop, &timer);
	uv_timer_start(&timer, on_timer, 30, 0);
	run(&outcome, ends[0], "out", usual);
	assert_int_equal(outcome.err.code, ERR_CANCELLED);
	close(ends[0]);
	close(ends[1]);
}

/* it may be small and say that it is small: what comes out is what counts */
static void test_bombs(void **state)
{
	assert_int_equal(help_run("yes bomb | head -c 16M | gzip -1 > packed"), 0);
	struct outcome outcome = take("packed", (struct intake_limits){.size_max = 1 << 20});
	assert_int_equal(outcome.err.code, ERR_LIMIT);
	outcome = take("packed", (struct intake_limits){.reserve = UINT64_C(1) << 60});
	assert_int_equal(outcome.err.code, ERR_LIMIT);
	assert_non_null(strstr(outcome.err.msg, "make room"));
	outcome = take_pipe("yes | head -c 3M", (struct intake_limits){.size_max = 1 << 20});
	assert_int_equal(outcome.err.code, ERR_LIMIT);
	/* zeros take no room, but are no more than a disk may have either */
	assert_int_equal(help_run("head -c 64M /dev/zero | zstd -q -9 > packed"), 0);
	outcome = take("packed", (struct intake_limits){.size_max = 1 << 20});
	assert_int_equal(outcome.err.code, ERR_LIMIT);
	outcome = take("packed", (struct intake_limits){.size_max = 64 << 20});
	assert_int_equal(outcome.err.code, 0);
}

static void test_full_disk(void **state)
{
	struct outcome outcome = {0};

	mkdir("small", 0700);
	if (mount("none", "small", "tmpfs", 0, "size=4m") < 0) {
		print_message("cannot mount a file system to fill\n");
		skip();
	}
	assert_int_equal(help_run("yes bomb | head -c 16M | gzip -1 > packed"), 0);
	_cleanup_close_ int from = open("packed", O_RDONLY | O_CLOEXEC);
	run(&outcome, from, "small/out", usual);
	assert_int_equal(umount("small"), 0);
	assert_int_equal(outcome.err.code, ERR_LIMIT);
}

static void test_bad_files(void **state)
{
	struct outcome outcome = {0};
	_cleanup_close_ int folder = open(".", O_RDONLY | O_CLOEXEC);

	run(&outcome, folder, "out", usual);
	assert_int_equal(outcome.err.code, ERR_IO);
	/* a target that cannot be written */
	memset(&outcome, 0, sizeof(outcome));
	help_write("packed", "some", 4);
	_cleanup_close_ int from = open("packed", O_RDONLY | O_CLOEXEC);
	outcome.intake = intake_start(&loop, from, from, usual, &ops, &outcome);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_not_equal(outcome.err.code, 0);
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
		cmocka_unit_test(test_every_kind),  cmocka_unit_test(test_slow_pipe),
		cmocka_unit_test(test_silent_pipe), cmocka_unit_test(test_pipe_cut),
		cmocka_unit_test(test_cancel),      cmocka_unit_test(test_cancel_while_waiting),
		cmocka_unit_test(test_bombs),       cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_bad_files),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
