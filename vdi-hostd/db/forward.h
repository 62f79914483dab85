/* Rows of `network_forward`: ports of the host that lead to a desktop. */
#pragma once

#include "vdi-hostd/db/db.h"

enum db_protocol { DB_PROTOCOL_ANY, DB_PROTOCOL_TCP, DB_PROTOCOL_UDP, DB_PROTOCOL_ICMP };

/**
 * struct db_forward - host_port..host_port + count - 1 lead to port..port + count - 1
 * @mac: of the NIC that it leads to: that is what a desktop keeps for life
 * @ip: what the rules lead to by now, host byte order; 0: nowhere yet
 * @host_address: host byte order; 0: any of the host's
 */
struct db_forward {
	char id[STR_UUID_LEN + 1];
	char network_id[STR_UUID_LEN + 1];
	char mac[18];
	uint32_t ip;
	enum db_protocol protocol; /* TCP or UDP */
	uint32_t host_address;
	int64_t host_port, port, count;
	int64_t created_at;
};

int db_forward_insert(struct db *db, const struct db_forward *row, struct err *err) warn_unused;
/** db_forward_set_ip() - written before the rules are */
int db_forward_set_ip(struct db *db, const char *id, uint32_t ip, struct err *err) warn_unused;
int db_forward_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_forward_each() - by network and host port */
int db_forward_each(struct db *db, int (*cb)(void *data, const struct db_forward *row), void *data,
		    struct err *err) warn_unused;
