#include "vdi-hostd/db/idempotency.h"

#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

static int read_answer(sqlite3_stmt *stmt, const char *method, const char *params_sha256,
		       char **ret, struct err *err)
{
	const char *answer = (const char *)sqlite3_column_text(stmt, 2);
	if (strcmp((const char *)sqlite3_column_text(stmt, 0), method) != 0 ||
	    strcmp((const char *)sqlite3_column_text(stmt, 1), params_sha256) != 0)
		return err_set(
			err, ERR_CONFLICT,
			"this idempotency_key was used for another request; choose a new one");
	*ret = answer ? mem_strdup(answer) : NULL;
	return 0;
}

int db_idempotency_find(struct db *db, const char *caller, const char *key, const char *method,
			const char *params_sha256, char **ret_answer, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "SELECT method, params_sha256, answer FROM idempotency"
		       " WHERE caller = ?1 AND key = ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, caller);
	db_bind_text(stmt, 2, key);
	int stepped = sqlite3_step(stmt);
	int result;
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND, "this idempotency_key is new");
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "look up the idempotency_key", err);
	else
		result = read_answer(stmt, method, params_sha256, ret_answer, err);
	sqlite3_reset(stmt);
	return result;
}

int db_idempotency_begin(struct db *db, const char *caller, const char *key, const char *method,
			 const char *params_sha256, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO idempotency (caller, key, method, params_sha256, answer,"
		       " created_at) VALUES (?1, ?2, ?3, ?4, NULL, ?5)",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, caller);
	db_bind_text(stmt, 2, key);
	db_bind_text(stmt, 3, method);
	db_bind_text(stmt, 4, params_sha256);
	db_bind_int(stmt, 5, str_now_ms());
	return db_run(db, stmt, "keep the idempotency_key", err);
}

int db_idempotency_finish(struct db *db, const char *caller, const char *key, const char *answer,
			  struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "UPDATE idempotency SET answer = ?3 WHERE caller = ?1 AND key = ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, caller);
	db_bind_text(stmt, 2, key);
	db_bind_text(stmt, 3, answer);
	return db_run_one(db, stmt, "keep the answer", err);
}

int db_idempotency_prune(struct db *db, int64_t before, bool unfinished, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "DELETE FROM idempotency WHERE created_at < ?1 OR (?2 AND answer IS NULL)",
		       &stmt, err) < 0)
		return -1;
	db_bind_int(stmt, 1, before);
	db_bind_int(stmt, 2, unfinished);
	return db_run(db, stmt, "forget old answers", err);
}
