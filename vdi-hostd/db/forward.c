#include "vdi-hostd/db/forward.h"

#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, network_id, mac, protocol, host_address, host_port, port, count, created_at, ip,"     \
	" host_address6, ip6"

static int read_row(sqlite3_stmt *stmt, struct db_forward *ret, struct err *err)
{
	int protocol;
	*ret = (struct db_forward){0};
	if (db_column_text(stmt, 0, ret->id, sizeof(ret->id)) < 0 ||
	    db_column_text(stmt, 1, ret->network_id, sizeof(ret->network_id)) < 0 ||
	    db_column_text(stmt, 2, ret->mac, sizeof(ret->mac)) < 0 ||
	    db_column_text(stmt, 10, ret->host.v6, sizeof(ret->host.v6)) < 0 ||
	    db_column_text(stmt, 11, ret->to.v6, sizeof(ret->to.v6)) < 0 ||
	    db_column_enum(stmt, 3, DB_PROTOCOL_UDP, &protocol) < 0)
		return db_fail_row("network_forward", err);
	ret->protocol = (enum db_protocol)protocol;
	ret->host.v4 = (uint32_t)sqlite3_column_int64(stmt, 4);
	ret->host_port = sqlite3_column_int64(stmt, 5);
	ret->port = sqlite3_column_int64(stmt, 6);
	ret->count = sqlite3_column_int64(stmt, 7);
	ret->created_at = sqlite3_column_int64(stmt, 8);
	ret->to.v4 = (uint32_t)sqlite3_column_int64(stmt, 9);
	return 0;
}

int db_forward_insert(struct db *db, const struct db_forward *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO network_forward (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->network_id);
	db_bind_text(stmt, 3, row->mac);
	db_bind_int(stmt, 4, row->protocol);
	db_bind_int(stmt, 5, row->host.v4);
	db_bind_int(stmt, 6, row->host_port);
	db_bind_int(stmt, 7, row->port);
	db_bind_int(stmt, 8, row->count);
	db_bind_int(stmt, 9, row->created_at);
	db_bind_int(stmt, 10, row->to.v4);
	db_bind_text(stmt, 11, row->host.v6);
	db_bind_text(stmt, 12, row->to.v6);
	return db_run(db, stmt, "record the port forward", err);
}

int db_forward_set_to(struct db *db, const char *id, const struct db_addresses *to, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "UPDATE network_forward SET ip = ?2, ip6 = ?3 WHERE id = ?1", &stmt,
		       err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	db_bind_int(stmt, 2, to->v4);
	db_bind_text(stmt, 3, to->v6);
	return db_run_one(db, stmt, "record where the port forward leads", err);
}

int db_forward_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM network_forward WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the port forward", err);
}

struct walk {
	int (*cb)(void *data, const struct db_forward *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_forward row;
	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_forward_each(struct db *db, int (*cb)(void *data, const struct db_forward *row), void *data,
		    struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db,
		       "SELECT " COLUMNS " FROM network_forward ORDER BY network_id, host_port, id",
		       &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the port forwards", walk_row, &walk, err);
}
