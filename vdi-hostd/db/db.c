#include "vdi-hostd/db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define SLOT_MAX 65535
#define RESERVE  (8 << 20)

/* One that was killed just now is gone when the kernel has taken all of it back. */
#define LOCK_WAIT_MS  3000
#define LOCK_PAUSE_MS 20

/* small: the rows that matter are in the daemon's memory anyway */
static const char pragmas[] = "PRAGMA journal_mode = WAL;"
			      "PRAGMA synchronous = FULL;"
			      "PRAGMA foreign_keys = ON;"
			      "PRAGMA trusted_schema = OFF;"
			      "PRAGMA cache_size = -512;"
			      "PRAGMA journal_size_limit = 8388608;"; /* RESERVE */

int db_fail(struct db *db, const char *what, struct err *err)
{
	const char *words = sqlite3_errmsg(db->sqlite);
	switch (sqlite3_extended_errcode(db->sqlite)) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
		return err_set(err, ERR_EXISTS, "cannot %s: there is one like it (%s)", what,
			       words);
	case SQLITE_CONSTRAINT_FOREIGNKEY:
		return err_set(err, ERR_CONFLICT, "cannot %s: another row refers to it", what);
	default:
		break;
	}
	switch (sqlite3_errcode(db->sqlite)) {
	case SQLITE_FULL:
		return err_set(err, ERR_LIMIT,
			       "cannot %s: the disk of the database is full; make room and try "
			       "again, nothing was changed",
			       what);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(err, ERR_CORRUPT,
			       "cannot %s: the database is damaged (%s); stop the daemon and "
			       "restore a backup",
			       what, words);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(err, ERR_BUSY, "cannot %s: another process holds the database",
			       what);
	case SQLITE_CONSTRAINT:
		return err_set(err, ERR_CONFLICT, "cannot %s: %s", what, words);
	default:
		return err_set(err, ERR_IO, "cannot %s: the database says: %s", what, words);
	}
}

int db_fail_row(const char *table, struct err *err)
{
	return err_set(err, ERR_CORRUPT,
		       "the database holds a row of '%s' that this daemon never wrote; restore a "
		       "backup",
		       table);
}

static bool lock(int fd)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
	for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited += LOCK_PAUSE_MS) {
		if (waited >= LOCK_WAIT_MS)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/* One daemon a state folder, whatever became of the last one: a lock goes with its process. */
static int take_lock(const char *path, struct err *err)
{
	char name[512], holder[32] = "";
	snprintf(name, sizeof(name), "%s.lock", path);
	_cleanup_close_ int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot open %s", name);
	if (!lock(fd)) {
		ssize_t n = pread(fd, holder, sizeof(holder) - 1, 0);
		holder[n > 0 ? n : 0] = '\0';
		return err_set(err, ERR_BUSY,
			       "another daemon (pid %s) works on %s; stop it, or give this one "
			       "another --state",
			       holder[0] ? holder : "unknown", path);
	}
	int n = snprintf(holder, sizeof(holder), "%d", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, holder, (size_t)n, 0) != n)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", name);
	return TAKE_FD(fd);
}

/*
 * Room for the log, taken while there is some: on a disk that guests have filled, that a desktop
 * was paused for it and how a job ended must still be written down. What cannot be had is done
 * without.
 */
static void take_reserve(const char *path)
{
	char name[512];
	snprintf(name, sizeof(name), "%s-wal", path);
	_cleanup_close_ int fd = open(name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	int ignored = fd < 0 ? -1 : fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, RESERVE);
	(void)ignored;
}

int db_open(const char *path, struct db **ret, struct err *err)
{
	int lock_fd = take_lock(path, err);
	if (lock_fd < 0)
		return -1;
	struct db *db = mem_new(struct db);
	db->lock_fd = lock_fd;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
		    SQLITE_OPEN_NOFOLLOW;
	if (sqlite3_open_v2(path, &db->sqlite, flags, NULL) != SQLITE_OK ||
	    sqlite3_exec(db->sqlite, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) !=
		    SQLITE_OK) {
		db_fail(db, "open the database", err);
		db_close(db);
		return -1;
	}
	/* before the journal's mode, which is kept in the file */
	if (db_check_version(db, err) < 0) {
		db_close(db);
		return -1;
	}
	if (sqlite3_exec(db->sqlite, pragmas, NULL, NULL, NULL) != SQLITE_OK) {
		db_fail(db, "open the database", err);
		db_close(db);
		return -1;
	}
	if (db_migrate(db, err) < 0) {
		db_close(db);
		return -1;
	}
	take_reserve(path);
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	db_rollback(db);
	for (size_t i = 0; i < db->n_statements; i++)
		sqlite3_finalize(db->statements[i].stmt);
	sqlite3_close(db->sqlite);
	close(db->lock_fd);
	free(db);
}

int db_prepare(struct db *db, const char *sql, sqlite3_stmt **ret, struct err *err)
{
	for (size_t i = 0; i < db->n_statements; i++) {
		if (db->statements[i].sql != sql)
			continue;
		*ret = db->statements[i].stmt;
		sqlite3_reset(*ret);
		sqlite3_clear_bindings(*ret);
		return 0;
	}
	if (db->n_statements == DB_STATEMENTS_MAX)
		abort(); /* a literal too many: DB_STATEMENTS_MAX has to grow */
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) !=
	    SQLITE_OK)
		return db_fail(db, "prepare a statement", err);
	db->statements[db->n_statements].sql = sql;
	db->statements[db->n_statements++].stmt = stmt;
	*ret = stmt;
	return 0;
}

void db_bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
	sqlite3_bind_text(stmt, at, text, -1, SQLITE_TRANSIENT);
}

void db_bind_ref(sqlite3_stmt *stmt, int at, const char *text)
{
	if (text[0])
		db_bind_text(stmt, at, text);
	else
		sqlite3_bind_null(stmt, at);
}

void db_bind_int(sqlite3_stmt *stmt, int at, int64_t value)
{
	sqlite3_bind_int64(stmt, at, value);
}

int db_column_text(sqlite3_stmt *stmt, int at, char *ret, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(stmt, at);
	return str_copy(ret, size, text ? text : "");
}

int db_column_enum(sqlite3_stmt *stmt, int at, int last, int *ret)
{
	sqlite3_int64 value = sqlite3_column_int64(stmt, at);
	if (value < 0 || value > last)
		return -1;
	*ret = (int)value;
	return 0;
}

int db_run(struct db *db, sqlite3_stmt *stmt, const char *what, struct err *err)
{
	int stepped = sqlite3_step(stmt);
	if (stepped == SQLITE_DONE) {
		sqlite3_reset(stmt);
		/* outside a transaction this statement was one of its own */
		if (!db->transaction)
			db_tell(db, true);
		return 0;
	}
	db_fail(db, what, err);
	sqlite3_reset(stmt);
	return -1;
}

int db_run_one(struct db *db, sqlite3_stmt *stmt, const char *what, struct err *err)
{
	if (db_run(db, stmt, what, err) < 0)
		return -1;
	if (sqlite3_changes(db->sqlite) == 0)
		return err_set(err, ERR_NOT_FOUND, "cannot %s: there is no such row", what);
	return 0;
}

int db_each(struct db *db, sqlite3_stmt *stmt, const char *what,
	    int (*row)(void *ctx, sqlite3_stmt *stmt, struct err *err), void *ctx, struct err *err)
{
	int stepped, result = 0;
	while (result == 0 && (stepped = sqlite3_step(stmt)) == SQLITE_ROW)
		result = row(ctx, stmt, err);
	if (result == 0 && stepped != SQLITE_DONE)
		result = db_fail(db, what, err);
	sqlite3_reset(stmt);
	return result;
}

int db_free_slot(struct db *db, const char *sql, const char *what, int64_t *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, sql, &stmt, err) < 0)
		return -1;
	int result = 0;
	if (sqlite3_step(stmt) != SQLITE_ROW)
		result = db_fail(db, "find a free slot", err);
	else if (sqlite3_column_int64(stmt, 0) > SLOT_MAX)
		result = err_set(err, ERR_LIMIT, "there are %d %ss already, and no more can be had",
				 SLOT_MAX, what);
	else
		*ret = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return result;
}

int db_begin(struct db *db, const char *where, struct err *err)
{
	if (db->transaction)
		return err_set(err, ERR_INTERNAL, "%s: the transaction of %s is still open", where,
			       db->transaction);
	if (sqlite3_exec(db->sqlite, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
		return db_fail(db, "begin a transaction", err);
	db->transaction = where;
	return 0;
}

int db_commit(struct db *db, struct err *err)
{
	if (sqlite3_exec(db->sqlite, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
		db_fail(db, "commit", err);
		db_rollback(db);
		return -1;
	}
	db->transaction = NULL;
	db_tell(db, true);
	return 0;
}

void db_rollback(struct db *db)
{
	if (!db->transaction)
		return;
	db->transaction = NULL;
	sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
	db_tell(db, false);
}

int db_meta_get(struct db *db, const char *key, char *ret, size_t size, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "SELECT value FROM meta WHERE key = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, key);
	int stepped = sqlite3_step(stmt);
	int result = 0;
	if (stepped == SQLITE_DONE)
		result = err_set(err, ERR_NOT_FOUND, "nothing is known of '%s'", key);
	else if (stepped != SQLITE_ROW)
		result = db_fail(db, "read what is known of this host", err);
	else if (db_column_text(stmt, 0, ret, size) < 0)
		result = db_fail_row("meta", err);
	sqlite3_reset(stmt);
	return result;
}

int db_meta_set(struct db *db, const char *key, const char *value, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO meta (key, value) VALUES (?1, ?2)"
		       " ON CONFLICT (key) DO UPDATE SET value = ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, key);
	db_bind_text(stmt, 2, value);
	return db_run(db, stmt, "keep what is known of this host", err);
}
