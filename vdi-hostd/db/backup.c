#include "vdi-hostd/db/backup.h"

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, desktop_id, desktop_name, parent_id, state, image_id, system_bytes, system_file,"     \
	" system_sha256, data_bytes, data_file, data_sha256, memory_mib, vcpus, owner,"            \
	" stored_bytes, created_at"

static void bind(sqlite3_stmt *stmt, const struct db_backup *row)
{
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->desktop_id);
	db_bind_text(stmt, 3, row->desktop_name);
	db_bind_ref(stmt, 4, row->parent_id);
	db_bind_int(stmt, 5, row->state);
	db_bind_text(stmt, 6, row->image_id);
	db_bind_int(stmt, 7, row->disks[DB_DISK_SYSTEM].bytes);
	db_bind_text(stmt, 8, row->disks[DB_DISK_SYSTEM].file);
	db_bind_text(stmt, 9, row->sha256[DB_DISK_SYSTEM]);
	db_bind_int(stmt, 10, row->disks[DB_DISK_DATA].bytes);
	db_bind_ref(stmt, 11, row->disks[DB_DISK_DATA].file);
	db_bind_text(stmt, 12, row->sha256[DB_DISK_DATA]);
	db_bind_int(stmt, 13, row->memory_mib);
	db_bind_int(stmt, 14, row->vcpus);
	db_bind_text(stmt, 15, row->owner);
	db_bind_int(stmt, 16, row->stored_bytes);
	db_bind_int(stmt, 17, row->created_at);
}

static int read_row(sqlite3_stmt *stmt, struct db_backup *ret, struct err *err)
{
	struct db_disk *system = &ret->disks[DB_DISK_SYSTEM], *data = &ret->disks[DB_DISK_DATA];
	const struct {
		int at;
		char *to;
		size_t size;
	} texts[] = {
		{0, ret->id, sizeof(ret->id)},
		{1, ret->desktop_id, sizeof(ret->desktop_id)},
		{2, ret->desktop_name, sizeof(ret->desktop_name)},
		{3, ret->parent_id, sizeof(ret->parent_id)},
		{5, ret->image_id, sizeof(ret->image_id)},
		{7, system->file, sizeof(system->file)},
		{8, ret->sha256[DB_DISK_SYSTEM], sizeof(ret->sha256[0])},
		{10, data->file, sizeof(data->file)},
		{11, ret->sha256[DB_DISK_DATA], sizeof(ret->sha256[0])},
		{14, ret->owner, sizeof(ret->owner)},
	};
	int state;

	*ret = (struct db_backup){0};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (db_column_text(stmt, texts[i].at, texts[i].to, texts[i].size) < 0)
			return db_fail_row("backup", err);
	if (db_column_enum(stmt, 4, DB_BACKUP_BROKEN, &state) < 0)
		return db_fail_row("backup", err);
	ret->state = (enum db_backup_state)state;
	system->bytes = sqlite3_column_int64(stmt, 6);
	data->bytes = sqlite3_column_int64(stmt, 9);
	ret->memory_mib = sqlite3_column_int64(stmt, 12);
	ret->vcpus = sqlite3_column_int64(stmt, 13);
	ret->stored_bytes = sqlite3_column_int64(stmt, 15);
	ret->created_at = sqlite3_column_int64(stmt, 16);
	return 0;
}

int db_backup_insert(struct db *db, const struct db_backup *row, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db,
		       "INSERT INTO backup (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"
		       " ?16, ?17)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the backup", err);
}

int db_backup_update(struct db *db, const struct db_backup *row, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db,
		       "UPDATE backup SET desktop_id = ?2, desktop_name = ?3, parent_id = ?4,"
		       " state = ?5, image_id = ?6, system_bytes = ?7, system_file = ?8,"
		       " system_sha256 = ?9, data_bytes = ?10, data_file = ?11, data_sha256 = ?12,"
		       " memory_mib = ?13, vcpus = ?14, owner = ?15, stored_bytes = ?16,"
		       " created_at = ?17 WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the backup", err);
}

int db_backup_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db, "DELETE FROM backup WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run(db, stmt, "delete the backup", err);
}

static int read_one(struct db *db, sqlite3_stmt *stmt, const char *key, struct db_backup *ret,
		    struct err *err)
{
	struct db_backup row;
	int result;

	db_bind_text(stmt, 1, key);
	int stepped = sqlite3_step(stmt);
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND,
				 "there is no backup '%.63s'; `vdictl backup list` shows those "
				 "there are",
				 key);
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "read the backup", err);
	else
		result = read_row(stmt, &row, err);
	sqlite3_reset(stmt);
	if (result == 0)
		*ret = row;
	return result;
}

int db_backup_get(struct db *db, const char *id, struct db_backup *ret, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db, "SELECT " COLUMNS " FROM backup WHERE id = ?1", &stmt, err) < 0)
		return -1;
	return read_one(db, stmt, id, ret, err);
}

int db_backup_latest(struct db *db, const char *desktop_id, struct db_backup *ret, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db,
		       "SELECT " COLUMNS " FROM backup WHERE desktop_id = ?1 AND state = 1"
		       " ORDER BY created_at DESC, rowid DESC LIMIT 1",
		       &stmt, err) < 0)
		return -1;
	return read_one(db, stmt, desktop_id, ret, err);
}

struct walk {
	int (*cb)(void *data, const struct db_backup *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_backup row;

	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_backup_each(struct db *db, const char *desktop,
		   int (*cb)(void *data, const struct db_backup *row), void *data, struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};

	if (db_prepare(db,
		       "SELECT " COLUMNS " FROM backup WHERE ?1 = '' OR desktop_id = ?1 OR"
		       " desktop_name = ?1 ORDER BY created_at, rowid",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, desktop ? desktop : "");
	return db_each(db, stmt, "read the backups", walk_row, &walk, err);
}
