#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "help.h"
#include "storage/stream.h"
#include "storage/tar.h"

static char dir[64];
static uv_loop_t loop;

struct outcome {
	int done, progress;
	struct err err;
	struct stream *cancel;
};

static void on_progress(void *data, uint64_t done, uint64_t total)
{
	struct outcome *outcome = data;

	assert_true(done <= total);
	outcome->progress++;
	if (outcome->cancel)
		stream_cancel(outcome->cancel);
}

static void on_done(void *data, const struct err *err)
{
	struct outcome *outcome = data;

	outcome->done++;
	if (err)
		outcome->err = *err;
}

static const struct stream_ops ops = {on_progress, on_done};

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static struct outcome write_out(int to, const struct stream_part *parts, size_t n)
{
	struct outcome outcome = {0};

	stream_start(&loop, to, parts, n, &ops, &outcome);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(outcome.done, 1);
	return outcome;
}

/* @command: reads the pipe on its standard input */
static struct outcome write_to(const char *command, const struct stream_part *parts, size_t n)
{
	FILE *reader = popen(command, "w"); /* NOLINT: the command is the test's own */

	assert_non_null(reader);
	struct outcome outcome = write_out(fileno(reader), parts, n);
	/* what others share was not touched */
	assert_int_equal(fcntl(fileno(reader), F_GETFL) & O_NONBLOCK, 0);
	pclose(reader);
	return outcome;
}

static void test_parts(void **state)
{
	assert_int_equal(help_run("head -c 3000000 /dev/urandom >a; : >b; printf end >c; "
				  "{ tail -c +1001 a; cat c; } >expected"),
			 0);
	int a = open_file("a", O_RDONLY), b = open_file("b", O_RDONLY),
	    c = open_file("c", O_RDONLY);
	int to = open_file("to", O_RDWR | O_CREAT);
	const struct stream_part parts[] = {
		{b, 0, 0}, {a, 1000, 2999000}, {b, 0, 0}, {c, 0, 3}, {b, 0, 0}};

	/* what was there before is gone */
	assert_int_equal(ftruncate(to, 9 << 20), 0);
	assert_int_equal(write_out(to, parts, 5).err.code, 0);
	assert_true(help_same("to", "expected"));
	assert_int_equal(write_to("cat >piped", parts, 5).err.code, 0);
	assert_true(help_same("piped", "expected"));
	assert_int_equal(write_out(to, parts, 1).err.code, 0);
	assert_int_equal(lseek(to, 0, SEEK_END), 0);
	close(a), close(b), close(c), close(to);
}

static void test_holes(void **state)
{
	struct stat st;

	assert_int_equal(help_run("truncate -s 64M a; printf x | dd of=a bs=1 seek=32M "
				  "conv=notrunc status=none"),
			 0);
	int a = open_file("a", O_RDONLY), to = open_file("to", O_RDWR | O_CREAT);
	const struct stream_part part = {a, 0, 64 << 20};

	assert_int_equal(write_out(to, &part, 1).err.code, 0);
	assert_true(help_same("a", "to"));
	assert_int_equal(fstat(to, &st), 0);
	assert_true(st.st_blocks < 2048);
	close(a), close(to);
}

/* a reader that takes its time holds up nobody, and loses nothing */
static void test_slow_reader(void **state)
{
	assert_int_equal(help_run("head -c 2M /dev/urandom >a"), 0);
	int a = open_file("a", O_RDONLY);
	const struct stream_part part = {a, 0, 2 << 20};

	struct outcome outcome = write_to("sleep 0.4; cat >piped", &part, 1);
	assert_int_equal(outcome.err.code, 0);
	assert_true(outcome.progress > 0);
	assert_true(help_same("a", "piped"));
	close(a);
}

static void test_failures(void **state)
{
	assert_int_equal(help_run("head -c 20M /dev/zero >a"), 0);
	int a = open_file("a", O_RDONLY), full = open_file("/dev/full", O_RDWR);
	int to = open_file("to", O_RDWR | O_CREAT), ends[2];
	struct stream_part part = {a, 0, 20 << 20};
	struct outcome outcome = write_to("exec 0<&-; sleep 0.1", &part, 1);

	assert_int_equal(outcome.err.code, ERR_IO);
	assert_non_null(strstr(outcome.err.msg, "gone away"));
	part.len++;
	assert_int_equal(write_out(to, &part, 1).err.code, ERR_CORRUPT);
	assert_int_equal(write_to("cat >piped", &part, 1).err.code, ERR_CORRUPT);
	part.len--;
	assert_int_not_equal(write_out(full, &part, 1).err.code, 0);
	/* nobody reads: it can still be cancelled */
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	outcome = (struct outcome){0};
	outcome.cancel = stream_start(&loop, ends[1], &part, 1, &ops, &outcome);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(outcome.err.code, ERR_CANCELLED);
	close(ends[0]), close(ends[1]), close(a), close(to), close(full);
}

static void make_tar(int to, const char *const *files, size_t n)
{
	struct tar tar;
	int fds[4];

	assert_int_equal(tar_begin(&tar, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		fds[i] = open_file(files[i], O_RDONLY);
		assert_int_equal(tar_add(&tar, "some/folder", files[i], fds[i], 1700000000, NULL),
				 0);
	}
	assert_int_equal(tar_end(&tar, NULL), 0);
	assert_int_equal(tar.size % 512, 0);
	assert_int_equal(write_out(to, tar.parts, tar.n).err.code, 0);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	tar_done(&tar);
}

static void test_tar(void **state)
{
	static const char *const files[] = {"a", "empty", "b", "huge"};

	assert_int_equal(help_run("head -c 1000 /dev/urandom >a; : >empty; cat a a >b; "
				  "truncate -s 9G huge; printf x >>huge"),
			 0);
	int to = open_file("to.tar", O_RDWR | O_CREAT);
	make_tar(to, files, 4);
	close(to);
	assert_int_equal(help_run("tar -tvf to.tar >list && grep -q ' 9663676417 2023-11-14 "
				  ".* some/folder/huge$' list && test $(wc -l <list) = 4"),
			 0);
	assert_int_equal(help_run("mkdir out && tar -C out -xf to.tar some/folder/a "
				  "some/folder/empty some/folder/b && cd out/some/folder && "
				  "cmp a ../../../a && cmp b ../../../b && test ! -s empty"),
			 0);
	/* another reader agrees */
	assert_int_equal(help_run("python3 -c \"import tarfile; t = tarfile.open('to.tar'); "
				  "assert [m.size for m in t] == [1000, 0, 2000, 9663676417]\""),
			 0);
}

static void test_tar_limits(void **state)
{
	char folder[200] = "", name[200] = "";
	struct tar tar;
	struct err err;

	assert_int_equal(help_run(": >a"), 0);
	int a = open_file("a", O_RDONLY);
	assert_int_equal(tar_begin(&tar, &err), 0);
	memset(folder, 'f', 155);
	memset(name, 'n', 100);
	assert_int_equal(tar_add(&tar, folder, name, a, 0, &err), 0);
	name[100] = 'n';
	assert_int_equal(tar_add(&tar, folder, name, a, 0, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	name[100] = '\0';
	folder[155] = 'f';
	assert_int_equal(tar_add(&tar, folder, name, a, 0, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	int n = 1;
	while (tar_add(&tar, "", "n", a, 0, &err) == 0)
		n++;
	assert_int_equal(err.code, ERR_LIMIT);
	assert_true(n >= TAR_FILES_MAX - 1);
	assert_int_equal(tar_end(&tar, &err), 0);
	tar_done(&tar);
	tar_done(&tar);
	close(a);
}

static int setup(void **state)
{
	signal(SIGPIPE, SIG_IGN);
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
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tar, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tar_limits, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
