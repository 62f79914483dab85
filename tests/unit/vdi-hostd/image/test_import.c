#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench.h"
#include "storage/format.h"
#include "storage/qcow2.h"

static struct bench *with_fake(void **state)
{
	struct bench *bench = *state;

	bench_close(bench);
	bench->tool = getenv("FAKE_QEMU_IMG");
	assert_non_null(bench->tool);
	bench_open(bench);
	return bench;
}

static void make_raw(const char *word)
{
	assert_int_equal(help_run("rm -f raw; echo '%s ' > raw && truncate -s 1M raw", word), 0);
}

static void check_image(struct bench *bench, const struct db_image *row)
{
	char path[160];
	struct stat st;

	snprintf(path, sizeof(path), "images/%s", row->file);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0440);
	assert_int_equal(row->file_size, st.st_blocks * 512);
	assert_int_equal(help_run("qemu-img check -q %s", path), 0);
	assert_int_equal(help_run("echo '%s  %s' | sha256sum -c --status", row->sha256, path), 0);
	bench_check_clean(bench);
}

static void test_imports_every_format(void **state)
{
	static const char *const formats[] = {"qcow2", "raw", "vmdk", "vdi", "vhdx"};
	struct bench *bench = *state;

	assert_int_equal(help_run("truncate -s 64M data && head -c 3000000 /dev/urandom | "
				  "dd of=data conv=notrunc bs=1M seek=5 status=none"),
			 0);
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		assert_int_equal(
			help_run("rm -f in; qemu-img convert -f raw -O %s data in", formats[i]), 0);
		const struct db_image *row = bench_import(bench, "base", "in");
		assert_int_equal(row->version, i + 1);
		assert_int_equal(row->state, DB_IMAGE_PUBLISHED);
		assert_int_equal(row->virtual_size, 64 << 20);
		check_image(bench, row);
		assert_int_equal(
			help_run("qemu-img compare -q -f raw -F qcow2 data images/%s", row->file),
			0);
	}
	bench_reopen(bench);
	bench_check_clean(bench);
	assert_int_equal(images_find(bench->images, "base", NULL)->version, 5);
}

/* what others may write to is copied first, and the copy goes */
static void test_copies_what_others_may_change(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(help_run("qemu-img create -q -f qcow2 in 8M && chmod 666 in"), 0);
	check_image(bench, bench_import(bench, "base", "in"));
	if (geteuid() == 0) {
		assert_int_equal(help_run("chmod 600 in && chown 12345 in"), 0);
		check_image(bench, bench_import(bench, "base", "in"));
	}
}

static struct image_import wanted(const char *path)
{
	struct image_import import = {.name = "bad",
				      .fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)};

	return import;
}

static void refuse(struct bench *bench, const char *path, enum err_code code, const char *word)
{
	struct image_import import = wanted(path);

	bench_refuse(bench, &import, code, word);
}

static void fresh(const char *options)
{
	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 %s img 64M", options), 0);
}

static void test_hostile_images(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(help_run("qemu-img create -q -f qcow2 good 1M"), 0);
	bench_import(bench, "good", "good");
	fresh("");
	assert_int_equal(truncate("img", 100), 0);
	refuse(bench, "img", ERR_CORRUPT, "truncated");
	fresh("");
	assert_int_equal(help_run("qemu-io -c 'write 0 20M' img >/dev/null"), 0);
	assert_int_equal(truncate("img", 10 << 20), 0);
	refuse(bench, "img", ERR_CORRUPT, "truncated");
	fresh("");
	help_poke64("img", 40, UINT64_C(1) << 40);
	refuse(bench, "img", ERR_CORRUPT, "L1 table");
	fresh("");
	help_poke64("img", 72, QCOW2_CORRUPT);
	refuse(bench, "img", ERR_CORRUPT, "marked as corrupt");
	fresh("");
	help_poke64("img", 72, UINT64_C(1) << 40);
	refuse(bench, "img", ERR_UNSUPPORTED, "unknown incompatible features");
	fresh("");
	help_poke64("img", 24, UINT64_C(1) << 50);
	refuse(bench, "img", ERR_LIMIT, "virtual size");
	assert_int_equal(help_run("rm img; qemu-img create -q -f qcow2 -u -b /etc/passwd -F raw "
				  "img 1M"),
			 0);
	refuse(bench, "img", ERR_UNSUPPORTED, "backing file (/etc/passwd)");
	assert_int_equal(help_run("rm -f img d; qemu-img create -q -f qcow2 -o data_file=d img 1M"),
			 0);
	refuse(bench, "img", ERR_UNSUPPORTED, "data file");
	help_write("img", "", 0);
	refuse(bench, "img", ERR_CORRUPT, "empty");
	assert_int_equal(bench_import(bench, "good", "good")->version, 2);
}

static void test_no_files_of_other_kinds(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(mkfifo("fifo", 0600), 0);
	refuse(bench, "fifo", ERR_CORRUPT, "nothing came through the pipe");
	refuse(bench, ".", ERR_UNSUPPORTED, "directory");
	refuse(bench, "/dev/zero", ERR_UNSUPPORTED, "character device");
	fresh("");
	struct image_import import = wanted("img");
	int write_only = open("img", O_WRONLY | O_CLOEXEC);
	assert_int_equal(dup3(write_only, import.fd, O_CLOEXEC), import.fd);
	close(write_only);
	bench_refuse(bench, &import, ERR_DENIED, "not open for reading");
}

static void test_bad_parameters(void **state)
{
	struct bench *bench = *state;
	char text[300];

	fresh("");
	struct image_import import = wanted("img");
	import.name = "Not/A-Name";
	bench_refuse(bench, &import, ERR_INVALID, "name");
	import = wanted("img");
	import.format = 77;
	bench_refuse(bench, &import, ERR_INVALID, "format");
	import = wanted("img");
	import.sha256 = "12";
	bench_refuse(bench, &import, ERR_INVALID, "sha256");
	import = wanted("img");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	import.description = text;
	bench_refuse(bench, &import, ERR_INVALID, "description");
	import = wanted("img");
	import.format = STORAGE_VMDK;
	bench_refuse(bench, &import, ERR_UNSUPPORTED, "no vmdk image");
}

static void test_checksum(void **state)
{
	struct bench *bench = *state;
	char sum[65] = {0};
	const char *job_id;
	struct err err;

	fresh("");
	FILE *f = popen("sha256sum img | tr a-f A-F", "r");
	assert_int_equal(fread(sum, 1, 64, f), 64);
	pclose(f);
	struct image_import import = wanted("img");
	import.sha256 = sum;
	assert_int_equal(images_import(bench->images, &import, &job_id, &err), 0);
	struct db_job job = bench_wait(bench, job_id);
	assert_int_equal(job.state, DB_JOB_DONE);
	db_job_done(&job);
	sum[0] = sum[0] == '0' ? '1' : '0';
	import = wanted("img");
	import.sha256 = sum;
	bench_refuse(bench, &import, ERR_CORRUPT, "not the one that was meant");
}

static void test_tool_misbehaves(void **state)
{
	struct bench *bench = with_fake(state);

	make_raw("fail");
	refuse(bench, "raw", ERR_IO, "it will not do");
	make_raw("full");
	refuse(bench, "raw", ERR_LIMIT, "store is full");
	make_raw("garbage");
	refuse(bench, "raw", ERR_CORRUPT, "truncated");
	make_raw("backing");
	refuse(bench, "raw", ERR_UNSUPPORTED, "backing file");
	make_raw("smaller");
	refuse(bench, "raw", ERR_CORRUPT, "512 bytes where the source has 1048576");
	make_raw("good");
	bench_import(bench, "good", "raw");
	bench_check_clean(bench);
	bench_close(bench);
	bench->tool = "/nowhere/qemu-img";
	bench_open(bench);
	refuse(bench, "raw", ERR_UNAVAILABLE, "cannot run qemu-img at /nowhere");
}

static void test_packed_sources(void **state)
{
	static const char *const tools[] = {"gzip -1", "xz -0", "zstd -q"};
	static const char *const formats[] = {"qcow2", "raw", "vmdk"};
	struct bench *bench = *state;
	struct err err;

	assert_int_equal(help_run("truncate -s 64M data && head -c 3000000 /dev/urandom | "
				  "dd of=data conv=notrunc bs=1M seek=5 status=none"),
			 0);
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		assert_int_equal(
			help_run("qemu-img convert -f raw -O %s data in && %s -c in > packed",
				 formats[i], tools[i]),
			0);
		const struct db_image *row = bench_import(bench, "packed", "packed");
		assert_int_equal(row->virtual_size, 64 << 20);
		check_image(bench, row);
		assert_int_equal(
			help_run("qemu-img compare -q -f raw -F qcow2 data images/%s", row->file),
			0);
	}
	/* what is inside may be named, whatever is around it */
	struct image_import import = wanted("packed");
	import.format = STORAGE_QCOW2;
	bench_refuse(bench, &import, ERR_UNSUPPORTED, "no qcow2 image");
	import = wanted("packed");
	import.format = STORAGE_VMDK;
	import.name = "named";
	const char *job_id;
	assert_int_equal(images_import(bench->images, &import, &job_id, &err), 0);
	struct db_job job = bench_wait(bench, job_id);
	assert_int_equal(job.state, DB_JOB_DONE);
	db_job_done(&job);
}

static void test_bad_packed_sources(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(help_run("head -c 100000 /dev/urandom > data; xz -c data > packed; "
				  "truncate -s 50000 packed"),
			 0);
	refuse(bench, "packed", ERR_CORRUPT, "truncated");
	assert_int_equal(help_run("zstd -q -c data > packed; echo behind it >> packed"), 0);
	refuse(bench, "packed", ERR_CORRUPT, "follows");
	assert_int_equal(help_run("gzip -c data | gzip -c > packed"), 0);
	refuse(bench, "packed", ERR_UNSUPPORTED, "gzip");
	assert_int_equal(help_run("gzip -c < /dev/null > packed"), 0);
	refuse(bench, "packed", ERR_CORRUPT, "empty");
	/* what is hostile plain is hostile packed */
	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 -u -b /etc/passwd -F raw "
				  "img 1M; gzip -c img > packed"),
			 0);
	refuse(bench, "packed", ERR_UNSUPPORTED, "backing file (/etc/passwd)");
	/* a disk larger than any may be, out of next to nothing; its reader gives up at once */
	fresh("");
	help_poke64("img", 24, UINT64_C(1) << 50);
	assert_int_equal(help_run("zstd -q -c img > packed"), 0);
	refuse(bench, "packed", ERR_LIMIT, "virtual size");
}

/* the descriptor of what a command writes */
static int pipe_from(const char *command)
{
	assert_int_equal(help_run("rm -f fifo; mkfifo fifo; { %s; } > fifo &", command), 0);
	return open("fifo", O_RDONLY | O_CLOEXEC);
}

static void test_pipes(void **state)
{
	static const char *const commands[] = {"cat in", "xz -0 -c in", "zstd -q -c in | cat"};
	struct bench *bench = *state;
	struct err err;
	const char *job_id;

	assert_int_equal(help_run("truncate -s 64M data && head -c 3000000 /dev/urandom | "
				  "dd of=data conv=notrunc bs=1M seek=5 status=none && "
				  "qemu-img convert -f raw -O qcow2 data in"),
			 0);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		struct image_import import = {.name = "piped", .fd = pipe_from(commands[i])};
		assert_int_equal(images_import(bench->images, &import, &job_id, &err), 0);
		struct db_job job = bench_wait(bench, job_id);
		assert_int_equal(job.state, DB_JOB_DONE);
		assert_string_equal(job.unit, "bytes");
		assert_int_equal(job.done, job.total);
		db_job_done(&job);
		const struct db_image *row = images_find(bench->images, "piped", &err);
		assert_int_equal(row->version, i + 1);
		check_image(bench, row);
		assert_int_equal(
			help_run("qemu-img compare -q -f raw -F qcow2 data images/%s", row->file),
			0);
	}
	struct image_import import = {.name = "bad", .fd = pipe_from("head -c 2000000 in")};
	bench_refuse(bench, &import, ERR_CORRUPT, "truncated");
	import.fd = pipe_from("true");
	bench_refuse(bench, &import, ERR_CORRUPT, "nothing came");
	/* one that stays silent is cancelled, and the daemon can end meanwhile */
	int ends[2];
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		import.fd = ends[0];
		assert_int_equal(images_import(bench->images, &import, &job_id, &err), 0);
		for (int k = 0; k < 20; k++)
			uv_run(&bench->loop, UV_RUN_NOWAIT);
		if (i == 0) {
			assert_int_equal(jobs_cancel(bench->jobs, job_id, &err), 0);
			struct db_job job = bench_wait(bench, job_id);
			assert_int_equal(job.state, DB_JOB_CANCELLED);
			db_job_done(&job);
		} else {
			bench_reopen(bench);
		}
		bench_check_clean(bench);
		close(ends[1]);
	}
}

static void test_checksum_of_packed(void **state)
{
	static const char *const paths[] = {"packed", "open"};
	struct bench *bench = *state;
	char sum[65] = {0};
	const char *job_id;
	struct err err;

	fresh("");
	assert_int_equal(help_run("gzip -c img > packed; cp img open; chmod 666 open"), 0);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		char command[64];
		snprintf(command, sizeof(command), "sha256sum %s", paths[i]);
		FILE *f = popen(command, "r");
		assert_int_equal(fread(sum, 1, 64, f), 64);
		pclose(f);
		struct image_import import = wanted(paths[i]);
		import.sha256 = sum;
		assert_int_equal(images_import(bench->images, &import, &job_id, &err), 0);
		struct db_job job = bench_wait(bench, job_id);
		assert_int_equal(job.state, DB_JOB_DONE);
		db_job_done(&job);
		sum[0] = sum[0] == '0' ? '1' : '0';
		import = wanted(paths[i]);
		import.sha256 = sum;
		bench_refuse(bench, &import, ERR_CORRUPT, "not the one that was meant");
	}
}

static void run_until_converting(struct bench *bench, const char *job_id)
{
	struct db_job job = {0};
	struct err err;

	while (job.done == 0) {
		assert_int_not_equal(uv_run(&bench->loop, UV_RUN_ONCE), 0);
		assert_int_equal(jobs_get(bench->jobs, job_id, &job, &err), 0);
		assert_int_equal(job.state, DB_JOB_RUNNING);
		db_job_done(&job);
	}
}

static void hang(struct bench *bench, char *ret_job_id)
{
	struct err err;

	make_raw("hang");
	const char *job_id = bench_start(bench, "hung", "raw", &err);
	assert_non_null(job_id);
	memcpy(ret_job_id, job_id, STR_UUID_LEN + 1);
	run_until_converting(bench, ret_job_id);
}

static void test_cancel(void **state)
{
	struct bench *bench = with_fake(state);
	char job_id[STR_UUID_LEN + 1];
	struct err err;

	hang(bench, job_id);
	assert_int_equal(images_publish(bench->images, "hung", &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_int_equal(images_delete(bench->images, "hung", &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_int_equal(jobs_cancel(bench->jobs, job_id, &err), 0);
	struct db_job job = bench_wait(bench, job_id);
	assert_int_equal(job.state, DB_JOB_CANCELLED);
	db_job_done(&job);
	bench_check_clean(bench);
	/* at once, before the first step */
	make_raw("hang");
	snprintf(job_id, sizeof(job_id), "%s", bench_start(bench, "hung", "raw", &err));
	assert_int_equal(jobs_cancel(bench->jobs, job_id, &err), 0);
	job = bench_wait(bench, job_id);
	assert_int_equal(job.state, DB_JOB_CANCELLED);
	db_job_done(&job);
	bench_check_clean(bench);
}

static void test_daemon_stops_meanwhile(void **state)
{
	struct bench *bench = with_fake(state);
	char job_id[STR_UUID_LEN + 1];
	struct err err;

	hang(bench, job_id);
	bench_close(bench);
	bench_open(bench);
	bench_check_clean(bench);
	make_raw("hang");
	assert_non_null(bench_start(bench, "hung", "raw", &err));
	bench_close(bench);
	bench_open(bench);
	bench_check_clean(bench);
}

static void test_two_of_one_name(void **state)
{
	struct bench *bench = *state;
	char first[STR_UUID_LEN + 1], second[STR_UUID_LEN + 1];
	struct err err;

	fresh("");
	snprintf(first, sizeof(first), "%s", bench_start(bench, "twin", "img", &err));
	snprintf(second, sizeof(second), "%s", bench_start(bench, "twin", "img", &err));
	struct db_job job = bench_wait(bench, first);
	assert_int_equal(job.state, DB_JOB_DONE);
	db_job_done(&job);
	job = bench_wait(bench, second);
	assert_int_equal(job.state, DB_JOB_DONE);
	db_job_done(&job);
	assert_non_null(images_find(bench->images, "twin:1", &err));
	assert_non_null(images_find(bench->images, "twin:2", &err));
	bench_check_clean(bench);
}

/* import in a process of its own that kills itself at a point */
static int import_in_child(const struct bench *bench, const char *point)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct bench child = {0};
		setenv("VDI_CRASH_AT", point, 1);
		memcpy(child.dir, bench->dir, sizeof(child.dir));
		bench_open(&child);
		bench_import(&child, "crash", "img");
		bench_close(&child);
		_exit(0);
	}
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_killed_at_every_step(void **state)
{
	static const char *const steps[] = {"row",    "check", "copy",  "convert",
					    "verify", "place", "commit"};
	static const char *const moments[] = {"before", "after"};
	struct bench *bench = *state;
	char point[64];

	if (!BENCH_CRASH_POINTS)
		skip();
	fresh("");
	assert_int_equal(help_run("gzip img && mv img.gz img"), 0);
	bench_close(bench);
	for (size_t i = 0; i < ARRAY_LEN(steps) * 2; i++) {
		snprintf(point, sizeof(point), "image-import:%s:%s", steps[i / 2], moments[i % 2]);
		int status = import_in_child(bench, point);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("%s: status %x", point, (unsigned int)status);
		bench_open(bench);
		bench_check_clean(bench);
		bool whole = images_find(bench->images, "crash", NULL) != NULL;
		assert_int_equal(whole, strcmp(point, "image-import:commit:after") == 0);
		bench_close(bench);
	}
	bench_open(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)
		TEST(test_imports_every_format),
		TEST(test_copies_what_others_may_change),
		TEST(test_hostile_images),
		TEST(test_no_files_of_other_kinds),
		TEST(test_bad_parameters),
		TEST(test_checksum),
		TEST(test_packed_sources),
		TEST(test_bad_packed_sources),
		TEST(test_pipes),
		TEST(test_checksum_of_packed),
		TEST(test_tool_misbehaves),
		TEST(test_cancel),
		TEST(test_daemon_stops_meanwhile),
		TEST(test_two_of_one_name),
		TEST(test_killed_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
