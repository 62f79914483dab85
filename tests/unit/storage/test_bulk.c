#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "help.h"
#include "storage/bulk.h"

static char dir[64];
static uv_loop_t loop;

struct outcome {
	int done, progress;
	char sha256[BULK_SHA256_LEN + 1];
	struct err err;
	struct bulk *cancel;
};

static void on_progress(void *data, uint64_t done, uint64_t total)
{
	struct outcome *outcome = data;

	assert_true(done <= total);
	outcome->progress++;
	if (outcome->cancel)
		bulk_cancel(outcome->cancel);
}

static void on_done(void *data, const char *sha256, const struct err *err)
{
	struct outcome *outcome = data;

	outcome->done++;
	if (sha256)
		strcpy(outcome->sha256, sha256);
	if (err)
		outcome->err = *err;
}

static const struct bulk_ops ops = {on_progress, on_done};

static void run(void)
{
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static struct outcome copy(const char *from, const char *to)
{
	struct outcome outcome = {0};
	_cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	bulk_copy(&loop, in, out, &ops, &outcome);
	run();
	assert_int_equal(outcome.done, 1);
	return outcome;
}

static void test_copies_sparsely(void **state)
{
	struct stat st;

	assert_int_equal(help_run("truncate -s 3G big && printf abc | dd of=big bs=1 seek=1G "
				  "conv=notrunc status=none && printf end | dd of=big bs=1 "
				  "seek=3221225469 conv=notrunc status=none"),
			 0);
	struct outcome outcome = copy("big", "copy");
	assert_int_equal(outcome.err.code, 0);
	assert_int_equal(stat("copy", &st), 0);
	assert_int_equal(st.st_size, INT64_C(3) << 30);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(help_run("tail -c 3 copy | grep -q end && "
				  "dd if=copy bs=1 skip=1G count=3 status=none | grep -q abc"),
			 0);
}

static void test_copies_every_length(void **state)
{
	static const int lengths[] = {0, 1, 511, 4096, 262143, 262145, 40 << 20};

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		assert_int_equal(help_run("head -c %d /dev/urandom > in", lengths[i]), 0);
		assert_int_equal(copy("in", "out").err.code, 0);
		assert_true(help_same("in", "out"));
	}
}

static void test_copies_between_file_systems(void **state)
{
	assert_int_equal(help_run("mkdir -p /dev/shm && head -c 5000000 /dev/urandom > "
				  "/dev/shm/test-bulk.%d",
				  (int)getpid()),
			 0);
	char from[64];
	snprintf(from, sizeof(from), "/dev/shm/test-bulk.%d", (int)getpid());
	assert_int_equal(copy(from, "out").err.code, 0);
	assert_true(help_same(from, "out"));
	unlink(from);
}

static void test_copy_fails(void **state)
{
	struct outcome outcome = {0};
	_cleanup_close_ int in = open("in", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int out = open("in", O_RDONLY | O_CLOEXEC);

	bulk_copy(&loop, in, out, &ops, &outcome);
	run();
	assert_int_equal(outcome.done, 1);
	assert_int_not_equal(outcome.err.code, 0);
}

static void test_checksum(void **state)
{
	struct outcome outcome = {0};

	assert_int_equal(help_run("head -c 70000001 /dev/urandom > in"), 0);
	_cleanup_close_ int in = open("in", O_RDONLY | O_CLOEXEC);
	bulk_sha256(&loop, in, &ops, &outcome);
	run();
	assert_int_equal(outcome.err.code, 0);
	assert_true(outcome.progress >= 2);
	assert_int_equal(strlen(outcome.sha256), BULK_SHA256_LEN);
	assert_int_equal(help_run("echo '%s  in' | sha256sum -c --status", outcome.sha256), 0);
}

static void test_cancel(void **state)
{
	struct outcome outcome = {0};
	_cleanup_close_ int in = open("in", O_RDONLY | O_CLOEXEC);

	outcome.cancel = bulk_sha256(&loop, in, &ops, &outcome);
	run();
	assert_int_equal(outcome.done, 1);
	assert_int_equal(outcome.progress, 1);
	assert_int_equal(outcome.err.code, ERR_CANCELLED);
	assert_string_equal(outcome.sha256, "");
}

static void test_sync(void **state)
{
	struct outcome outcome = {0};
	struct stat st;
	_cleanup_close_ int in = open("in", O_RDWR | O_CLOEXEC);

	bulk_sync(&loop, in, 0440, &ops, &outcome);
	run();
	assert_int_equal(outcome.err.code, 0);
	assert_int_equal(fstat(in, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0440);
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
		cmocka_unit_test(test_copies_sparsely),
		cmocka_unit_test(test_copies_every_length),
		cmocka_unit_test(test_copies_between_file_systems),
		cmocka_unit_test(test_copy_fails),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_sync),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
