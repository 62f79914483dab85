#include "fixture.h"

#include "vdi-hostd/db/job.h"

static struct db_job a_job(const char *id, enum db_job_state state)
{
	struct db_job row = {.state = state, .total = 10, .created_at = 1};
	snprintf(row.id, sizeof(row.id), "%s", id);
	snprintf(row.kind, sizeof(row.kind), "image.import");
	return row;
}

static int collect(void *data, const struct db_job *row)
{
	strcat(data, row->id);
	return 0;
}

static void records_and_pages(void **state)
{
	struct fixture *f = *state;
	struct db_job row = a_job("a", DB_JOB_RUNNING), got;
	char seen[64] = "";
	assert_works(f, db_job_insert(f->db, &row, &f->err));
	assert_fails(f, ERR_EXISTS, db_job_insert(f->db, &row, &f->err));
	row.state = DB_JOB_FAILED;
	row.done = 5;
	row.ended_at = 9;
	err_set(&row.err, ERR_CORRUPT, "it is damaged");
	row.result = mem_strdup("{}");
	assert_works(f, db_job_update(f->db, &row, &f->err));
	db_job_done(&row);
	assert_works(f, db_job_get(f->db, "a", &got, &f->err));
	assert_int_equal(got.err.code, ERR_CORRUPT);
	assert_string_equal(got.err.msg, "it is damaged");
	assert_string_equal(got.result, "{}");
	assert_int_equal(got.done, 5);
	db_job_done(&got);
	assert_fails(f, ERR_NOT_FOUND, db_job_get(f->db, "none", &got, &f->err));
	row = a_job("none", DB_JOB_DONE);
	assert_fails(f, ERR_NOT_FOUND, db_job_update(f->db, &row, &f->err));
	for (const char *id = "bcde"; *id; id++) {
		row = a_job((const char[]){*id, '\0'}, DB_JOB_DONE);
		assert_works(f, db_job_insert(f->db, &row, &f->err));
	}
	assert_works(f, db_job_each(f->db, NULL, 2, collect, seen, &f->err));
	assert_string_equal(seen, "ed");
	assert_works(f, db_job_each(f->db, "d", 10, collect, seen, &f->err));
	assert_string_equal(seen, "edcba");
}

static void a_restart_settles_what_ran(void **state)
{
	struct fixture *f = *state;
	struct db_job running = a_job("r", DB_JOB_RUNNING), done = a_job("d", DB_JOB_DONE), got;
	assert_works(f, db_job_insert(f->db, &running, &f->err));
	assert_works(f, db_job_insert(f->db, &done, &f->err));
	assert_works(f, db_job_prune(f->db, 0, &f->err)); /* never one that runs */
	assert_fails(f, ERR_NOT_FOUND, db_job_get(f->db, "d", &got, &f->err));
	assert_works(f, db_job_fail_running(f->db, "restarted", &f->err));
	assert_works(f, db_job_get(f->db, "r", &got, &f->err));
	assert_int_equal(got.state, DB_JOB_FAILED);
	assert_string_equal(got.err.msg, "restarted");
	assert_true(got.ended_at > 0);
	assert_works(f, db_job_prune(f->db, 0, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_job_get(f->db, "r", &got, &f->err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(records_and_pages),
		test_with_db(a_restart_settles_what_ran),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
