#include "vdi-hostd/db/network.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define COLUMNS                                                                                    \
	"id, name, kind, intent, slot, address, prefix, dnsmasq_pid, dnsmasq_start_time, boot_id," \
	" created_at, range_first, range_last, address6, mtu, vlan, uplink, vni, underlay,"        \
	" vxlan_port, peers, dns, isolate_ports, confirm_until, dnsmasq_stale, openings,"          \
	" joined, source_guard"

#define OPENINGS_TEXT_MAX (DB_OPENINGS_MAX * sizeof("udp:65535-65535,"))

static const char *name_of(enum db_protocol protocol)
{
	return protocol == DB_PROTOCOL_TCP ? "tcp" : "udp";
}

/* "tcp:22-22,udp:8000-8010" */
static void format_openings(const struct db_openings *openings, char ret[OPENINGS_TEXT_MAX])
{
	size_t len = 0;
	ret[0] = '\0';
	for (size_t i = 0; i < openings->n; i++) {
		const struct db_opening *opening = &openings->opening[i];
		len += (size_t)snprintf(ret + len, OPENINGS_TEXT_MAX - len,
					"%s%s:%" PRId64 "-%" PRId64, i ? "," : "",
					name_of(opening->protocol), opening->port_first,
					opening->port_last);
	}
}

static int parse_opening(const char *text, struct db_opening *ret, int *ret_len)
{
	char protocol[4];
	*ret_len = 0;
	if (sscanf(text, "%3[a-z]:%5" SCNd64 "-%5" SCNd64 "%n", protocol, &ret->port_first,
		   &ret->port_last, ret_len) != 3 ||
	    ret->port_first < 1 || ret->port_last < ret->port_first || ret->port_last > 65535)
		return -1;
	ret->protocol = strcmp(protocol, "tcp") == 0 ? DB_PROTOCOL_TCP : DB_PROTOCOL_UDP;
	return strcmp(protocol, name_of(ret->protocol));
}

static int parse_openings(const char *text, struct db_openings *ret)
{
	int len;
	for (ret->n = 0; *text; text += len + (text[len] == ',')) {
		if (ret->n == DB_OPENINGS_MAX ||
		    parse_opening(text, &ret->opening[ret->n++], &len) != 0 ||
		    (text[len] && text[len] != ','))
			return -1;
	}
	return 0;
}

static void bind(sqlite3_stmt *stmt, const struct db_network *row)
{
	char openings[OPENINGS_TEXT_MAX];
	format_openings(&row->openings, openings);
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->name);
	db_bind_int(stmt, 3, row->kind);
	db_bind_int(stmt, 4, row->intent);
	db_bind_int(stmt, 5, row->slot);
	db_bind_int(stmt, 6, row->address);
	db_bind_int(stmt, 7, row->prefix);
	db_bind_int(stmt, 8, row->dnsmasq_pid);
	db_bind_int(stmt, 9, (int64_t)row->dnsmasq_start_time);
	db_bind_text(stmt, 10, row->boot_id);
	db_bind_int(stmt, 11, row->created_at);
	db_bind_int(stmt, 12, row->range_first);
	db_bind_int(stmt, 13, row->range_last);
	db_bind_text(stmt, 14, row->address6);
	db_bind_int(stmt, 15, row->mtu);
	db_bind_int(stmt, 16, row->vlan);
	db_bind_text(stmt, 17, row->uplink);
	db_bind_int(stmt, 18, row->vni);
	db_bind_text(stmt, 19, row->underlay);
	db_bind_int(stmt, 20, row->vxlan_port);
	db_bind_text(stmt, 21, row->peers);
	db_bind_int(stmt, 22, row->dns);
	db_bind_int(stmt, 23, row->isolate_ports);
	db_bind_int(stmt, 24, row->confirm_until);
	db_bind_int(stmt, 25, row->dnsmasq_stale);
	db_bind_text(stmt, 26, openings);
	db_bind_int(stmt, 27, row->joined);
	db_bind_int(stmt, 28, row->source_guard);
}

static int read_settings(sqlite3_stmt *stmt, struct db_network *ret)
{
	ret->range_first = (uint32_t)sqlite3_column_int64(stmt, 11);
	ret->range_last = (uint32_t)sqlite3_column_int64(stmt, 12);
	ret->mtu = sqlite3_column_int64(stmt, 14);
	ret->vlan = sqlite3_column_int64(stmt, 15);
	ret->vni = sqlite3_column_int64(stmt, 17);
	ret->vxlan_port = sqlite3_column_int64(stmt, 19);
	ret->dns = sqlite3_column_int(stmt, 21) != 0;
	ret->isolate_ports = sqlite3_column_int(stmt, 22) != 0;
	ret->confirm_until = sqlite3_column_int64(stmt, 23);
	ret->dnsmasq_stale = sqlite3_column_int(stmt, 24) != 0;
	ret->joined = sqlite3_column_int(stmt, 26) != 0;
	ret->source_guard = sqlite3_column_int(stmt, 27) != 0;
	if (db_column_text(stmt, 13, ret->address6, sizeof(ret->address6)) < 0 ||
	    db_column_text(stmt, 16, ret->uplink, sizeof(ret->uplink)) < 0 ||
	    db_column_text(stmt, 18, ret->underlay, sizeof(ret->underlay)) < 0)
		return -1;
	char openings[OPENINGS_TEXT_MAX];
	if (db_column_text(stmt, 20, ret->peers, sizeof(ret->peers)) < 0 ||
	    db_column_text(stmt, 25, openings, sizeof(openings)) < 0)
		return -1;
	return parse_openings(openings, &ret->openings);
}

static int read_row(sqlite3_stmt *stmt, struct db_network *ret, struct err *err)
{
	int kind, intent;
	*ret = (struct db_network){0};
	if (db_column_text(stmt, 0, ret->id, sizeof(ret->id)) < 0 ||
	    db_column_text(stmt, 1, ret->name, sizeof(ret->name)) < 0 ||
	    db_column_enum(stmt, 2, DB_NETWORK_ROUTED, &kind) < 0 ||
	    db_column_enum(stmt, 3, DB_INTENT_DELETE, &intent) < 0 ||
	    db_column_text(stmt, 9, ret->boot_id, sizeof(ret->boot_id)) < 0 ||
	    read_settings(stmt, ret) < 0)
		return db_fail_row("network", err);
	ret->kind = (enum db_network_kind)kind;
	ret->intent = (enum db_intent)intent;
	ret->slot = sqlite3_column_int64(stmt, 4);
	ret->address = (uint32_t)sqlite3_column_int64(stmt, 5);
	ret->prefix = sqlite3_column_int64(stmt, 6);
	ret->dnsmasq_pid = sqlite3_column_int64(stmt, 7);
	ret->dnsmasq_start_time = (uint64_t)sqlite3_column_int64(stmt, 8);
	ret->created_at = sqlite3_column_int64(stmt, 10);
	return 0;
}

int db_network_insert(struct db *db, const struct db_network *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO network (" COLUMNS
		       ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"
		       " ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run(db, stmt, "record the network", err);
}

int db_network_update(struct db *db, const struct db_network *row, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "UPDATE network SET name = ?2, kind = ?3, intent = ?4, slot = ?5,"
		       " address = ?6, prefix = ?7, dnsmasq_pid = ?8, dnsmasq_start_time = ?9,"
		       " boot_id = ?10, created_at = ?11, range_first = ?12, range_last = ?13,"
		       " address6 = ?14, mtu = ?15, vlan = ?16, uplink = ?17, vni = ?18,"
		       " underlay = ?19, vxlan_port = ?20, peers = ?21, dns = ?22,"
		       " isolate_ports = ?23, confirm_until = ?24, dnsmasq_stale = ?25,"
		       " openings = ?26, joined = ?27, source_guard = ?28 WHERE id = ?1",
		       &stmt, err) < 0)
		return -1;
	bind(stmt, row);
	return db_run_one(db, stmt, "record the network", err);
}

int db_network_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM network WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the network", err);
}

int db_network_free_slot(struct db *db, int64_t *ret, struct err *err)
{
	static const char sql[] =
		"SELECT min(slot) FROM (SELECT 1 AS slot UNION SELECT slot + 1 FROM network)"
		" WHERE slot NOT IN (SELECT slot FROM network)";
	return db_free_slot(db, sql, "network", ret, err);
}

struct walk {
	int (*cb)(void *data, const struct db_network *row);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_network row;
	return read_row(stmt, &row, err) < 0 ? -1 : walk->cb(walk->data, &row);
}

int db_network_each(struct db *db, int (*cb)(void *data, const struct db_network *row), void *data,
		    struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db, "SELECT " COLUMNS " FROM network ORDER BY name", &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the networks", walk_row, &walk, err);
}

int db_network_set_uplink(struct db *db, const char *id, const char *state, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "INSERT INTO network_uplink (network_id, state) VALUES (?1, ?2)"
		       " ON CONFLICT (network_id) DO UPDATE SET state = ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	db_bind_text(stmt, 2, state);
	return db_run(db, stmt, "record what the uplink had", err);
}

int db_network_get_uplink(struct db *db, const char *id, char **ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "SELECT state FROM network_uplink WHERE network_id = ?1", &stmt, err) <
	    0)
		return -1;
	db_bind_text(stmt, 1, id);
	int stepped = sqlite3_step(stmt);
	if (stepped == SQLITE_ROW)
		*ret = mem_strdup((const char *)sqlite3_column_text(stmt, 0));
	sqlite3_reset(stmt);
	if (stepped == SQLITE_ROW)
		return 0;
	if (stepped != SQLITE_DONE)
		return db_fail(db, "read what the uplink had", err);
	return err_set(err, ERR_NOT_FOUND, "nothing is known of the network's uplink");
}
