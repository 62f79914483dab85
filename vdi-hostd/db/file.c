#include "vdi-hostd/db/file.h"

#include "vdi-hostd/db/private.h"

/* kind, folder, file, id, name, owner, image, settled; the numbers are those of the enums */
static const char each_sql[] =
	"SELECT 0, 0, file, id, name || ':' || version, owner, coalesce(parent_id, ''), state != 0"
	" FROM image"
	" UNION ALL SELECT 1, 1, system_file, id, name, owner, image_id, op IN (0, 2, 3, 5, 6)"
	" FROM desktop"
	" UNION ALL SELECT 1, 1, data_file, id, name, owner, '', op IN (0, 2, 3, 5, 6)"
	" FROM desktop WHERE data_file IS NOT NULL"
	" UNION ALL SELECT 1, 1, previous_file, id, name, owner, coalesce(previous_image_id, image_id),"
	" op IN (0, 2, 3, 5, 6) FROM desktop WHERE previous_file IS NOT NULL"
	" UNION ALL SELECT 2, 1, s.system_file, s.id, d.name || '/' || s.name, d.owner, s.image_id,"
	" s.state = 1 FROM snapshot s JOIN desktop d ON d.id = s.desktop_id"
	" UNION ALL SELECT 2, 1, s.data_file, s.id, d.name || '/' || s.name, d.owner, '',"
	" s.state = 1 FROM snapshot s JOIN desktop d ON d.id = s.desktop_id"
	" WHERE s.data_file IS NOT NULL"
	" UNION ALL SELECT 2, 1, s.next_system_file, s.id, d.name || '/' || s.name, d.owner,"
	" s.image_id, 0 FROM snapshot s JOIN desktop d ON d.id = s.desktop_id"
	" WHERE s.next_system_file IS NOT NULL"
	" UNION ALL SELECT 2, 1, s.next_data_file, s.id, d.name || '/' || s.name, d.owner, '', 0"
	" FROM snapshot s JOIN desktop d ON d.id = s.desktop_id"
	" WHERE s.next_data_file IS NOT NULL"
	" UNION ALL SELECT 2, 4, s.memory_file, s.id, d.name || '/' || s.name, d.owner, '',"
	" s.state = 1 FROM snapshot s JOIN desktop d ON d.id = s.desktop_id"
	" WHERE s.memory_file IS NOT NULL"
	" UNION ALL SELECT 3, 3, system_file, id, desktop_name, owner, '', state = 1 FROM backup"
	" UNION ALL SELECT 3, 3, data_file, id, desktop_name, owner, '', state = 1 FROM backup"
	" WHERE data_file IS NOT NULL"
	" UNION ALL SELECT 4, 2, file, id, name, owner, '', state = 1 FROM iso";

struct walk {
	int (*cb)(void *data, const struct db_file *file);
	void *data;
};

static int walk_file(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	int kind, folder;
	const struct db_file file = {
		.file = (const char *)sqlite3_column_text(stmt, 2),
		.id = (const char *)sqlite3_column_text(stmt, 3),
		.name = (const char *)sqlite3_column_text(stmt, 4),
		.owner = (const char *)sqlite3_column_text(stmt, 5),
		.image_id = (const char *)sqlite3_column_text(stmt, 6),
		.settled = sqlite3_column_int(stmt, 7),
	};
	if (db_column_enum(stmt, 0, DB_FILE_LAST, &kind) < 0 ||
	    db_column_enum(stmt, 1, DB_FILE_IN_LAST, &folder) < 0 || !file.file || !file.id ||
	    !file.name || !file.owner || !file.image_id)
		return db_fail_row("files", err);
	struct db_file found = file;
	found.kind = (enum db_file_kind)kind;
	found.folder = (enum db_file_folder)folder;
	return walk->cb(walk->data, &found);
}

int db_file_each(struct db *db, int (*cb)(void *data, const struct db_file *file), void *data,
		 struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, each_sql, &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read which files there are", walk_file, &walk, err);
}

struct user_walk {
	int (*cb)(void *data, const struct db_image_user *user);
	void *data;
};

static int walk_user(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct user_walk *walk = ctx;
	const struct db_image_user user = {
		.what = (const char *)sqlite3_column_text(stmt, 0),
		.name = (const char *)sqlite3_column_text(stmt, 1),
	};
	if (!user.what || !user.name)
		return db_fail_row("image", err);
	return walk->cb(walk->data, &user);
}

int db_image_users(struct db *db, const char *image_id,
		   int (*cb)(void *data, const struct db_image_user *user), void *data,
		   struct err *err)
{
	static const char sql[] =
		"SELECT 'desktop', name FROM desktop WHERE image_id = ?1"
		" OR next_image_id = ?1 OR previous_image_id = ?1"
		" UNION SELECT 'image', name || ':' || version FROM image WHERE parent_id = ?1"
		" UNION SELECT 'snapshot', d.name || '/' || s.name FROM snapshot s"
		" JOIN desktop d ON d.id = s.desktop_id WHERE s.image_id = ?1"
		" ORDER BY 1, 2";
	sqlite3_stmt *stmt;
	struct user_walk walk = {cb, data};
	if (db_prepare(db, sql, &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, image_id);
	return db_each(db, stmt, "read what stands on the image", walk_user, &walk, err);
}

int db_image_counts(struct db *db, const char *image_id, int64_t *ret_desktops,
		    int64_t *ret_snapshots, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "SELECT (SELECT count(*) FROM desktop WHERE image_id = ?1),"
		       " (SELECT count(*) FROM snapshot WHERE image_id = ?1)",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, image_id);
	int result = 0;
	if (sqlite3_step(stmt) == SQLITE_ROW) {
		*ret_desktops = sqlite3_column_int64(stmt, 0);
		*ret_snapshots = sqlite3_column_int64(stmt, 1);
	} else {
		result = db_fail(db, "count what stands on the image", err);
	}
	sqlite3_reset(stmt);
	return result;
}

int64_t db_changes(struct db *db)
{
	return sqlite3_total_changes64(db->sqlite);
}
