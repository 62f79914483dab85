#include "vdi-hostd/image/verify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench.h"

static const struct db_image *make(struct bench *bench)
{
	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 img 8M"), 0);
	return bench_import(bench, "base", "img");
}

static void verify(struct bench *bench, enum err_code code)
{
	struct db_job job = {0};
	const char *id;

	if (images_verify(bench->images, "base", &id, &job.err) == 0)
		job = bench_wait(bench, id);
	assert_string_equal(job.err.code ? err_code_name(job.err.code) : "",
			    code ? err_code_name(code) : "");
	db_job_done(&job);
}

static void test_flipped_byte(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	char path[160];
	struct err err;

	snprintf(path, sizeof(path), "images/%s", base->file);
	verify(bench, 0);
	assert_true(base->verified_at > 0);
	help_poke(path, 70000, "x", 1);
	assert_int_equal(images_overlay_create(bench->images, base, "one", 0, &err), 0);
	verify(bench, ERR_CORRUPT);
	assert_non_null(strstr(base->broken, "checksum"));
	assert_int_equal(images_overlay_create(bench->images, base, "two", 0, &err), -1);
	assert_int_equal(err.code, ERR_CORRUPT);
	assert_non_null(strstr(err.msg, "vdictl image verify base:1"));
	bench_reopen(bench);
	base = images_find(bench->images, "base", &err);
	assert_true(base->broken[0]);
	help_poke(path, 70000, "\0", 1);
	verify(bench, 0);
	assert_string_equal(base->broken, "");
	assert_int_equal(images_overlay_create(bench->images, base, "two", 0, &err), 0);
}

static void test_lost_and_swapped(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	struct err err;

	assert_int_equal(help_run("mv images/%s away", base->file), 0);
	verify(bench, ERR_CORRUPT);
	assert_true(base->broken[0]);
	/* one that leads out of the store is not even read */
	assert_int_equal(help_run("cp away images/%s && qemu-img rebase -u -f qcow2 -b /etc/passwd "
				  "-F raw images/%s",
				  base->file, base->file),
			 0);
	verify(bench, ERR_CORRUPT);
	assert_int_equal(help_run("mv -f away images/%s", base->file), 0);
	verify(bench, 0);
	assert_string_equal(base->broken, "");
	assert_int_equal(images_verify(bench->images, "gone", NULL, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_busy_cancelled_deleted(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	const char *id, *other;
	struct err err;

	assert_int_equal(images_verify(bench->images, "base", &id, &err), 0);
	assert_int_equal(images_verify(bench->images, "base", &other, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_int_equal(jobs_cancel(bench->jobs, id, &err), 0);
	struct db_job job = bench_wait(bench, id);
	assert_int_equal(job.state, DB_JOB_CANCELLED);
	assert_int_equal(base->verified_at, 0);
	db_job_done(&job);
	assert_int_equal(images_verify(bench->images, "base", &id, &err), 0);
	assert_int_equal(images_delete(bench->images, "base", &err), 0);
	job = bench_wait(bench, id);
	assert_int_equal(job.err.code, ERR_NOT_FOUND);
	db_job_done(&job);
	make(bench);
	/* the daemon ends in the middle of it */
	assert_int_equal(images_verify(bench->images, "base", &id, &err), 0);
	bench_reopen(bench);
	assert_int_equal(images_find(bench->images, "base", &err)->verified_at, 0);
}

static void run_until_verified(struct bench *bench, const struct db_image *row, int64_t after)
{
	while (row->verified_at <= after)
		uv_run(&bench->loop, UV_RUN_ONCE);
}

static void test_by_the_clock(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	struct err err;

	make(bench);
	const struct db_image *second = images_find(bench->images, "base:2", &err);
	assert_int_equal(help_run("echo >> images/%s", second->file), 0);
	images_verify_every(bench->images, 50);
	run_until_verified(bench, base, 0);
	run_until_verified(bench, second, 0);
	assert_true(second->broken[0] && !base->broken[0]);
	/* and again */
	run_until_verified(bench, base, base->verified_at);
	bench_reopen(bench);
	/* what is not due is left alone, and so is the loop */
	images_verify_every(bench->images, 3600 * 1000);
	while (uv_run(&bench->loop, UV_RUN_NOWAIT) && uv_backend_timeout(&bench->loop) < 1000)
		;
	assert_true(uv_backend_timeout(&bench->loop) > 3000 * 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)
		TEST(test_flipped_byte),
		TEST(test_lost_and_swapped),
		TEST(test_busy_cancelled_deleted),
		TEST(test_by_the_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
