/* The ISO library: in, out, and what a daemon that was killed in between leaves. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "bench.h"
#include "storage/iso.h"
#include "vdi-hostd/image/iso.h"

/* the volume descriptor of a disc of @blocks sectors that begins with "CD001" */
static void write_disc(const char *path, unsigned int blocks, off_t size)
{
	static const char head[] = "\1CD001\1";
	unsigned char both[8] = {(unsigned char)blocks, (unsigned char)(blocks >> 8)};
	both[7] = both[0];
	both[6] = both[1];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const off_t at = 16 * STORAGE_ISO_SECTOR;
	assert_int_equal(pwrite(fd, head, 7, at), 7);
	assert_int_equal(pwrite(fd, both, 8, at + 80), 8);
	assert_int_equal(pwrite(fd, "\0\10\10\0", 4, at + 128), 4);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static const char *start(struct bench *bench, const char *name, const char *sha256, struct err *err)
{
	const char *job_id = NULL;
	const struct iso_import import = {
		.name = name, .fd = open("disc", O_RDONLY | O_CLOEXEC), .sha256 = sha256};
	return isos_import(bench->images, &import, &job_id, err) < 0 ? NULL : job_id;
}

static struct db_job import(struct bench *bench, const char *name, const char *sha256)
{
	struct err err;
	const char *job_id = start(bench, name, sha256, &err);
	if (!job_id)
		fail_msg("%s", err.msg);
	return bench_wait(bench, job_id);
}

static void refuse(struct bench *bench, const char *name, const char *sha256, enum err_code code)
{
	struct db_job job = {0};
	const char *job_id = start(bench, name, sha256, &job.err);
	if (job_id)
		job = bench_wait(bench, job_id);
	if (job.err.code != code)
		fail_msg("%s: %s", err_code_name(job.err.code), job.err.msg);
	db_job_done(&job);
	assert_null(isos_find(bench->images, name, NULL));
	assert_int_equal(help_count("tmp"), 0);
}

static void count(void *data, const struct db_iso *row)
{
	assert_int_equal(row->state, DB_ISO_READY);
	(*(size_t *)data)++;
}

static int count_row(void *data, const struct db_iso *row)
{
	(*(size_t *)data)++;
	return 0;
}

/* rows in memory, rows in the database and files are the same ones */
static void check(struct bench *bench, size_t n)
{
	size_t seen = 0, rows = 0;
	struct err err;
	isos_each(bench->images, count, &seen);
	assert_int_equal(db_iso_each(bench->db, count_row, &rows, &err), 0);
	assert_int_equal(seen, n);
	assert_int_equal(rows, n);
	assert_int_equal(help_count("isos"), n);
	assert_int_equal(help_count("tmp"), 0);
}

static void comes_in(void **state)
{
	struct bench *bench = *state;
	struct err err;
	struct stat st;
	char path[160], sum[65];
	int fd;
	write_disc("disc", 100, 100 * STORAGE_ISO_SECTOR);
	struct db_job job = import(bench, "red", NULL);
	assert_int_equal(job.state, DB_JOB_DONE);
	assert_string_equal(job.unit, "bytes");
	assert_int_equal(job.total, 2 * 100 * STORAGE_ISO_SECTOR);
	db_job_done(&job);
	const struct db_iso *row = isos_find(bench->images, "red", &err);
	assert_non_null(row);
	assert_int_equal(row->size, 100 * STORAGE_ISO_SECTOR);
	assert_int_equal(strlen(row->sha256), 64);
	memcpy(sum, row->sha256, sizeof(sum));
	snprintf(path, sizeof(path), "isos/%s", row->file);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0440);
	assert_true(st.st_blocks * 512 < 50 * STORAGE_ISO_SECTOR); /* holes stay holes */
	assert_int_equal(isos_open(bench->images, row->id, &fd, &err), 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
	bench_reopen(bench);
	check(bench, 1);
	/* the checksum that it has is the one that it may be asked for, in either case */
	for (char *c = sum; *c; c++)
		*c = (char)(*c >= 'a' ? *c - 0x20 : *c);
	job = import(bench, "blue", sum);
	assert_int_equal(job.state, DB_JOB_DONE);
	db_job_done(&job);
	check(bench, 2);
}

static void what_is_refused(void **state)
{
	struct bench *bench = *state;
	static const char zeros[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	struct err err;
	write_disc("disc", 100, 100 * STORAGE_ISO_SECTOR);
	refuse(bench, "red", zeros, ERR_CORRUPT);
	refuse(bench, "red", "abc", ERR_INVALID);
	refuse(bench, "Red", NULL, ERR_INVALID);
	write_disc("disc", 101, 100 * STORAGE_ISO_SECTOR);
	refuse(bench, "red", NULL, ERR_CORRUPT);
	write_disc("disc", 100, 1000);
	refuse(bench, "red", NULL, ERR_UNSUPPORTED);
	struct iso_import wrong = {.name = "red", .fd = open("disc", O_WRONLY | O_CLOEXEC)};
	const char *job_id;
	assert_int_equal(isos_import(bench->images, &wrong, &job_id, &err), -1);
	assert_int_equal(err.code, ERR_DENIED);
	check(bench, 0);
}

static size_t users;

static size_t in_use(void *data, const char *iso_id, char *ret, size_t size)
{
	snprintf(ret, size, "ada, bob");
	return users;
}

static void goes_out(void **state)
{
	struct bench *bench = *state;
	struct err err;
	write_disc("disc", 100, 100 * STORAGE_ISO_SECTOR);
	struct db_job job = import(bench, "red", NULL);
	db_job_done(&job);
	const char *twice = start(bench, "red", NULL, &err);
	assert_null(twice);
	assert_int_equal(err.code, ERR_EXISTS);
	users = 2;
	assert_int_equal(isos_delete(bench->images, "red", in_use, NULL, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "ada, bob"));
	users = 0;
	/* one that is on its way in neither goes nor is given to anybody */
	const char *job_id = start(bench, "blue", NULL, &err);
	assert_non_null(job_id);
	while (!isos_find(bench->images, "blue", NULL))
		uv_run(&bench->loop, UV_RUN_ONCE);
	char id[STR_UUID_LEN + 1];
	memcpy(id, isos_find(bench->images, "blue", NULL)->id, sizeof(id));
	int fd;
	assert_int_equal(isos_delete(bench->images, "blue", in_use, NULL, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_int_equal(isos_open(bench->images, id, &fd, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	job = bench_wait(bench, job_id);
	db_job_done(&job);
	check(bench, 2);
	assert_int_equal(isos_delete(bench->images, "red", in_use, NULL, &err), 0);
	assert_int_equal(isos_delete(bench->images, "red", in_use, NULL, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	check(bench, 1);
}

static void cancelled(void **state)
{
	struct bench *bench = *state;
	struct err err;
	write_disc("disc", 20000, 20000 * STORAGE_ISO_SECTOR);
	const char *job_id = start(bench, "red", NULL, &err);
	char id[STR_UUID_LEN + 1];
	snprintf(id, sizeof(id), "%s", job_id);
	for (int i = 0; i < 4; i++)
		uv_run(&bench->loop, UV_RUN_NOWAIT);
	assert_int_equal(jobs_cancel(bench->jobs, id, &err), 0);
	struct db_job job = bench_wait(bench, id);
	assert_int_equal(job.state, DB_JOB_CANCELLED);
	db_job_done(&job);
	check(bench, 0);
	/* and by the daemon's end */
	assert_non_null(start(bench, "red", NULL, &err));
	for (int i = 0; i < 4; i++)
		uv_run(&bench->loop, UV_RUN_NOWAIT);
	bench_reopen(bench);
	check(bench, 0);
}

static void kill_at(struct bench *bench, const char *point, void (*what)(struct bench *bench))
{
	int status;
	bench_close(bench);
	pid_t pid = fork();
	if (pid == 0) {
		setenv("VDI_CRASH_AT", point, 1);
		bench_open(bench);
		what(bench);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	bench_open(bench);
}

static void delete_red(struct bench *bench)
{
	struct err err;
	(void)!isos_delete(bench->images, "red", NULL, NULL, &err);
}

static void killed_while_it_goes(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *point;
		size_t left;
	} points[] = {
		{"iso-delete:mark:before", 1},
		{"iso-delete:file:before", 0},
		{"iso-delete:row:before", 0},
		{"iso-delete:row:after", 0},
	};
	if (!BENCH_CRASH_POINTS)
		skip();
	write_disc("disc", 100, 100 * STORAGE_ISO_SECTOR);
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		if (!isos_find(bench->images, "red", NULL)) {
			struct db_job job = import(bench, "red", NULL);
			db_job_done(&job);
		}
		kill_at(bench, points[i].point, delete_red);
		check(bench, points[i].left);
	}
}

#define test_with_bench(test) cmocka_unit_test_setup_teardown(test, bench_new, bench_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_bench(comes_in),
		test_with_bench(what_is_refused),
		test_with_bench(goes_out),
		test_with_bench(cancelled),
		test_with_bench(killed_while_it_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
