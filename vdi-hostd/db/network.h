/* Rows of `network`. */
#pragma once

#include "vdi-hostd/db/db.h"

enum db_network_kind { DB_NETWORK_NAT, DB_NETWORK_ISOLATED, DB_NETWORK_BRIDGED, DB_NETWORK_USER };

/** enum db_intent - written before the first side effect, settled after the last */
enum db_intent { DB_INTENT_NONE, DB_INTENT_CREATE, DB_INTENT_DELETE };

struct db_network {
	char id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1];
	enum db_network_kind kind;
	enum db_intent intent;
	int64_t slot;     /* unique, 1..PRIV_SLOT_MAX */
	uint32_t address; /* the host's own on it, host byte order; 0 for kind user */
	int64_t prefix;
	int64_t dnsmasq_pid;
	uint64_t dnsmasq_start_time;
	char boot_id[STR_UUID_LEN + 1];
	int64_t created_at;
};

int db_network_insert(struct db *db, const struct db_network *row, struct err *err) warn_unused;
int db_network_update(struct db *db, const struct db_network *row, struct err *err) warn_unused;
int db_network_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_network_free_slot() - the lowest that no row has */
int db_network_free_slot(struct db *db, int64_t *ret, struct err *err) warn_unused;
int db_network_each(struct db *db, int (*cb)(void *data, const struct db_network *row), void *data,
		    struct err *err) warn_unused;
