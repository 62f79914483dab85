#include "vdi-hostd/db/reservation.h"

#include "vdi-hostd/db/private.h"

#define COLUMNS "id, network_id, ip, mac, name, created_at"

int db_reservation_insert(struct db *db, const struct db_reservation *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO network_reservation (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->network_id);
	db_bind_int(stmt, 3, row->ip);
	db_bind_text(stmt, 4, row->mac);
	db_bind_text(stmt, 5, row->name);
	db_bind_int(stmt, 6, row->created_at);
	return db_run(db, stmt, "record the reservation", err);
}

int db_reservation_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM network_reservation WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the reservation", err);
}

struct walk {
	int (*cb)(void *data, const struct db_reservation *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_reservation row = {0};
	if (db_column_text(stmt, 0, row.id, sizeof(row.id)) < 0 ||
	    db_column_text(stmt, 1, row.network_id, sizeof(row.network_id)) < 0 ||
	    db_column_text(stmt, 3, row.mac, sizeof(row.mac)) < 0 ||
	    db_column_text(stmt, 4, row.name, sizeof(row.name)) < 0)
		return db_fail_row("network_reservation", err);
	row.ip = (uint32_t)sqlite3_column_int64(stmt, 2);
	row.created_at = sqlite3_column_int64(stmt, 5);
	return walk->cb(walk->data, &row);
}

int db_reservation_each(struct db *db, int (*cb)(void *data, const struct db_reservation *row),
			void *data, struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db,
		       "SELECT " COLUMNS " FROM network_reservation ORDER BY network_id, ip, id",
		       &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the reservations", walk_row, &walk, err);
}
