/* A database in a folder of its own, for each test. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/mem.h"
#include "vdi-hostd/db/db.h"
#include "vdi-hostd/db/desktop.h"
#include "vdi-hostd/db/image.h"
#include "vdi-hostd/db/network.h"
#include "vdi-hostd/db/nic.h"

struct fixture {
	char folder[64], path[80];
	struct db *db;
	struct err err;
};

/* err_assert() - it failed, and with that code */
#define assert_fails(f, code_, call)                                                               \
	do {                                                                                       \
		(f)->err = (struct err){0};                                                        \
		assert_int_equal(call, -1);                                                        \
		assert_string_equal(err_code_name((f)->err.code), err_code_name(code_));           \
		assert_true((f)->err.msg[0]);                                                      \
	} while (0)

#define assert_works(f, call)                                                                      \
	do {                                                                                       \
		(f)->err.msg[0] = '\0';                                                            \
		if ((call) != 0)                                                                   \
			fail_msg("%s: %s", #call, (f)->err.msg);                                   \
	} while (0)

static inline int fixture_make(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	snprintf(f->folder, sizeof(f->folder), "/tmp/vdi-db-XXXXXX");
	if (!mkdtemp(f->folder))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/db", f->folder);
	*state = f;
	return db_open(f->path, &f->db, &f->err);
}

static inline int fixture_remove(void **state)
{
	struct fixture *f = *state;
	char command[96];
	db_close(f->db);
	snprintf(command, sizeof(command), "rm -rf '%s'", f->folder);
	int failed = system(command);
	free(f);
	return failed;
}

static inline void fixture_reopen(struct fixture *f)
{
	db_close(TAKE_PTR(f->db));
	assert_works(f, db_open(f->path, &f->db, &f->err));
}

/* SQL from outside, while the daemon is not there. */
static inline void fixture_sql(struct fixture *f, const char *sql)
{
	sqlite3 *sqlite;
	db_close(TAKE_PTR(f->db));
	assert_int_equal(sqlite3_open(f->path, &sqlite), SQLITE_OK);
	assert_int_equal(sqlite3_exec(sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(sqlite);
}

#define test_with_db(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_remove)

static inline struct db_image an_image(const char *id, const char *name, int64_t version)
{
	struct db_image row = {.version = version, .state = DB_IMAGE_PUBLISHED, .virtual_size = 1};
	snprintf(row.id, sizeof(row.id), "%s", id);
	snprintf(row.name, sizeof(row.name), "%s", name);
	snprintf(row.file, sizeof(row.file), "%s.qcow2", id);
	return row;
}

static inline struct db_network a_network(const char *id, const char *name, int64_t slot)
{
	struct db_network row = {.slot = slot, .address = 0xc0a80001, .prefix = 24};
	snprintf(row.id, sizeof(row.id), "%s", id);
	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static inline struct db_desktop a_desktop(const char *id, const char *name, int64_t slot)
{
	struct db_desktop row = {.slot = slot, .memory_mib = 512, .vcpus = 2};
	snprintf(row.id, sizeof(row.id), "%s", id);
	snprintf(row.name, sizeof(row.name), "%s", name);
	snprintf(row.image_id, sizeof(row.image_id), "image");
	snprintf(row.disks[DB_DISK_SYSTEM].file, sizeof(row.disks[DB_DISK_SYSTEM].file), "%s.qcow2",
		 id);
	return row;
}

static inline struct db_nic a_nic(const char *desktop_id, int64_t number, const char *network_id)
{
	struct db_nic row = {.number = number, .link_up = true, .queues = 1};
	snprintf(row.desktop_id, sizeof(row.desktop_id), "%s", desktop_id);
	snprintf(row.network_id, sizeof(row.network_id), "%s", network_id);
	snprintf(row.mac, sizeof(row.mac), "52:54:00:00:00:%02x", (unsigned int)number & 0xff);
	return row;
}
