/* Rows of `firewall_group` with their rules, and which networks have which groups. */
#pragma once

#include "vdi-hostd/db/db.h"
#include "vdi-hostd/db/forward.h"

#define DB_FIREWALL_RULES_MAX  64 /* in one group */
#define DB_FIREWALL_GROUPS_MAX 3  /* of one network */
#define DB_FIREWALL_REMOTE_MAX 49 /* characters: "addr/prefix" of IPv6 */

enum db_direction { DB_DIRECTION_IN, DB_DIRECTION_OUT };

/**
 * struct db_firewall_rule - what is let through
 * @port_first, @port_last: 0: all
 * @remote:       "10.0.0.0/8", "fd00::/8"; "": anyone
 * @remote_group: id of the group whose members are meant; "": as @remote says
 */
struct db_firewall_rule {
	enum db_direction direction;
	enum db_protocol protocol;
	int64_t port_first, port_last;
	char remote[DB_FIREWALL_REMOTE_MAX + 1];
	char remote_group[STR_UUID_LEN + 1];
};

struct db_firewall_group {
	char id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1];
	char description[256];
	bool builtin; /* it came with the daemon, and stays as it came */
	int64_t created_at;
	int64_t number; /* unique, from 1: what the kernel's tables know it by */
	struct db_firewall_rule rules[DB_FIREWALL_RULES_MAX];
	size_t n_rules;
};

/** db_firewall_insert(), db_firewall_update() - a group with its rules, in a transaction of their
 * own */
int db_firewall_insert(struct db *db, const struct db_firewall_group *row,
		       struct err *err) warn_unused;
int db_firewall_update(struct db *db, const struct db_firewall_group *row,
		       struct err *err) warn_unused;
/** db_firewall_delete() - errors: ERR_CONFLICT while a network, a NIC or a rule names it */
int db_firewall_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_firewall_free_number() - the lowest that no group has */
int db_firewall_free_number(struct db *db, int64_t *ret, struct err *err) warn_unused;
/** db_firewall_each() - by name */
int db_firewall_each(struct db *db, int (*cb)(void *data, const struct db_firewall_group *row),
		     void *data, struct err *err) warn_unused;

/** db_firewall_set_network() - the groups of a network are these, in this order; errors: ERR_LIMIT
 * when a NIC there would have more than DB_NIC_GROUPS_MAX with its own */
int db_firewall_set_network(struct db *db, const char *network_id, const char *const *group_ids,
			    size_t n, struct err *err) warn_unused;
/** db_firewall_each_network() - by network and order */
int db_firewall_each_network(struct db *db,
			     int (*cb)(void *data, const char *network_id, const char *group_id),
			     void *data, struct err *err) warn_unused;
