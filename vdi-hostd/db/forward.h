/* Rows of `network_forward`: ports of the host that lead to a desktop. */
#pragma once

#include "vdi-hostd/db/db.h"

enum db_protocol { DB_PROTOCOL_ANY, DB_PROTOCOL_TCP, DB_PROTOCOL_UDP, DB_PROTOCOL_ICMP };

/** struct db_addresses - one of each family; @v4: host byte order; 0, "": none */
struct db_addresses {
	uint32_t v4;
	char v6[46];
};

/**
 * struct db_forward - host_port..host_port + count - 1 lead to port..port + count - 1
 * @mac: of the NIC that it leads to: that is what a desktop keeps for life
 * @to: what the rules lead to by now
 * @host: one of the host's addresses; none: all of them, of both families
 */
struct db_forward {
	char id[STR_UUID_LEN + 1];
	char network_id[STR_UUID_LEN + 1];
	char mac[18];
	struct db_addresses to;
	enum db_protocol protocol; /* TCP or UDP */
	struct db_addresses host;
	int64_t host_port, port, count;
	int64_t created_at;
};

int db_forward_insert(struct db *db, const struct db_forward *row, struct err *err) warn_unused;
/** db_forward_set_to() - written before the rules are */
int db_forward_set_to(struct db *db, const char *id, const struct db_addresses *to,
		      struct err *err) warn_unused;
int db_forward_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_forward_each() - by network and host port */
int db_forward_each(struct db *db, int (*cb)(void *data, const struct db_forward *row), void *data,
		    struct err *err) warn_unused;
