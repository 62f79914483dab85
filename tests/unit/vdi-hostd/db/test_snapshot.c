/* Rows of snapshots, and how they hold each other. */
#include <sqlite3.h>

#include "fixture.h"
#include "vdi-hostd/db/snapshot.h"

static struct db_snapshot a_snapshot(const char *id, const char *name, const char *parent_id)
{
	struct db_snapshot row = {.kind = DB_SNAPSHOT_QUIESCED, .memory_mib = 64, .vcpus = 1};

	memset(&row, 0, sizeof(row));
	row.kind = DB_SNAPSHOT_QUIESCED;
	row.memory_mib = 64;
	row.vcpus = 1;
	snprintf(row.id, sizeof(row.id), "%s", id);
	snprintf(row.desktop_id, sizeof(row.desktop_id), "d");
	snprintf(row.parent_id, sizeof(row.parent_id), "%s", parent_id);
	snprintf(row.name, sizeof(row.name), "%s", name);
	snprintf(row.image_id, sizeof(row.image_id), "image");
	snprintf(row.disks[DB_DISK_SYSTEM].file, sizeof(row.disks[0].file), "%s.qcow2", id);
	row.disks[DB_DISK_SYSTEM].bytes = 5;
	snprintf(row.next[DB_DISK_SYSTEM], sizeof(row.next[0]), "%s-next.qcow2", id);
	return row;
}

static void make_desktop(struct fixture *f)
{
	struct db_image image = an_image("image", "debian", 1);
	struct db_desktop desktop = a_desktop("d", "one", 1);

	assert_works(f, db_image_insert(f->db, &image, &f->err));
	assert_works(f, db_desktop_insert(f->db, &desktop, &f->err));
}

static int add_name(void *data, const struct db_snapshot *row)
{
	strcat(data, row->name);
	return 0;
}

static int stop_at_once(void *data, const struct db_snapshot *row)
{
	return 7;
}

static void rows(void **state)
{
	struct fixture *f = *state;
	struct db_snapshot a = a_snapshot("a", "x", ""), b = a_snapshot("b", "y", "a"), got;
	char names[16] = "";

	assert_fails(f, ERR_CONFLICT, db_snapshot_insert(f->db, &a, &f->err)); /* no desktop */
	make_desktop(f);
	assert_fails(f, ERR_CONFLICT, db_snapshot_insert(f->db, &b, &f->err)); /* no parent */
	assert_works(f, db_snapshot_insert(f->db, &a, &f->err));
	b.created_at = 1;
	assert_works(f, db_snapshot_insert(f->db, &b, &f->err));
	struct db_snapshot same = a_snapshot("c", "x", "");
	assert_fails(f, ERR_EXISTS, db_snapshot_insert(f->db, &same, &f->err)); /* the name */
	a.state = DB_SNAPSHOT_DELETING;
	snprintf(a.memory_file, sizeof(a.memory_file), "a.state");
	snprintf(a.disks[DB_DISK_DATA].file, sizeof(a.disks[0].file), "data.qcow2");
	a.disks[DB_DISK_DATA].bytes = 9;
	assert_works(f, db_snapshot_update(f->db, &a, &f->err));
	assert_works(f, db_snapshot_get(f->db, "d", "x", &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	assert_works(f, db_snapshot_get(f->db, "d", "b", &got, &f->err));
	assert_string_equal(got.name, "y");
	assert_fails(f, ERR_NOT_FOUND, db_snapshot_get(f->db, "e", "x", &got, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_snapshot_get(f->db, "d", "z", &got, &f->err));
	assert_works(f, db_snapshot_each(f->db, "d", add_name, names, &f->err));
	assert_works(f, db_snapshot_each(f->db, NULL, add_name, names, &f->err));
	assert_works(f, db_snapshot_each(f->db, "e", add_name, names, &f->err));
	assert_string_equal(names, "xyxy");
	assert_int_equal(db_snapshot_each(f->db, "d", stop_at_once, NULL, &f->err), 7);
}

static void a_name_goes_before_an_id(void **state)
{
	struct fixture *f = *state;
	struct db_snapshot a = a_snapshot("a", "b", ""), b = a_snapshot("b", "a", ""), got;

	make_desktop(f);
	assert_works(f, db_snapshot_insert(f->db, &a, &f->err));
	assert_works(f, db_snapshot_insert(f->db, &b, &f->err));
	assert_works(f, db_snapshot_get(f->db, "d", "a", &got, &f->err));
	assert_string_equal(got.id, "b");
}

static void deletes(void **state)
{
	struct fixture *f = *state;
	struct db_snapshot a = a_snapshot("a", "x", ""), b = a_snapshot("b", "y", "a"),
			   c = a_snapshot("c", "z", "b"), got;

	make_desktop(f);
	assert_works(f, db_snapshot_insert(f->db, &a, &f->err));
	assert_works(f, db_snapshot_insert(f->db, &b, &f->err));
	assert_works(f, db_snapshot_insert(f->db, &c, &f->err));
	/* an image and a desktop are held */
	assert_fails(f, ERR_CONFLICT, db_desktop_delete(f->db, "d", &f->err));
	/* those above stand on what is below */
	assert_works(f, db_snapshot_delete(f->db, &b, &f->err));
	assert_works(f, db_snapshot_get(f->db, "d", "c", &got, &f->err));
	assert_string_equal(got.parent_id, "a");
	assert_works(f, db_snapshot_delete(f->db, &a, &f->err));
	assert_works(f, db_snapshot_get(f->db, "d", "c", &got, &f->err));
	assert_string_equal(got.parent_id, "");
	assert_works(f, db_snapshot_insert(f->db, &a, &f->err));
	assert_works(f, db_snapshot_delete_all(f->db, "d", &f->err));
	assert_works(f, db_desktop_delete(f->db, "d", &f->err));
}

static void rows_are_checked_when_read(void **state)
{
	static const char *const faults[] = {
		"UPDATE snapshot SET id = printf('%100s', 'x')",
		"UPDATE snapshot SET system_file = printf('%100s', 'x')",
		"UPDATE snapshot SET memory_file = printf('%100s', 'x')",
	};
	struct fixture *f = *state;
	struct db_snapshot a = a_snapshot("a", "x", "");
	char names[16] = "";

	make_desktop(f);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		sqlite3 *sqlite;
		assert_works(f, db_snapshot_insert(f->db, &a, &f->err));
		db_close(TAKE_PTR(f->db));
		assert_int_equal(sqlite3_open(f->path, &sqlite), SQLITE_OK);
		assert_int_equal(sqlite3_exec(sqlite, faults[i], NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(sqlite);
		assert_works(f, db_open(f->path, &f->db, &f->err));
		assert_fails(f, ERR_CORRUPT,
			     db_snapshot_each(f->db, "d", add_name, names, &f->err));
		assert_works(f, db_snapshot_delete_all(f->db, "d", &f->err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(rows),
		test_with_db(a_name_goes_before_an_id),
		test_with_db(deletes),
		test_with_db(rows_are_checked_when_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
