/* Rows of `network_reservation`: addresses kept for a MAC, or for a desktop of some name. */
#pragma once

#include "vdi-hostd/db/db.h"

/** struct db_reservation - @mac or @name may be "", not both; @ip in host byte order */
struct db_reservation {
	char id[STR_UUID_LEN + 1];
	char network_id[STR_UUID_LEN + 1];
	uint32_t ip;
	char mac[18];
	char name[STR_NAME_MAX + 1];
	int64_t created_at;
};

int db_reservation_insert(struct db *db, const struct db_reservation *row,
			  struct err *err) warn_unused;
int db_reservation_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_reservation_each() - by network and address */
int db_reservation_each(struct db *db, int (*cb)(void *data, const struct db_reservation *row),
			void *data, struct err *err) warn_unused;
