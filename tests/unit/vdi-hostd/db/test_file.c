#include "vdi-hostd/db/file.h"

#include "fixture.h"
#include "vdi-hostd/db/private.h"

struct found {
	size_t n;
	bool settled;
	char names[256];
};

static int add(void *data, const struct db_file *file)
{
	struct found *found = data;
	size_t at = strlen(found->names);

	found->n++;
	found->settled = file->settled;
	snprintf(found->names + at, sizeof(found->names) - at, "%s ", file->file);
	return 0;
}

/* every column of the schema that names a file of the store is asked for */
static void test_covers_the_schema(void **state)
{
	static const char sql[] =
		"SELECT m.name || '.' || p.name FROM sqlite_schema m, pragma_table_info(m.name) p"
		" WHERE m.type = 'table' AND (p.name = 'file' OR p.name LIKE '%\\_file' ESCAPE '\\') ORDER BY 1";
	static const char known[] =
		"backup.data_file backup.system_file desktop.data_file desktop.previous_file "
		"desktop.system_file image.file iso.file snapshot.data_file snapshot.memory_file "
		"snapshot.next_data_file snapshot.next_system_file snapshot.system_file ";
	struct fixture *f = *state;
	char all[1024] = "";
	sqlite3_stmt *stmt;

	assert_works(f, db_prepare(f->db, sql, &stmt, &f->err));
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		size_t at = strlen(all);
		snprintf(all + at, sizeof(all) - at, "%s ",
			 (const char *)sqlite3_column_text(stmt, 0));
	}
	sqlite3_reset(stmt);
	/* a new one: add it to db_file_each(), or gc removes the files that it names */
	assert_string_equal(all, known);
}

static int run(struct fixture *f, const char *sql)
{
	return sqlite3_exec(f->db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -1;
}

static void test_each_of_them(void **state)
{
	struct fixture *f = *state;
	struct found found = {0};
	struct db_image image = an_image("11111111-1111-4111-8111-111111111111", "a", 1);

	strcpy(image.file, "image");
	assert_works(f, db_image_insert(f->db, &image, &f->err));
	assert_int_equal(
		run(f, "INSERT INTO desktop (id, name, slot, image_id, memory_mib, vcpus,"
		       " system_bytes, system_file, owner, profile, autostart, restart,"
		       " wanted, op, failed, state_reason, pid, start_time, boot_id, started_at,"
		       " created_at, data_file, previous_file) SELECT 'd', 'desk', 1, id, 1, 1, 1,"
		       " 'system', 'o', '', 0, 0, 0, 0, 0, '', 0, 0, '', 0, 0, 'data',"
		       " 'previous' FROM image;"
		       "INSERT INTO snapshot (id, desktop_id, name, description, state, kind,"
		       " image_id, system_bytes, system_file, data_bytes, data_file,"
		       " next_system_file, next_data_file, memory_file, memory_mib, vcpus,"
		       " created_at) SELECT 's', 'd', 'n', '', 1, 0, id, 1, 's1', 1, 's2', 's3',"
		       " 's4', 's5', 1, 1, 0 FROM image;"
		       "INSERT INTO backup (id, desktop_id, desktop_name, state, image_id,"
		       " system_bytes, system_file, system_sha256, data_bytes, data_file,"
		       " data_sha256, memory_mib, vcpus, owner, stored_bytes, created_at) VALUES"
		       " ('b', 'd', 'desk', 1, 'i', 1, 'b1', '', 1, 'b2', '', 1, 1, 'o', 1, 0);"
		       "INSERT INTO iso (id, name, state, file, size, sha256, owner, description,"
		       " created_at) VALUES ('i', 'iso', 0, 'disc', 1, '', '', '', 0)"),
		0);
	assert_works(f, db_file_each(f->db, add, &found, &f->err));
	assert_string_equal(found.names, "image system data previous s1 s2 s3 s4 s5 b1 b2 disc ");
	assert_false(found.settled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(test_covers_the_schema),
		test_with_db(test_each_of_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
