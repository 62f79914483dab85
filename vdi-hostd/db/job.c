#include "vdi-hostd/db/job.h"

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, kind, subject, state, done, total, unit, result, err_code, err_message, created_at,"  \
	" ended_at"

void db_job_done(struct db_job *row)
{
	free(row->result);
	row->result = NULL;
}

static void bind(sqlite3_stmt *stmt, const struct db_job *row)
{
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->kind);
	db_bind_text(stmt, 3, row->subject);
	db_bind_int(stmt, 4, row->state);
	db_bind_int(stmt, 5, row->done);
	db_bind_int(stmt, 6, row->total);
	db_bind_text(stmt, 7, row->unit);
	db_bind_ref(stmt, 8, row->result ? row->result : "");
	db_bind_int(stmt, 9, row->err.code);
	db_bind_text(stmt, 10, row->err.msg);
	db_bind_int(stmt, 11, row->created_at);
	db_bind_int(stmt, 12, row->ended_at);
}

static int read_row(sqlite3_stmt *stmt, struct db_job *ret, struct err *err)
{
	int state, code;
	*ret = (struct db_job){0};
	if (db_column_text(stmt, 0, ret->id, sizeof(ret->id)) < 0 ||
	    db_column_text(stmt, 1, ret->kind, sizeof(ret->kind)) < 0 ||
	    db_column_text(stmt, 2, ret->subject, sizeof(ret->subject)) < 0 ||
	    db_column_enum(stmt, 3, DB_JOB_CANCELLED, &state) < 0 ||
	    db_column_text(stmt, 6, ret->unit, sizeof(ret->unit)) < 0 ||
	    db_column_enum(stmt, 8, ERR_INTERNAL, &code) < 0 ||
	    db_column_text(stmt, 9, ret->err.msg, sizeof(ret->err.msg)) < 0)
		return db_fail_row("job", err);
	const char *result = (const char *)sqlite3_column_text(stmt, 7);
	ret->state = (enum db_job_state)state;
	ret->done = sqlite3_column_int64(stmt, 4);
	ret->total = sqlite3_column_int64(stmt, 5);
	ret->result = result ? mem_strdup(result) : NULL;
	ret->err.code = (enum err_code)code;
	ret->created_at = sqlite3_column_int64(stmt, 10);
	ret->ended_at = sqlite3_column_int64(stmt, 11);
	return 0;
}

int db_job_insert(struct db *db, const struct db_job *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO job (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the job", err);
}

int db_job_update(struct db *db, const struct db_job *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE job SET kind = ?2, subject = ?3, state = ?4, done = ?5, total = ?6,"
		       " unit = ?7, result = ?8, err_code = ?9, err_message = ?10,"
		       " created_at = ?11, ended_at = ?12 WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the job", err);
}

int db_job_get(struct db *db, const char *id, struct db_job *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "SELECT " COLUMNS " FROM job WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	int stepped = sqlite3_step(stmt);
	int result;
	struct db_job row;
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND, "there is no job '%.36s'", id);
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "read the job", err);
	else
		result = read_row(stmt, &row, err);
	sqlite3_reset(stmt);
	if (result == 0)
		*ret = row;
	return result;
}

struct walk {
	int (*cb)(void *data, const struct db_job *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_job row;
	if (read_row(stmt, &row, err) < 0)
		return -1;
	int result = walk->cb(walk->data, &row);
	db_job_done(&row);
	return result;
}

int db_job_each(struct db *db, const char *before, int64_t limit,
		int (*cb)(void *data, const struct db_job *row), void *data, struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db,
		       "SELECT " COLUMNS " FROM job WHERE ?1 IS NULL OR"
		       " seq < (SELECT seq FROM job WHERE id = ?1) ORDER BY seq DESC LIMIT ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_ref(stmt, 1, before ? before : "");
	db_bind_int(stmt, 2, limit);
	return db_each(db, stmt, "read the jobs", walk_row, &walk, err);
}

int db_job_fail_running(struct db *db, const char *message, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE job SET state = ?1, err_code = ?2, err_message = ?3, ended_at = ?4"
		       " WHERE state = ?5",
		       &stmt, err) < 0)
		return -1;
	db_bind_int(stmt, 1, DB_JOB_FAILED);
	db_bind_int(stmt, 2, ERR_CANCELLED);
	db_bind_text(stmt, 3, message);
	db_bind_int(stmt, 4, str_now_ms());
	db_bind_int(stmt, 5, DB_JOB_RUNNING);
	return db_run(db, stmt, "settle interrupted jobs", err);
}

int db_job_prune(struct db *db, int64_t keep, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "DELETE FROM job WHERE state != ?1 AND"
		       " seq <= (SELECT coalesce(max(seq), 0) FROM job) - ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_int(stmt, 1, DB_JOB_RUNNING);
	db_bind_int(stmt, 2, keep);
	return db_run(db, stmt, "forget old jobs", err);
}
