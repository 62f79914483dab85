#include "vdi-hostd/db/iso.h"

#include "vdi-hostd/db/private.h"

#define COLUMNS "id, name, state, file, size, sha256, owner, description, created_at"

static void bind(sqlite3_stmt *stmt, const struct db_iso *row)
{
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->name);
	db_bind_int(stmt, 3, row->state);
	db_bind_text(stmt, 4, row->file);
	db_bind_int(stmt, 5, row->size);
	db_bind_text(stmt, 6, row->sha256);
	db_bind_text(stmt, 7, row->owner);
	db_bind_text(stmt, 8, row->description);
	db_bind_int(stmt, 9, row->created_at);
}

static int read_row(sqlite3_stmt *stmt, struct db_iso *ret, struct err *err)
{
	int state;
	*ret = (struct db_iso){0};
	if (db_column_text(stmt, 0, ret->id, sizeof(ret->id)) < 0 ||
	    db_column_text(stmt, 1, ret->name, sizeof(ret->name)) < 0 ||
	    db_column_enum(stmt, 2, DB_ISO_READY, &state) < 0 ||
	    db_column_text(stmt, 3, ret->file, sizeof(ret->file)) < 0 ||
	    db_column_text(stmt, 5, ret->sha256, sizeof(ret->sha256)) < 0 ||
	    db_column_text(stmt, 6, ret->owner, sizeof(ret->owner)) < 0 ||
	    db_column_text(stmt, 7, ret->description, sizeof(ret->description)) < 0)
		return db_fail_row("iso", err);
	ret->state = (enum db_iso_state)state;
	ret->size = sqlite3_column_int64(stmt, 4);
	ret->created_at = sqlite3_column_int64(stmt, 8);
	return 0;
}

int db_iso_insert(struct db *db, const struct db_iso *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO iso (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the ISO", err);
}

int db_iso_update(struct db *db, const struct db_iso *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE iso SET name = ?2, state = ?3, file = ?4, size = ?5, sha256 = ?6,"
		       " owner = ?7, description = ?8, created_at = ?9 WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the ISO", err);
}

int db_iso_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM iso WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the ISO", err);
}

struct walk {
	int (*cb)(void *data, const struct db_iso *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_iso row;
	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_iso_each(struct db *db, int (*cb)(void *data, const struct db_iso *row), void *data,
		struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, "SELECT " COLUMNS " FROM iso ORDER BY name", &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the ISOs", walk_row, &walk, err);
}
