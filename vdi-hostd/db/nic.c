#include "vdi-hostd/db/nic.h"

#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"desktop_id, number, network_id, mac, ip, link_up, to_guest_kbit, to_guest_burst_kib,"     \
	" from_guest_kbit, from_guest_burst_kib"

static void bind(sqlite3_stmt *stmt, const struct db_nic *row)
{
	db_bind_text(stmt, 1, row->desktop_id);
	db_bind_int(stmt, 2, row->number);
	db_bind_text(stmt, 3, row->network_id);
	db_bind_text(stmt, 4, row->mac);
	db_bind_int(stmt, 5, row->ip);
	db_bind_int(stmt, 6, row->link_up);
	db_bind_int(stmt, 7, row->to_guest.kbit_per_s);
	db_bind_int(stmt, 8, row->to_guest.burst_kib);
	db_bind_int(stmt, 9, row->from_guest.kbit_per_s);
	db_bind_int(stmt, 10, row->from_guest.burst_kib);
}

int db_nic_insert(struct db *db, const struct db_nic *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO nic (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the NIC", err);
}

int db_nic_update(struct db *db, const struct db_nic *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE nic SET network_id = ?3, mac = ?4, ip = ?5, link_up = ?6,"
		       " to_guest_kbit = ?7, to_guest_burst_kib = ?8, from_guest_kbit = ?9,"
		       " from_guest_burst_kib = ?10 WHERE desktop_id = ?1 AND number = ?2",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the NIC", err);
}

int db_nic_delete(struct db *db, const char *desktop_id, int64_t number, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM nic WHERE desktop_id = ?1 AND number = ?2", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, desktop_id);
	db_bind_int(stmt, 2, number);
	return db_run(db, stmt, "delete the NIC", err);
}

struct walk {
	int (*cb)(void *data, const struct db_nic *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_nic row = {0};
	if (db_column_text(stmt, 0, row.desktop_id, sizeof(row.desktop_id)) < 0 ||
	    db_column_text(stmt, 2, row.network_id, sizeof(row.network_id)) < 0 ||
	    db_column_text(stmt, 3, row.mac, sizeof(row.mac)) < 0)
		return db_fail_row("nic", err);
	row.number = sqlite3_column_int64(stmt, 1);
	row.ip = (uint32_t)sqlite3_column_int64(stmt, 4);
	row.link_up = sqlite3_column_int(stmt, 5) != 0;
	row.to_guest.kbit_per_s = sqlite3_column_int64(stmt, 6);
	row.to_guest.burst_kib = sqlite3_column_int64(stmt, 7);
	row.from_guest.kbit_per_s = sqlite3_column_int64(stmt, 8);
	row.from_guest.burst_kib = sqlite3_column_int64(stmt, 9);
	return walk->cb(walk->data, &row);
}

int db_nic_each(struct db *db, int (*cb)(void *data, const struct db_nic *row), void *data,
		struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, "SELECT " COLUMNS " FROM nic ORDER BY desktop_id, number", &stmt, err) <
	    0)
		return -1;
	return db_each(db, stmt, "read the NICs", walk_row, &walk, err);
}
