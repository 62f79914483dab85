#include "vdi-hostd/job/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "vdi-hostd/db/event.h"

struct bench {
	char folder[64], path[96];
	uv_loop_t loop;
	struct db *db;
	struct jobs *jobs;
	struct err err;
	struct job *job;
	int cancels;
	struct job_wait *other; /* ended by whoever is told first */
	int told, told_nothing, events;
	enum db_job_state last_state;
	char result[64], message[ERR_MSG_MAX];
};

static void open_jobs(struct bench *bench)
{
	if (db_open(bench->path, &bench->db, &bench->err) < 0 ||
	    jobs_new(&bench->loop, bench->db, &bench->jobs, &bench->err) < 0)
		fail_msg("%s", bench->err.msg);
}

static void close_jobs(struct bench *bench)
{
	jobs_free(TAKE_PTR(bench->jobs));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	db_close(TAKE_PTR(bench->db));
}

static int setup(void **state)
{
	struct bench *bench = mem_new(struct bench);
	snprintf(bench->folder, sizeof(bench->folder), "/tmp/test-job-XXXXXX");
	assert_non_null(mkdtemp(bench->folder));
	snprintf(bench->path, sizeof(bench->path), "%s/db", bench->folder);
	uv_loop_init(&bench->loop);
	open_jobs(bench);
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	char command[96];
	close_jobs(bench);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", bench->folder);
	int failed = system(command);
	free(bench);
	return failed;
}

static void on_cancel(void *data)
{
	struct bench *bench = data;
	struct err err;
	bench->cancels++;
	err_set(&err, ERR_CANCELLED, "stopped on request");
	job_fail(TAKE_PTR(bench->job), &err);
}

static void start(struct bench *bench, void (*cancel)(void *data), char *ret_id)
{
	if (job_start(bench->jobs, "image.import", "", "bytes", cancel, bench, &bench->job,
		      &bench->err) < 0)
		fail_msg("%s", bench->err.msg);
	snprintf(ret_id, STR_UUID_LEN + 1, "%s", job_id(bench->job));
}

static void on_end(void *data, const struct db_job *row)
{
	struct bench *bench = data;
	bench->told++;
	if (!row) {
		bench->told_nothing++;
		return;
	}
	bench->last_state = row->state;
	snprintf(bench->result, sizeof(bench->result), "%s", row->result ? row->result : "");
	snprintf(bench->message, sizeof(bench->message), "%s", row->err.msg);
}

static void on_end_of_both(void *data, const struct db_job *row)
{
	struct bench *bench = data;
	on_end(bench, row);
	if (bench->other)
		jobs_unwait(TAKE_PTR(bench->other));
}

static void on_end_wait_again(void *data, const struct db_job *row)
{
	struct bench *bench = data;
	struct db_job now;
	on_end(bench, row);
	assert_int_equal(jobs_get(bench->jobs, row->id, &now, &bench->err), 0);
	assert_int_equal(now.state, row->state);
	db_job_done(&now);
	jobs_wait(bench->jobs, row->id, on_end, bench);
}

static void on_event(void *data, const struct db_event *event)
{
	struct bench *bench = data;
	assert_string_equal(event->topic, "job");
	bench->events++;
}

static void progress_is_live_and_told_seldom(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	struct db_job row, stored;
	db_event_listen(bench->db, on_event, bench);
	start(bench, NULL, id);
	assert_int_equal(bench->events, 1);
	for (int i = 1; i <= 1000; i++)
		job_progress(bench->job, i, 2000);
	/* a thousand steps in a moment: the first is told, hardly any other */
	assert_in_range(bench->events, 2, 6);
	assert_int_equal(jobs_get(bench->jobs, id, &row, &bench->err), 0);
	assert_int_equal(row.done, 1000);
	assert_int_equal(row.total, 2000);
	assert_null(row.result);
	db_job_done(&row);
	job_done(bench->job, json_pack("{s:i}", "size", 7));
	assert_int_equal(db_job_get(bench->db, id, &stored, &bench->err), 0);
	assert_int_equal(stored.state, DB_JOB_DONE);
	assert_int_equal(stored.done, 2000);
	assert_string_equal(stored.result, "{\"size\":7}");
	assert_true(stored.ended_at >= stored.created_at);
	json_t *json = job_to_json(&stored);
	assert_string_equal(json_string_value(json_object_get(json, "state")), "done");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(json, "result"), "size")), 7);
	assert_true(json_is_null(json_object_get(json, "error")));
	json_decref(json);
	db_job_done(&stored);
	db_event_listen(bench->db, NULL, NULL);
}

static void a_failure_keeps_its_reason(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	struct db_job row;
	struct err err;
	start(bench, NULL, id);
	err_set(&err, ERR_CORRUPT, "the header is damaged");
	job_fail(bench->job, &err);
	assert_int_equal(jobs_get(bench->jobs, id, &row, &bench->err), 0);
	assert_int_equal(row.state, DB_JOB_FAILED);
	json_t *json = job_to_json(&row);
	assert_string_equal(json_string_value(json_object_get(json, "error")),
			    "the header is damaged");
	assert_string_equal(json_string_value(json_object_get(json, "error_kind")),
			    err_code_name(ERR_CORRUPT));
	json_decref(json);
	db_job_done(&row);
}

static void waits_before_and_after_the_end(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	start(bench, NULL, id);
	jobs_wait(bench->jobs, id, on_end, bench);
	uv_run(&bench->loop, UV_RUN_NOWAIT);
	assert_int_equal(bench->told, 0);
	job_done(bench->job, json_string("early"));
	assert_int_equal(bench->told, 1);
	assert_string_equal(bench->result, "\"early\"");
	bench->result[0] = '\0';
	jobs_wait(bench->jobs, id, on_end, bench);
	assert_int_equal(bench->told, 1); /* never inside of the call */
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->told, 2);
	assert_string_equal(bench->result, "\"early\"");
	jobs_wait(bench->jobs, "00000000-0000-4000-8000-000000000000", on_end, bench);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->told_nothing, 1);
}

static void a_wait_that_was_given_up_is_not_told(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	start(bench, NULL, id);
	jobs_unwait(jobs_wait(bench->jobs, id, on_end, bench));
	jobs_wait(bench->jobs, id, on_end, bench);
	job_done(bench->job, NULL);
	assert_int_equal(bench->told, 1);
	jobs_unwait(jobs_wait(bench->jobs, id, on_end, bench));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->told, 1);
}

static void who_is_told_may_end_another_wait(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	start(bench, NULL, id);
	bench->other = jobs_wait(bench->jobs, id, on_end, bench);
	jobs_wait(bench->jobs, id, on_end_of_both, bench);
	job_done(bench->job, NULL);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->told, 1);
}

static void who_is_told_may_ask_again(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	start(bench, NULL, id);
	jobs_wait(bench->jobs, id, on_end_wait_again, bench);
	job_done(bench->job, NULL);
	assert_int_equal(bench->told, 1);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->told, 2);
	assert_int_equal(bench->told_nothing, 0);
}

static void cancel_by_the_owners_leave(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	start(bench, NULL, id);
	assert_int_equal(jobs_cancel(bench->jobs, id, &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_UNSUPPORTED);
	job_done(bench->job, NULL);
	start(bench, on_cancel, id);
	jobs_wait(bench->jobs, id, on_end, bench);
	assert_int_equal(jobs_cancel(bench->jobs, id, &bench->err), 0);
	assert_int_equal(bench->cancels, 1);
	assert_int_equal(bench->told, 1);
	assert_int_equal(bench->last_state, DB_JOB_CANCELLED);
	assert_int_equal(jobs_cancel(bench->jobs, id, &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "cancelled"));
	assert_int_equal(jobs_cancel(bench->jobs, "nonesuch", &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	assert_int_equal(bench->cancels, 1);
}

static void names_that_are_too_long(void **state)
{
	struct bench *bench = *state;
	char name[200];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(
		job_start(bench->jobs, name, "", "bytes", NULL, NULL, &bench->job, &bench->err),
		-1);
	assert_int_equal(bench->err.code, ERR_INTERNAL);
}

static void the_end_of_the_daemon(void **state)
{
	struct bench *bench = *state;
	char id[STR_UUID_LEN + 1];
	struct db_job row;
	start(bench, on_cancel, id);
	jobs_wait(bench->jobs, id, on_end, bench);
	close_jobs(bench);
	assert_int_equal(bench->told_nothing, 1);
	/* the next start */
	open_jobs(bench);
	assert_int_equal(jobs_get(bench->jobs, id, &row, &bench->err), 0);
	assert_int_equal(row.state, DB_JOB_RUNNING);
	db_job_done(&row);
	assert_int_equal(db_job_fail_running(bench->db, "restarted", &bench->err), 0);
	jobs_wait(bench->jobs, id, on_end, bench);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->told, 2);
	assert_int_equal(bench->last_state, DB_JOB_FAILED);
	assert_string_equal(bench->message, "restarted");
}

static int count(void *data, const struct db_job *row)
{
	(*(int *)data)++;
	return 0;
}

static void old_ones_are_forgotten_at_the_start(void **state)
{
	struct bench *bench = *state;
	int n = 0;
	char id[STR_UUID_LEN + 1];
	assert_int_equal(db_begin(bench->db, __func__, &bench->err), 0);
	for (int i = 0; i < 1005; i++) {
		struct db_job row = {.state = DB_JOB_DONE, .created_at = i + 1};
		snprintf(row.id, sizeof(row.id), "%d", i);
		assert_int_equal(db_job_insert(bench->db, &row, &bench->err), 0);
	}
	assert_int_equal(db_commit(bench->db, &bench->err), 0);
	start(bench, NULL, id);
	close_jobs(bench);
	open_jobs(bench);
	assert_int_equal(db_job_each(bench->db, NULL, 5000, count, &n, &bench->err), 0);
	assert_int_equal(n, 1000);
	struct db_job row;
	assert_int_equal(db_job_get(bench->db, "5", &row, &bench->err), -1);
	assert_int_equal(db_job_get(bench->db, "6", &row, &bench->err), 0);
	db_job_done(&row);
}

#define with_jobs(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_jobs(progress_is_live_and_told_seldom),
		with_jobs(a_failure_keeps_its_reason),
		with_jobs(waits_before_and_after_the_end),
		with_jobs(a_wait_that_was_given_up_is_not_told),
		with_jobs(who_is_told_may_end_another_wait),
		with_jobs(who_is_told_may_ask_again),
		with_jobs(cancel_by_the_owners_leave),
		with_jobs(names_that_are_too_long),
		with_jobs(the_end_of_the_daemon),
		with_jobs(old_ones_are_forgotten_at_the_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
