#include "vdi-hostd/db/firewall.h"

#include "base/mem.h"
#include "vdi-hostd/db/nic.h"
#include "vdi-hostd/db/private.h"

static int insert_rules(struct db *db, const struct db_firewall_group *row, struct err *err)
{
	for (size_t i = 0; i < row->n_rules; i++) {
		const struct db_firewall_rule *rule = &row->rules[i];
		sqlite3_stmt *stmt;
		if (db_prepare(db,
			       "INSERT INTO firewall_rule (group_id, position, direction, protocol,"
			       " port_first, port_last, remote, remote_group_id)"
			       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
			       &stmt, err) < 0)
			return -1;
		db_bind_text(stmt, 1, row->id);
		db_bind_int(stmt, 2, (int64_t)i);
		db_bind_int(stmt, 3, rule->direction);
		db_bind_int(stmt, 4, rule->protocol);
		db_bind_int(stmt, 5, rule->port_first);
		db_bind_int(stmt, 6, rule->port_last);
		db_bind_text(stmt, 7, rule->remote);
		db_bind_ref(stmt, 8, rule->remote_group);
		if (db_run(db, stmt, "record a rule of the firewall group", err) < 0)
			return -1;
	}
	return 0;
}

/* @sql: writes the group's own row */
static int write_group(struct db *db, const char *sql, const struct db_firewall_group *row,
		       struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, sql, &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, row->id);
	db_bind_text(stmt, 2, row->name);
	db_bind_text(stmt, 3, row->description);
	db_bind_int(stmt, 4, row->builtin);
	db_bind_int(stmt, 5, row->created_at);
	db_bind_int(stmt, 6, row->number);
	if (db_run_one(db, stmt, "record the firewall group", err) < 0 ||
	    db_prepare(db, "DELETE FROM firewall_rule WHERE group_id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, row->id);
	if (db_run(db, stmt, "replace the rules of the firewall group", err) < 0)
		return -1;
	return insert_rules(db, row, err);
}

static int write_whole(struct db *db, const char *sql, const struct db_firewall_group *row,
		       struct err *err)
{
	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (write_group(db, sql, row, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

int db_firewall_insert(struct db *db, const struct db_firewall_group *row, struct err *err)
{
	return write_whole(db,
			   "INSERT INTO firewall_group (id, name, description, builtin, created_at,"
			   " number) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
			   row, err);
}

int db_firewall_update(struct db *db, const struct db_firewall_group *row, struct err *err)
{
	return write_whole(db,
			   "UPDATE firewall_group SET name = ?2, description = ?3, builtin = ?4,"
			   " created_at = ?5, number = ?6 WHERE id = ?1",
			   row, err);
}

static int count_users(struct db *db, const char *id, int64_t *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "SELECT (SELECT count(*) FROM network_firewall WHERE group_id = ?1)"
		       " + (SELECT count(*) FROM nic_firewall WHERE group_id = ?1)"
		       " + (SELECT count(*) FROM firewall_rule WHERE remote_group_id = ?1"
		       " AND group_id <> ?1)",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, "see who uses the firewall group", err);
	*ret = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return 0;
}

int db_firewall_delete(struct db *db, const char *id, struct err *err)
{
	sqlite3_stmt *stmt;
	int64_t users = 0;
	if (count_users(db, id, &users, err) < 0)
		return -1;
	if (users)
		return err_set(err, ERR_CONFLICT,
			       "the firewall group is used by a network, by a NIC, or by a rule of "
			       "another group; take it out there first");
	if (db_prepare(db, "DELETE FROM firewall_group WHERE id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run_one(db, stmt, "delete the firewall group", err);
}

int db_firewall_free_number(struct db *db, int64_t *ret, struct err *err)
{
	static const char sql[] =
		"SELECT min(n) FROM (SELECT 1 AS n UNION SELECT number + 1 FROM firewall_group)"
		" WHERE n NOT IN (SELECT number FROM firewall_group)";
	return db_free_slot(db, sql, "firewall group", ret, err);
}

/* rows of groups and their rules, joined: a group is handed on when the next begins */
struct walk {
	int (*cb)(void *data, const struct db_firewall_group *row);
	void *data;
	struct db_firewall_group *group;
};

static int hand_on(struct walk *walk)
{
	return walk->group->id[0] ? walk->cb(walk->data, walk->group) : 0;
}

static int read_group(sqlite3_stmt *stmt, struct db_firewall_group *ret)
{
	*ret = (struct db_firewall_group){0};
	ret->builtin = sqlite3_column_int(stmt, 3) != 0;
	ret->created_at = sqlite3_column_int64(stmt, 4);
	ret->number = sqlite3_column_int64(stmt, 11);
	if (db_column_text(stmt, 0, ret->id, sizeof(ret->id)) < 0 ||
	    db_column_text(stmt, 1, ret->name, sizeof(ret->name)) < 0)
		return -1;
	return db_column_text(stmt, 2, ret->description, sizeof(ret->description));
}

static int read_rule(sqlite3_stmt *stmt, struct db_firewall_group *group)
{
	int direction, protocol;
	if (sqlite3_column_type(stmt, 5) == SQLITE_NULL)
		return 0; /* a group without rules */
	if (group->n_rules == DB_FIREWALL_RULES_MAX)
		return -1;
	struct db_firewall_rule *rule = &group->rules[group->n_rules++];
	rule->port_first = sqlite3_column_int64(stmt, 7);
	rule->port_last = sqlite3_column_int64(stmt, 8);
	if (db_column_enum(stmt, 5, DB_DIRECTION_OUT, &direction) < 0 ||
	    db_column_enum(stmt, 6, DB_PROTOCOL_ICMP, &protocol) < 0 ||
	    db_column_text(stmt, 9, rule->remote, sizeof(rule->remote)) < 0 ||
	    db_column_text(stmt, 10, rule->remote_group, sizeof(rule->remote_group)) < 0)
		return -1;
	rule->direction = (enum db_direction)direction;
	rule->protocol = (enum db_protocol)protocol;
	return 0;
}

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	struct db_firewall_group fresh;
	if (read_group(stmt, &fresh) < 0)
		return db_fail_row("firewall_group", err);
	if (strcmp(fresh.id, walk->group->id) != 0) {
		int stop = hand_on(walk);
		if (stop)
			return stop;
		*walk->group = fresh;
	}
	return read_rule(stmt, walk->group) < 0 ? db_fail_row("firewall_rule", err) : 0;
}

int db_firewall_each(struct db *db, int (*cb)(void *data, const struct db_firewall_group *row),
		     void *data, struct err *err)
{
	sqlite3_stmt *stmt;
	_cleanup_free_ struct db_firewall_group *group = mem_new(struct db_firewall_group);
	struct walk walk = {cb, data, group};
	if (db_prepare(db,
		       "SELECT g.id, g.name, g.description, g.builtin, g.created_at, r.direction,"
		       " r.protocol, r.port_first, r.port_last, r.remote,"
		       " ifnull(r.remote_group_id, ''), g.number FROM firewall_group g"
		       " LEFT JOIN firewall_rule r ON r.group_id = g.id"
		       " ORDER BY g.name, r.position",
		       &stmt, err) < 0)
		return -1;
	int stop = db_each(db, stmt, "read the firewall groups", walk_row, &walk, err);
	return stop ? stop : hand_on(&walk);
}

static int replace_groups(struct db *db, const char *network_id, const char *const *group_ids,
			  size_t n, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "DELETE FROM network_firewall WHERE network_id = ?1", &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, network_id);
	if (db_run(db, stmt, "replace the firewall groups of the network", err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (db_prepare(db,
			       "INSERT INTO network_firewall (network_id, position, group_id)"
			       " VALUES (?1, ?2, ?3)",
			       &stmt, err) < 0)
			return -1;
		db_bind_text(stmt, 1, network_id);
		db_bind_int(stmt, 2, (int64_t)i);
		db_bind_text(stmt, 3, group_ids[i]);
		if (db_run(db, stmt, "record a firewall group of the network", err) < 0)
			return -1;
	}
	return 0;
}

/* A NIC has so many in all. */
static int check_nics(struct db *db, const char *network_id, size_t n, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "SELECT count(*) FROM nic WHERE network_id = ?1 AND ?2 <"
		       " (SELECT count(*) FROM nic_firewall f WHERE f.desktop_id = nic.desktop_id"
		       " AND f.number = nic.number AND f.group_id NOT IN"
		       " (SELECT group_id FROM network_firewall WHERE network_id = ?1))",
		       &stmt, err) < 0)
		return -1;
	db_bind_text(stmt, 1, network_id);
	db_bind_int(stmt, 2, DB_NIC_GROUPS_MAX - (int64_t)n);
	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, "see which groups the NICs have", err);
	int64_t over = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	if (over)
		return err_set(err, ERR_LIMIT,
			       "%lld NICs there would have more than %d firewall groups with their "
			       "own; take some out of them first",
			       (long long)over, DB_NIC_GROUPS_MAX);
	return 0;
}

int db_firewall_set_network(struct db *db, const char *network_id, const char *const *group_ids,
			    size_t n, struct err *err)
{
	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (replace_groups(db, network_id, group_ids, n, err) < 0 ||
	    check_nics(db, network_id, n, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

struct network_walk {
	int (*cb)(void *data, const char *network_id, const char *group_id);
	void *data;
};

static int walk_network(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct network_walk *walk = ctx;
	char network[STR_UUID_LEN + 1], group[STR_UUID_LEN + 1];
	if (db_column_text(stmt, 0, network, sizeof(network)) < 0 ||
	    db_column_text(stmt, 1, group, sizeof(group)) < 0)
		return db_fail_row("network_firewall", err);
	return walk->cb(walk->data, network, group);
}

int db_firewall_each_network(struct db *db,
			     int (*cb)(void *data, const char *network_id, const char *group_id),
			     void *data, struct err *err)
{
	sqlite3_stmt *stmt;
	struct network_walk walk = {cb, data};
	if (db_prepare(db,
		       "SELECT network_id, group_id FROM network_firewall"
		       " ORDER BY network_id, position",
		       &stmt, err) < 0)
		return -1;
	return db_each(db, stmt, "read the firewall groups of networks", walk_network, &walk, err);
}
