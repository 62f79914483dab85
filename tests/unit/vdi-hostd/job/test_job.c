#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/mem.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/job/job.h"

struct fixture {
	char folder[64];
	uv_loop_t loop;
	struct db *db;
	struct jobs *jobs;
	struct job *job;
	int cancels, ends, stops, events;
	struct db_job ended;
	struct err err;
};

static void count_event(void *data, const struct db_event *event)
{
	struct fixture *f = data;
	assert_string_equal(event->topic, "job");
	f->events++;
}

static int make(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	char path[80];
	snprintf(f->folder, sizeof(f->folder), "/tmp/vdi-job-XXXXXX");
	if (!mkdtemp(f->folder) || sodium_init() < 0 || uv_loop_init(&f->loop) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/db", f->folder);
	*state = f;
	if (db_open(path, &f->db, &f->err) < 0 || jobs_new(&f->loop, f->db, &f->jobs, &f->err) < 0)
		return -1;
	db_event_listen(f->db, count_event, f);
	return 0;
}

static int drop(void **state)
{
	struct fixture *f = *state;
	char command[96];
	jobs_free(f->jobs);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	int failed = uv_loop_close(&f->loop);
	db_close(f->db);
	snprintf(command, sizeof(command), "rm -rf '%s'", f->folder);
	failed |= system(command);
	free(f);
	return failed;
}

static void on_cancel(void *data)
{
	struct fixture *f = data;
	struct err err;
	f->cancels++;
	err_set(&err, ERR_CANCELLED, "cancelled as asked");
	job_fail(TAKE_PTR(f->job), &err);
}

static void on_end(void *data, const struct db_job *row)
{
	struct fixture *f = data;
	if (!row) {
		f->stops++;
		return;
	}
	f->ends++;
	f->ended = *row;
	f->ended.result = NULL;
}

static void begin(struct fixture *f, void (*cancel)(void *data), char id[STR_UUID_LEN + 1])
{
	assert_int_equal(
		job_start(f->jobs, "test.it", "subject", "bytes", cancel, f, &f->job, &f->err), 0);
	assert_int_equal(str_copy(id, STR_UUID_LEN + 1, job_id(f->job)), 0);
}

static void runs_to_its_end(void **state)
{
	struct fixture *f = *state;
	char id[STR_UUID_LEN + 1];
	struct db_job row;
	begin(f, NULL, id);
	assert_non_null(jobs_wait(f->jobs, id, on_end, f));
	assert_int_equal(jobs_cancel(f->jobs, id, &f->err), -1);
	assert_int_equal(f->err.code, ERR_UNSUPPORTED);
	job_progress(f->job, 7, 10);
	assert_int_equal(jobs_get(f->jobs, id, &row, &f->err), 0);
	assert_int_equal(row.state, DB_JOB_RUNNING);
	assert_int_equal(row.done, 7);
	db_job_done(&row);
	job_done(TAKE_PTR(f->job), json_pack("{s:i}", "n", 1));
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->ends, 1);
	assert_int_equal(f->ended.state, DB_JOB_DONE);
	assert_int_equal(jobs_get(f->jobs, id, &row, &f->err), 0);
	assert_int_equal(row.state, DB_JOB_DONE);
	assert_string_equal(row.result, "{\"n\":1}");
	assert_true(row.ended_at >= row.created_at);
	json_t *json = job_to_json(&row);
	assert_non_null(json);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "result"), "n")),
			 1);
	json_decref(json);
	db_job_done(&row);
	assert_int_equal(jobs_cancel(f->jobs, id, &f->err), -1);
	assert_int_equal(f->err.code, ERR_CONFLICT);
	/* somebody who asks afterwards hears it as well, from the loop */
	assert_non_null(jobs_wait(f->jobs, id, on_end, f));
	assert_int_equal(f->ends, 1);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->ends, 2);
	assert_true(f->events >= 2);
}

static void is_cancelled(void **state)
{
	struct fixture *f = *state;
	char id[STR_UUID_LEN + 1];
	begin(f, on_cancel, id);
	assert_non_null(jobs_wait(f->jobs, id, on_end, f));
	assert_int_equal(jobs_cancel(f->jobs, id, &f->err), 0);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->cancels, 1);
	assert_int_equal(f->ends, 1);
	assert_int_equal(f->ended.state, DB_JOB_CANCELLED);
	assert_int_equal(f->ended.err.code, ERR_CANCELLED);
	assert_int_equal(jobs_cancel(f->jobs, "nobody", &f->err), -1);
	assert_int_equal(f->err.code, ERR_NOT_FOUND);
}

static void fails_with_its_reason(void **state)
{
	struct fixture *f = *state;
	char id[STR_UUID_LEN + 1];
	struct db_job row;
	struct err err;
	begin(f, NULL, id);
	err_set(&err, ERR_CORRUPT, "it is damaged");
	job_fail(TAKE_PTR(f->job), &err);
	assert_int_equal(jobs_get(f->jobs, id, &row, &f->err), 0);
	assert_int_equal(row.state, DB_JOB_FAILED);
	assert_string_equal(row.err.msg, "it is damaged");
	db_job_done(&row);
}

static void progress_is_cheap(void **state)
{
	struct fixture *f = *state;
	char id[STR_UUID_LEN + 1];
	begin(f, NULL, id);
	int before = f->events;
	for (int i = 0; i < 100000; i++)
		job_progress(f->job, i, 100000);
	assert_in_range(f->events - before, 0, 20);
	job_done(TAKE_PTR(f->job), NULL);
}

static void waiting_is_given_up(void **state)
{
	struct fixture *f = *state;
	char id[STR_UUID_LEN + 1];
	begin(f, NULL, id);
	struct job_wait *wait = jobs_wait(f->jobs, id, on_end, f);
	jobs_unwait(wait);
	job_done(TAKE_PTR(f->job), NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->ends, 0);
	/* and whoever waits when the daemon stops hears that */
	begin(f, NULL, id);
	assert_non_null(jobs_wait(f->jobs, id, on_end, f));
	jobs_free(TAKE_PTR(f->jobs));
	assert_int_equal(f->stops, 1);
}

#define test(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(runs_to_its_end),   test(is_cancelled),        test(fails_with_its_reason),
		test(progress_is_cheap), test(waiting_is_given_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
