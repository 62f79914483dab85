#include "vdi-hostd/db/desktop.h"

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, name, slot, image_id, memory_mib, vcpus, system_bytes, system_file, owner,"           \
	" profile, autostart, restart, wanted, op, failed, state_reason, pid,"                     \
	" start_time, boot_id, started_at, created_at, data_bytes, data_file,"                     \
	" disposable, snapshot_id, iso_id, boot, next_image_id, previous_image_id,"                \
	" previous_bytes, previous_file, held"

static void bind(sqlite3_stmt *stmt, const struct db_desktop *row)
{
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->name);
	db_bind_int(stmt, 3, row->slot);
	db_bind_text(stmt, 4, row->image_id);
	db_bind_int(stmt, 5, row->memory_mib);
	db_bind_int(stmt, 6, row->vcpus);
	db_bind_int(stmt, 7, row->disks[DB_DISK_SYSTEM].bytes);
	db_bind_text(stmt, 8, row->disks[DB_DISK_SYSTEM].file);
	db_bind_text(stmt, 9, row->owner);
	db_bind_text(stmt, 10, row->profile);
	db_bind_int(stmt, 11, row->autostart);
	db_bind_int(stmt, 12, row->restart);
	db_bind_int(stmt, 13, row->wanted);
	db_bind_int(stmt, 14, row->op);
	db_bind_int(stmt, 15, row->failed);
	db_bind_text(stmt, 16, row->state_reason);
	db_bind_int(stmt, 17, row->pid);
	db_bind_int(stmt, 18, (int64_t)row->start_time);
	db_bind_text(stmt, 19, row->boot_id);
	db_bind_int(stmt, 20, row->started_at);
	db_bind_int(stmt, 21, row->created_at);
	db_bind_int(stmt, 22, row->disks[DB_DISK_DATA].bytes);
	db_bind_ref(stmt, 23, row->disks[DB_DISK_DATA].file);
	db_bind_int(stmt, 24, row->disposable);
	db_bind_ref(stmt, 25, row->snapshot_id);
	db_bind_ref(stmt, 26, row->iso_id);
	db_bind_int(stmt, 27, row->boot);
	db_bind_ref(stmt, 28, row->next_image_id);
	db_bind_ref(stmt, 29, row->previous_image_id);
	db_bind_int(stmt, 30, row->previous.bytes);
	db_bind_ref(stmt, 31, row->previous.file);
	db_bind_int(stmt, 32, row->held);
}

struct text_column {
	int at;
	char *to;
	size_t size;
};

static int read_texts(sqlite3_stmt *stmt, struct db_desktop *ret)
{
	struct db_disk *system = &ret->disks[DB_DISK_SYSTEM], *data = &ret->disks[DB_DISK_DATA];
	const struct text_column columns[] = {
		{0, ret->id, sizeof(ret->id)},
		{1, ret->name, sizeof(ret->name)},
		{3, ret->image_id, sizeof(ret->image_id)},
		{7, system->file, sizeof(system->file)},
		{8, ret->owner, sizeof(ret->owner)},
		{9, ret->profile, sizeof(ret->profile)},
		{15, ret->state_reason, sizeof(ret->state_reason)},
		{18, ret->boot_id, sizeof(ret->boot_id)},
		{22, data->file, sizeof(data->file)},
		{24, ret->snapshot_id, sizeof(ret->snapshot_id)},
		{25, ret->iso_id, sizeof(ret->iso_id)},
		{27, ret->next_image_id, sizeof(ret->next_image_id)},
		{28, ret->previous_image_id, sizeof(ret->previous_image_id)},
		{30, ret->previous.file, sizeof(ret->previous.file)},
	};
	for (size_t i = 0; i < ARRAY_LEN(columns); i++)
		if (db_column_text(stmt, columns[i].at, columns[i].to, columns[i].size) < 0)
			return -1;
	return 0;
}

static int read_row(sqlite3_stmt *stmt, struct db_desktop *ret, struct err *err)
{
	int restart, op, boot;
	*ret = (struct db_desktop){0};
	if (read_texts(stmt, ret) < 0 ||
	    db_column_enum(stmt, 11, DB_RESTART_ALWAYS, &restart) < 0 ||
	    db_column_enum(stmt, 13, DB_DESKTOP_OP_LAST, &op) < 0 ||
	    db_column_enum(stmt, 26, DB_BOOT_CDROM, &boot) < 0)
		return db_fail_row("desktop", err);
	ret->slot = sqlite3_column_int64(stmt, 2);
	ret->memory_mib = sqlite3_column_int64(stmt, 4);
	ret->vcpus = sqlite3_column_int64(stmt, 5);
	ret->disks[DB_DISK_SYSTEM].bytes = sqlite3_column_int64(stmt, 6);
	ret->autostart = sqlite3_column_int(stmt, 10) != 0;
	ret->restart = (enum db_desktop_restart)restart;
	ret->wanted = sqlite3_column_int(stmt, 12) != 0;
	ret->op = (enum db_desktop_op)op;
	ret->failed = sqlite3_column_int(stmt, 14) != 0;
	ret->pid = sqlite3_column_int64(stmt, 16);
	ret->start_time = (uint64_t)sqlite3_column_int64(stmt, 17);
	ret->started_at = sqlite3_column_int64(stmt, 19);
	ret->created_at = sqlite3_column_int64(stmt, 20);
	ret->disks[DB_DISK_DATA].bytes = sqlite3_column_int64(stmt, 21);
	ret->disposable = sqlite3_column_int(stmt, 23) != 0;
	ret->boot = (enum db_desktop_boot)boot;
	ret->previous.bytes = sqlite3_column_int64(stmt, 29);
	ret->held = sqlite3_column_int(stmt, 31) != 0;
	return 0;
}

int db_desktop_insert(struct db *db, const struct db_desktop *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO desktop (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,"
		       " ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28,"
		       " ?29, ?30, ?31, ?32)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the desktop", err);
}

int db_desktop_update(struct db *db, const struct db_desktop *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE desktop SET name = ?2, slot = ?3, image_id = ?4, memory_mib = ?5,"
		       " vcpus = ?6, system_bytes = ?7, system_file = ?8, owner = ?9, profile ="
		       " ?10, autostart = ?11, restart = ?12, wanted = ?13, op = ?14, failed ="
		       " ?15, state_reason = ?16, pid = ?17, start_time = ?18, boot_id = ?19,"
		       " started_at = ?20, created_at = ?21, data_bytes = ?22, data_file = ?23,"
		       " disposable = ?24, snapshot_id = ?25, iso_id = ?26, boot = ?27,"
		       " next_image_id = ?28, previous_image_id = ?29, previous_bytes = ?30,"
		       " previous_file = ?31, held = ?32 WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the desktop", err);
}

int db_desktop_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM desktop WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the desktop", err);
}

int db_desktop_free_slot(struct db *db, int64_t *ret, struct err *err)
{
	static const char sql[] =
		"SELECT min(slot) FROM (SELECT 1 AS slot UNION SELECT slot + 1 FROM desktop)"
		" WHERE slot NOT IN (SELECT slot FROM desktop)";
	return db_free_slot(db, sql, "desktop", ret, err);
}

struct walk {
	int (*cb)(void *data, const struct db_desktop *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_desktop row;
	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_desktop_each(struct db *db, int (*cb)(void *data, const struct db_desktop *row), void *data,
		    struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, "SELECT " COLUMNS " FROM desktop ORDER BY name", &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the desktops", walk_row, &walk, err);
}
