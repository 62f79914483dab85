#include "vdi-hostd/db/image.h"

#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, name, version, state, file, virtual_size, file_size, sha256, owner, description,"     \
	" created_at, published_at, parent_id, depth_max, verified_at, broken"

static void bind(sqlite3_stmt *stmt, const struct db_image *row)
{
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->name);
	db_bind_int(stmt, 3, row->version);
	db_bind_int(stmt, 4, row->state);
	db_bind_text(stmt, 5, row->file);
	db_bind_int(stmt, 6, row->virtual_size);
	db_bind_int(stmt, 7, row->file_size);
	db_bind_text(stmt, 8, row->sha256);
	db_bind_text(stmt, 9, row->owner);
	db_bind_text(stmt, 10, row->description);
	db_bind_int(stmt, 11, row->created_at);
	db_bind_int(stmt, 12, row->published_at);
	db_bind_ref(stmt, 13, row->parent_id);
	db_bind_int(stmt, 14, row->depth_max);
	db_bind_int(stmt, 15, row->verified_at);
	db_bind_text(stmt, 16, row->broken);
}

static int read_row(sqlite3_stmt *stmt, struct db_image *ret, struct err *err)
{
	int state;
	*ret = (struct db_image){0};
	if (db_column_text(stmt, 0, ret->id, sizeof(ret->id)) < 0 ||
	    db_column_text(stmt, 1, ret->name, sizeof(ret->name)) < 0 ||
	    db_column_enum(stmt, 3, DB_IMAGE_RETIRED, &state) < 0 ||
	    db_column_text(stmt, 4, ret->file, sizeof(ret->file)) < 0 ||
	    db_column_text(stmt, 7, ret->sha256, sizeof(ret->sha256)) < 0 ||
	    db_column_text(stmt, 8, ret->owner, sizeof(ret->owner)) < 0 ||
	    db_column_text(stmt, 9, ret->description, sizeof(ret->description)) < 0 ||
	    db_column_text(stmt, 12, ret->parent_id, sizeof(ret->parent_id)) < 0 ||
	    db_column_text(stmt, 15, ret->broken, sizeof(ret->broken)) < 0)
		return db_fail_row("image", err);
	ret->version = sqlite3_column_int64(stmt, 2);
	ret->state = (enum db_image_state)state;
	ret->virtual_size = sqlite3_column_int64(stmt, 5);
	ret->file_size = sqlite3_column_int64(stmt, 6);
	ret->created_at = sqlite3_column_int64(stmt, 10);
	ret->published_at = sqlite3_column_int64(stmt, 11);
	ret->depth_max = sqlite3_column_int64(stmt, 13);
	ret->verified_at = sqlite3_column_int64(stmt, 14);
	return 0;
}

int db_image_insert(struct db *db, const struct db_image *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO image (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,"
		       " ?13, ?14, ?15, ?16)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the image", err);
}

int db_image_update(struct db *db, const struct db_image *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE image SET name = ?2, version = ?3, state = ?4, file = ?5,"
		       " virtual_size = ?6, file_size = ?7, sha256 = ?8, owner = ?9,"
		       " description = ?10, created_at = ?11, published_at = ?12,"
		       " parent_id = ?13, depth_max = ?14, verified_at = ?15, broken = ?16"
		       " WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the image", err);
}

int db_image_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM image WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the image", err);
}

int db_image_get(struct db *db, const char *id, struct db_image *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "SELECT " COLUMNS " FROM image WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	int stepped = sqlite3_step(stmt);
	int result;
	struct db_image row;
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND, "there is no image '%s'", id);
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "read the image", err);
	else
		result = read_row(stmt, &row, err);
	sqlite3_reset(stmt);
	if (result == 0)
		*ret = row;
	return result;
}

int db_image_next_version(struct db *db, const char *name, int64_t *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "SELECT coalesce(max(version), 0) + 1 FROM image WHERE name = ?1", &stmt,
		       err) < 0)
		return -1;
	db_bind_text(stmt, 1, name);
	int result = 0;
	if (sqlite3_step(stmt) == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	else
		result = db_fail(db, "number the image", err);
	sqlite3_reset(stmt);
	return result;
}

struct walk {
	int (*cb)(void *data, const struct db_image *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_image row;
	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_image_each(struct db *db, int (*cb)(void *data, const struct db_image *row), void *data,
		  struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, "SELECT " COLUMNS " FROM image ORDER BY name, version", &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the images", walk_row, &walk, err);
}
