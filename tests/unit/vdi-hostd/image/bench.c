#include "bench.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "storage/format.h"

static void must(int result, const struct err *err)
{
	if (result < 0)
		fail_msg("%s", err->msg);
}

static void on_lost(void *data)
{
	fail_msg("there is no privileged half to lose");
}

void bench_open(struct bench *bench)
{
	struct priv_config config = {.uid = getuid(), .gid = getgid(), .tool_uid = getuid()};
	struct err err;

	snprintf(config.qemu_img_binary, sizeof(config.qemu_img_binary), "%s",
		 bench->tool ? bench->tool : "/usr/bin/qemu-img");
	assert_int_equal(uv_loop_init(&bench->loop), 0);
	must(db_open("vdi-hostd.db", &bench->db, &err), &err);
	must(priv_open(&bench->loop, -1, &config, on_lost, NULL, &bench->priv, &err), &err);
	must(jobs_new(&bench->loop, bench->db, &bench->jobs, &err), &err);
	must(images_new(&bench->loop, bench->db, bench->jobs, bench->priv, bench->dir,
			&bench->images, &err),
	     &err);
}

void bench_close(struct bench *bench)
{
	images_free(TAKE_PTR(bench->images));
	jobs_free(TAKE_PTR(bench->jobs));
	priv_close(TAKE_PTR(bench->priv));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
	db_close(TAKE_PTR(bench->db));
}

void bench_reopen(struct bench *bench)
{
	bench_close(bench);
	bench_open(bench);
}

int bench_new(void **state)
{
	struct bench *bench = mem_new(struct bench);

	log_open("test", LOG_LEVEL_ERR);
	signal(SIGPIPE, SIG_IGN);
	help_dir(bench->dir, sizeof(bench->dir));
	bench_open(bench);
	*state = bench;
	return 0;
}

int bench_free(void **state)
{
	struct bench *bench = *state;

	bench_close(bench);
	help_remove_dir(bench->dir);
	free(bench);
	return 0;
}

const char *bench_start(struct bench *bench, const char *name, const char *path, struct err *err)
{
	const char *job_id = NULL;
	struct image_import import = {
		.name = name, .fd = open(path, O_RDONLY | O_CLOEXEC), .publish = true};

	assert_true(import.fd >= 0);
	return images_import(bench->images, &import, &job_id, err) < 0 ? NULL : job_id;
}

struct waiting {
	bool ended;
	struct db_job row;
};

static void on_ended(void *data, const struct db_job *row)
{
	struct waiting *waiting = data;

	waiting->ended = true;
	if (!row)
		return;
	waiting->row = *row;
	waiting->row.result = row->result ? mem_strdup(row->result) : NULL;
}

struct db_job bench_wait(struct bench *bench, const char *job_id)
{
	struct waiting waiting = {0};

	jobs_wait(bench->jobs, job_id, on_ended, &waiting);
	while (!waiting.ended)
		uv_run(&bench->loop, UV_RUN_ONCE);
	return waiting.row;
}

const struct db_image *bench_import(struct bench *bench, const char *name, const char *path)
{
	struct err err;
	const char *job_id = bench_start(bench, name, path, &err);

	if (!job_id)
		fail_msg("%s", err.msg);
	struct db_job job = bench_wait(bench, job_id);
	if (job.state != DB_JOB_DONE)
		fail_msg("%s", job.err.msg);
	db_job_done(&job);
	return images_find(bench->images, name, &err);
}

void bench_refuse(struct bench *bench, const struct image_import *import, enum err_code code,
		  const char *word)
{
	struct db_job job = {0};
	const char *job_id;

	assert_true(import->fd >= 0);
	if (images_import(bench->images, import, &job_id, &job.err) == 0) {
		job = bench_wait(bench, job_id);
		assert_int_equal(job.state, DB_JOB_FAILED);
	}
	if (job.err.code != code || !strstr(job.err.msg, word))
		fail_msg("%s: \"%s\" does not say \"%s\"", err_code_name(job.err.code), job.err.msg,
			 word);
	db_job_done(&job);
	bench_check_clean(bench);
}

static void count_row(void *data, const struct db_image *row)
{
	assert_int_not_equal(row->state, DB_IMAGE_IMPORTING);
	char path[160];
	snprintf(path, sizeof(path), "images/%s", row->file);
	assert_int_equal(access(path, F_OK), 0);
	(*(size_t *)data)++;
}

static int count_db_row(void *data, const struct db_image *row)
{
	(*(size_t *)data)++;
	return 0;
}

void bench_check_clean(struct bench *bench)
{
	struct err err;
	size_t rows = 0, db_rows = 0;

	images_each(bench->images, count_row, &rows);
	assert_int_equal(db_image_each(bench->db, count_db_row, &db_rows, &err), 0);
	assert_int_equal(rows, db_rows);
	assert_int_equal(help_count("images"), rows);
	assert_int_equal(help_count("tmp"), 0);
}
