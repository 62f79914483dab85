#include "vdi-hostd/db/nic.h"

#include <string.h>

#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"desktop_id, number, network_id, mac, ip, link_up, to_guest_kbit, to_guest_burst_kib,"     \
	" from_guest_kbit, from_guest_burst_kib, queues, given_queues, given_vhost, learned_ip,"   \
	" learned_until, lease_s"

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
	db_bind_int(stmt, 11, row->queues);
	db_bind_int(stmt, 12, row->given_queues);
	db_bind_int(stmt, 13, row->given_vhost);
	db_bind_int(stmt, 14, row->learned_ip);
	db_bind_int(stmt, 15, row->learned_until);
	db_bind_int(stmt, 16, row->lease_s);
}

static int replace_groups(struct db *db, const struct db_nic *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM nic_firewall WHERE desktop_id = ?1 AND number = ?2", &stmt,
		       err) < 0)
		return -1;
	db_bind_text(stmt, 1, row->desktop_id);
	db_bind_int(stmt, 2, row->number);
	if (db_run(db, stmt, "replace the firewall groups of the NIC", err) < 0)
		return -1;
	for (size_t i = 0; i < row->groups.n; i++) {
		if (db_prepare(db,
			       "INSERT INTO nic_firewall (desktop_id, number, position, group_id)"
			       " VALUES (?1, ?2, ?3, ?4)",
			       &stmt, err) < 0)
			return -1;
		db_bind_text(stmt, 1, row->desktop_id);
		db_bind_int(stmt, 2, row->number);
		db_bind_int(stmt, 3, (int64_t)i);
		db_bind_text(stmt, 4, row->groups.id[i]);
		if (db_run(db, stmt, "record a firewall group of the NIC", err) < 0)
			return -1;
	}
	return 0;
}

static int write_nic(struct db *db, const char *sql, const struct db_nic *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, sql, &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	if (db_run_one(db, stmt, "record the NIC", err) < 0)
		return -1;
	return replace_groups(db, row, err);
}

static int write_whole(struct db *db, const char *sql, const struct db_nic *row, struct err *err)
{
	if (db->transaction)
		return write_nic(db, sql, row, err);
	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (write_nic(db, sql, row, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

int db_nic_insert(struct db *db, const struct db_nic *row, struct err *err)
{
	return write_whole(db,
			   "INSERT INTO nic (" COLUMNS
			   ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,"
			   " ?15, ?16)",
			   row, err);
}

int db_nic_update(struct db *db, const struct db_nic *row, struct err *err)
{
	return write_whole(db,
			   "UPDATE nic SET network_id = ?3, mac = ?4, ip = ?5, link_up = ?6,"
			   " to_guest_kbit = ?7, to_guest_burst_kib = ?8, from_guest_kbit = ?9,"
			   " from_guest_burst_kib = ?10, queues = ?11, given_queues = ?12,"
			   " given_vhost = ?13, learned_ip = ?14, learned_until = ?15,"
			   " lease_s = ?16 WHERE desktop_id = ?1 AND number = ?2",
			   row, err);
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

/* @ids: separated by spaces */
static int read_groups(const char *ids, struct db_nic_groups *ret)
{
	for (ids = ids ? ids : ""; *ids; ids += strspn(ids, " ")) {
		size_t len = strcspn(ids, " ");
		if (len > STR_UUID_LEN || ret->n == DB_NIC_GROUPS_MAX)
			return -1;
		memcpy(ret->id[ret->n++], ids, len);
		ids += len;
	}
	return 0;
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
	    db_column_text(stmt, 3, row.mac, sizeof(row.mac)) < 0 ||
	    read_groups((const char *)sqlite3_column_text(stmt, 16), &row.groups) < 0)
		return db_fail_row("nic", err);
	row.number = sqlite3_column_int64(stmt, 1);
	row.ip = (uint32_t)sqlite3_column_int64(stmt, 4);
	row.link_up = sqlite3_column_int(stmt, 5) != 0;
	row.to_guest.kbit_per_s = sqlite3_column_int64(stmt, 6);
	row.to_guest.burst_kib = sqlite3_column_int64(stmt, 7);
	row.from_guest.kbit_per_s = sqlite3_column_int64(stmt, 8);
	row.from_guest.burst_kib = sqlite3_column_int64(stmt, 9);
	row.queues = sqlite3_column_int64(stmt, 10);
	row.given_queues = sqlite3_column_int64(stmt, 11);
	row.given_vhost = sqlite3_column_int(stmt, 12) != 0;
	row.learned_ip = (uint32_t)sqlite3_column_int64(stmt, 13);
	row.learned_until = sqlite3_column_int64(stmt, 14);
	row.lease_s = sqlite3_column_int64(stmt, 15);
	return walk->cb(walk->data, &row);
}

int db_nic_each(struct db *db, int (*cb)(void *data, const struct db_nic *row), void *data,
		struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db,
		       "SELECT " COLUMNS ", (SELECT group_concat(group_id, ' ') FROM"
		       " (SELECT group_id FROM nic_firewall f WHERE f.desktop_id = nic.desktop_id"
		       " AND f.number = nic.number ORDER BY position))"
		       " FROM nic ORDER BY desktop_id, number",
		       &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the NICs", walk_row, &walk, err);
}
