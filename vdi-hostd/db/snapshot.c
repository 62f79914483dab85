#include "vdi-hostd/db/snapshot.h"

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, desktop_id, parent_id, name, description, state, kind, image_id, system_bytes,"       \
	" system_file, data_bytes, data_file, next_system_file, next_data_file, memory_file,"      \
	" memory_mib, vcpus, created_at"

static void bind(sqlite3_stmt *stmt, const struct db_snapshot *row)
{
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->desktop_id);
	db_bind_ref(stmt, 3, row->parent_id);
	db_bind_text(stmt, 4, row->name);
	db_bind_text(stmt, 5, row->description);
	db_bind_int(stmt, 6, row->state);
	db_bind_int(stmt, 7, row->kind);
	db_bind_text(stmt, 8, row->image_id);
	db_bind_int(stmt, 9, row->disks[DB_DISK_SYSTEM].bytes);
	db_bind_text(stmt, 10, row->disks[DB_DISK_SYSTEM].file);
	db_bind_int(stmt, 11, row->disks[DB_DISK_DATA].bytes);
	db_bind_ref(stmt, 12, row->disks[DB_DISK_DATA].file);
	db_bind_ref(stmt, 13, row->next[DB_DISK_SYSTEM]);
	db_bind_ref(stmt, 14, row->next[DB_DISK_DATA]);
	db_bind_ref(stmt, 15, row->memory_file);
	db_bind_int(stmt, 16, row->memory_mib);
	db_bind_int(stmt, 17, row->vcpus);
	db_bind_int(stmt, 18, row->created_at);
}

static int read_row(sqlite3_stmt *stmt, struct db_snapshot *ret, struct err *err)
{
	struct db_disk *system = &ret->disks[DB_DISK_SYSTEM], *data = &ret->disks[DB_DISK_DATA];
	const struct {
		int at;
		char *to;
		size_t size;
	} texts[] = {
		{0, ret->id, sizeof(ret->id)},
		{1, ret->desktop_id, sizeof(ret->desktop_id)},
		{2, ret->parent_id, sizeof(ret->parent_id)},
		{3, ret->name, sizeof(ret->name)},
		{4, ret->description, sizeof(ret->description)},
		{7, ret->image_id, sizeof(ret->image_id)},
		{9, system->file, sizeof(system->file)},
		{11, data->file, sizeof(data->file)},
		{12, ret->next[DB_DISK_SYSTEM], sizeof(ret->next[0])},
		{13, ret->next[DB_DISK_DATA], sizeof(ret->next[0])},
		{14, ret->memory_file, sizeof(ret->memory_file)},
	};
	int state, kind;

	*ret = (struct db_snapshot){0};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (db_column_text(stmt, texts[i].at, texts[i].to, texts[i].size) < 0)
			return db_fail_row("snapshot", err);
	if (db_column_enum(stmt, 5, DB_SNAPSHOT_DELETING, &state) < 0 ||
	    db_column_enum(stmt, 6, DB_SNAPSHOT_MEMORY, &kind) < 0)
		return db_fail_row("snapshot", err);
	ret->state = (enum db_snapshot_state)state;
	ret->kind = (enum db_snapshot_kind)kind;
	system->bytes = sqlite3_column_int64(stmt, 8);
	data->bytes = sqlite3_column_int64(stmt, 10);
	ret->memory_mib = sqlite3_column_int64(stmt, 15);
	ret->vcpus = sqlite3_column_int64(stmt, 16);
	ret->created_at = sqlite3_column_int64(stmt, 17);
	return 0;
}

int db_snapshot_insert(struct db *db, const struct db_snapshot *row, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db,
		       "INSERT INTO snapshot (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"
		       " ?16, ?17, ?18)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the snapshot", err);
}

int db_snapshot_update(struct db *db, const struct db_snapshot *row, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db,
		       "UPDATE snapshot SET desktop_id = ?2, parent_id = ?3, name = ?4,"
		       " description = ?5, state = ?6, kind = ?7, image_id = ?8, system_bytes = ?9,"
		       " system_file = ?10, data_bytes = ?11, data_file = ?12,"
		       " next_system_file = ?13, next_data_file = ?14, memory_file = ?15,"
		       " memory_mib = ?16, vcpus = ?17, created_at = ?18 WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the snapshot", err);
}

static int run_with(struct db *db, const char *sql, const char *a, const char *b, struct err *err)
{
	sqlite3_stmt *stmt;

	if (db_prepare(db, sql, &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, a);
	if (b)
		db_bind_ref(stmt, 2, b);
	return db_run(db, stmt, "delete the snapshot", err);
}

int db_snapshot_delete(struct db *db, const struct db_snapshot *row, struct err *err)
{
	if (run_with(db, "UPDATE snapshot SET parent_id = ?2 WHERE parent_id = ?1", row->id,
		     row->parent_id, err) < 0)
		return -1;
	return run_with(db, "DELETE FROM snapshot WHERE id = ?1", row->id, NULL, err);
}

int db_snapshot_delete_all(struct db *db, const char *desktop_id, struct err *err)
{
	if (run_with(db, "UPDATE snapshot SET parent_id = NULL WHERE desktop_id = ?1", desktop_id,
		     NULL, err) < 0)
		return -1;
	return run_with(db, "DELETE FROM snapshot WHERE desktop_id = ?1", desktop_id, NULL, err);
}

int db_snapshot_get(struct db *db, const char *desktop_id, const char *ref, struct db_snapshot *ret,
		    struct err *err)
{
	sqlite3_stmt *stmt;
	struct db_snapshot row;
	int result;

	if (db_prepare(db,
		       "SELECT " COLUMNS
		       " FROM snapshot WHERE desktop_id = ?1 AND (name = ?2 OR id = ?2)"
		       " ORDER BY name = ?2 DESC LIMIT 1",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, desktop_id);
	db_bind_text(stmt, 2, ref);
	int stepped = sqlite3_step(stmt);
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND,
				 "the desktop has no snapshot '%.63s'; `vdictl desktop snapshot "
				 "list` shows those there are",
				 ref);
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "read the snapshot", err);
	else
		result = read_row(stmt, &row, err);
	sqlite3_reset(stmt);
	if (result == 0)
		*ret = row;
	return result;
}

struct walk {
	int (*cb)(void *data, const struct db_snapshot *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_snapshot row;

	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_snapshot_each(struct db *db, const char *desktop_id,
		     int (*cb)(void *data, const struct db_snapshot *row), void *data,
		     struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};

	if (db_prepare(db,
		       "SELECT " COLUMNS " FROM snapshot WHERE ?1 = '' OR desktop_id = ?1"
		       " ORDER BY created_at, rowid",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, desktop_id ? desktop_id : "");
	return db_each(db, stmt, "read the snapshots", walk_row, &walk, err);
}
