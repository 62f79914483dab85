#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

static void keeps_what_it_is_told(void **state)
{
	struct fixture *f = *state;
	char value[8];
	assert_fails(f, ERR_NOT_FOUND, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	assert_works(f, db_meta_set(f->db, "k", "a", &f->err));
	assert_works(f, db_meta_set(f->db, "k", "b", &f->err));
	fixture_reopen(f);
	assert_works(f, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	assert_string_equal(value, "b");
	assert_works(f, db_meta_set(f->db, "k", "longer than eight", &f->err));
	assert_fails(f, ERR_CORRUPT, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
}

static void transactions_are_whole(void **state)
{
	struct fixture *f = *state;
	char value[8];
	assert_works(f, db_begin(f->db, "one", &f->err));
	assert_fails(f, ERR_INTERNAL, db_begin(f->db, "two", &f->err));
	assert_non_null(strstr(f->err.msg, "one"));
	assert_works(f, db_meta_set(f->db, "k", "a", &f->err));
	db_rollback(f->db);
	db_rollback(f->db);
	assert_fails(f, ERR_NOT_FOUND, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	assert_works(f, db_begin(f->db, "two", &f->err));
	assert_works(f, db_meta_set(f->db, "k", "a", &f->err));
	assert_works(f, db_commit(f->db, &f->err));
	assert_works(f, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	/* one that is left open is not committed by the end */
	assert_works(f, db_begin(f->db, "three", &f->err));
	assert_works(f, db_meta_set(f->db, "k", "b", &f->err));
	fixture_reopen(f);
	assert_works(f, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	assert_string_equal(value, "a");
}

static void second_opener_is_refused(void **state)
{
	struct fixture *f = *state;
	struct db *second = NULL;
	char pid[32];
	assert_fails(f, ERR_BUSY, db_open(f->path, &second, &f->err));
	assert_null(second);
	snprintf(pid, sizeof(pid), "(pid %d)", (int)getpid());
	assert_non_null(strstr(f->err.msg, pid));
	fixture_reopen(f);
}

/* Killed a moment ago, it is not gone yet: its lock goes last. */
static void one_that_ends_is_waited_for(void **state)
{
	struct fixture *f = *state;
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* it has the lock as well as its parent */
		usleep(200000);
		_exit(0);
	}
	fixture_reopen(f);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void newer_file_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct stat before, after;
	fixture_sql(f, "PRAGMA journal_mode = DELETE; PRAGMA user_version = 1000");
	assert_int_equal(stat(f->path, &before), 0);
	assert_fails(f, ERR_UNSUPPORTED, db_open(f->path, &f->db, &f->err));
	assert_null(f->db);
	assert_non_null(strstr(f->err.msg, "1000"));
	assert_int_equal(stat(f->path, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	assert_int_equal(before.st_size, after.st_size);
}

static void migration_that_fails_changes_nothing(void **state)
{
	struct fixture *f = *state;
	sqlite3 *sqlite;
	sqlite3_stmt *stmt;
	/* as if made by somebody else: the first migration meets a table of its own name half-way
	 */
	db_close(TAKE_PTR(f->db));
	assert_int_equal(unlink(f->path), 0);
	fixture_sql(f, "CREATE TABLE desktop (x)");
	assert_fails(f, ERR_IO, db_open(f->path, &f->db, &f->err));
	assert_int_equal(sqlite3_open(f->path, &sqlite), SQLITE_OK);
	assert_int_equal(
		sqlite3_prepare_v2(sqlite, "SELECT count(*) FROM sqlite_schema", -1, &stmt, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	assert_int_equal(sqlite3_column_int(stmt, 0), 1);
	sqlite3_finalize(stmt);
	sqlite3_close(sqlite);
}

static void write_at(const char *path, off_t at, const char *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, at), len);
	close(fd);
}

static void damage_is_recognised(void **state)
{
	struct fixture *f = *state;
	char junk[8192];
	memset(junk, 0x5a, sizeof(junk));
	fixture_sql(f, "PRAGMA wal_checkpoint(TRUNCATE)");
	write_at(f->path, 100, junk, sizeof(junk)); /* the schema's page, behind a good header */
	assert_fails(f, ERR_CORRUPT, db_open(f->path, &f->db, &f->err));
	assert_non_null(strstr(f->err.msg, "backup"));
	write_at(f->path, 0, junk, sizeof(junk)); /* no database at all */
	assert_fails(f, ERR_CORRUPT, db_open(f->path, &f->db, &f->err));
	assert_null(f->db);
}

static void torn_file_is_recognised(void **state)
{
	struct fixture *f = *state;
	struct db_image row = an_image("a", "a", 1);
	assert_works(f, db_image_insert(f->db, &row, &f->err));
	fixture_sql(f, "PRAGMA wal_checkpoint(TRUNCATE)");
	assert_int_equal(truncate(f->path, 4096 * 2), 0);
	int failed = db_open(f->path, &f->db, &f->err);
	if (!failed)
		failed = db_image_get(f->db, "a", &row, &f->err);
	assert_int_equal(failed, -1);
	assert_int_equal(f->err.code, ERR_CORRUPT);
}

static void full_disk_loses_nothing(void **state)
{
	struct fixture *f = *state;
	char *big = mem_calloc(200001, 1);
	char value[8];
	struct rlimit limit, before;
	memset(big, 'x', 200000);
	assert_works(f, db_meta_set(f->db, "k", "a", &f->err));
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 150000; /* write(2) fails from there on */
	setrlimit(RLIMIT_FSIZE, &limit);
	int alone = db_meta_set(f->db, "k", big, &f->err);
	enum err_code code = f->err.code;
	int begun = db_begin(f->db, __func__, &f->err);
	int inside = db_meta_set(f->db, "k", "b", &f->err);
	inside = inside < 0 ? inside : db_meta_set(f->db, "k2", big, &f->err);
	inside = inside < 0 ? inside : db_commit(f->db, &f->err);
	db_rollback(f->db);
	setrlimit(RLIMIT_FSIZE, &before);
	free(big);
	assert_int_equal(alone, -1);
	assert_true(code == ERR_LIMIT || code == ERR_IO);
	assert_int_equal(begun, 0);
	assert_int_equal(inside, -1);
	/* what was there is there, and there is room again */
	assert_works(f, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	assert_string_equal(value, "a");
	assert_works(f, db_meta_set(f->db, "k", "c", &f->err));
	fixture_reopen(f);
	assert_works(f, db_meta_get(f->db, "k", value, sizeof(value), &f->err));
	assert_string_equal(value, "c");
}

static void folder_that_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct db *db = NULL;
	assert_fails(f, ERR_NOT_FOUND, db_open("/nonexistent/db", &db, &f->err));
	assert_null(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(keeps_what_it_is_told),
		test_with_db(transactions_are_whole),
		test_with_db(second_opener_is_refused),
		test_with_db(one_that_ends_is_waited_for),
		test_with_db(newer_file_is_left_alone),
		test_with_db(migration_that_fails_changes_nothing),
		test_with_db(damage_is_recognised),
		test_with_db(torn_file_is_recognised),
		test_with_db(full_disk_loses_nothing),
		test_with_db(folder_that_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
