/* Rows of `nic`: what connects desktops to networks. */
#pragma once

#include "vdi-hostd/db/db.h"

/** struct db_rate - one way; 0: no limit, resp. what suits it */
struct db_rate {
	int64_t kbit_per_s, burst_kib;
};

#define DB_NIC_GROUPS_MAX 3 /* together with its network's */

/** struct db_nic_groups - firewall groups by id, besides its network's */
struct db_nic_groups {
	char id[DB_NIC_GROUPS_MAX][STR_UUID_LEN + 1];
	size_t n;
};

struct db_nic {
	char desktop_id[STR_UUID_LEN + 1];
	int64_t number; /* of the desktop's, from 0; its place on the guest's bus as well */
	char network_id[STR_UUID_LEN + 1];
	char mac[18]; /* unique */
	uint32_t ip;  /* host byte order; 0: given by others, where nobody said what it is */
	bool link_up;
	struct db_rate to_guest, from_guest;
	int64_t queues; /* 1 to 8 */
	/* of its tap, what its QEMU has while there is one */
	int64_t given_queues;
	bool given_vhost;
	/* on a network where others give addresses: what a DHCP server of theirs gave to it */
	uint32_t learned_ip;   /* host byte order; 0: nothing */
	int64_t learned_until; /* ms since 1970; 0: for ever, or nothing */
	int64_t lease_s;       /* the whole length of that; 0: for ever, or nothing */
	struct db_nic_groups groups;
};

/** db_nic_insert(), db_nic_update() - with its groups; in a transaction of their own where none is
 * open */
int db_nic_insert(struct db *db, const struct db_nic *row, struct err *err) warn_unused;
int db_nic_update(struct db *db, const struct db_nic *row, struct err *err) warn_unused;
/** db_nic_delete() - one that is not there is no error */
int db_nic_delete(struct db *db, const char *desktop_id, int64_t number,
		  struct err *err) warn_unused;
/** db_nic_each() - by desktop and number */
int db_nic_each(struct db *db, int (*cb)(void *data, const struct db_nic *row), void *data,
		struct err *err) warn_unused;
