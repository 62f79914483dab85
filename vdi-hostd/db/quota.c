#include "vdi-hostd/db/quota.h"

#include "vdi-hostd/db/private.h"

int db_quota_set(struct db *db, const struct db_quota *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO quota (owner, bytes) VALUES (?1, ?2)"
		       " ON CONFLICT (owner) DO UPDATE SET bytes = ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, row->owner);
	db_bind_int(stmt, 2, row->bytes);
	return db_run(db, stmt, "record the quota", err);
}

int db_quota_delete(struct db *db, const char *owner, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM quota WHERE owner = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, owner);
	return db_run_one(db, stmt, "delete the quota", err);
}

static int read_row(sqlite3_stmt *stmt, struct db_quota *ret, struct err *err)
{
	if (db_column_text(stmt, 0, ret->owner, sizeof(ret->owner)) < 0)
		return db_fail_row("quota", err);
	ret->bytes = sqlite3_column_int64(stmt, 1);
	return 0;
}

int db_quota_get(struct db *db, const char *owner, struct db_quota *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	struct db_quota row;
	if (db_prepare(db, "SELECT owner, bytes FROM quota WHERE owner = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, owner);
	int stepped = sqlite3_step(stmt);
	int result;
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND, "there is no quota for '%.63s'", owner);
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "read the quota", err);
	else
		result = read_row(stmt, &row, err);
	sqlite3_reset(stmt);
	if (result == 0)
		*ret = row;
	return result;
}

struct walk {
	int (*cb)(void *data, const struct db_quota *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_quota row;
	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_quota_each(struct db *db, int (*cb)(void *data, const struct db_quota *row), void *data,
		  struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, "SELECT owner, bytes FROM quota ORDER BY owner", &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the quotas", walk_row, &walk, err);
}

int db_quota_used(struct db *db, const char *owner, int64_t *ret, struct err *err)
{
	static const char sql[] =
		"SELECT (SELECT coalesce(sum(system_bytes + data_bytes), 0) FROM desktop"
		"  WHERE owner = ?1)"
		" + (SELECT coalesce(sum(file_size), 0) FROM image WHERE owner = ?1)"
		" + (SELECT coalesce(sum(size), 0) FROM iso WHERE owner = ?1)"
		" + (SELECT coalesce(sum(stored_bytes), 0) FROM backup WHERE owner = ?1)";
	sqlite3_stmt *stmt;
	if (db_prepare(db, sql, &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, owner);
	int result = 0;
	if (sqlite3_step(stmt) == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	else
		result = db_fail(db, "add up what an owner has", err);
	sqlite3_reset(stmt);
	return result;
}
