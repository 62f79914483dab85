/* What this host is and can do, found out once at start: what host.info answers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vdi-hostd/config.h"
#include "vdi-hostd/db/db.h"
#include "vdi-hostd/priv/qemu_spec.h"

/**
 * struct host_info
 * @features: PRIV_HAS_* of vdi-hostd/priv/proto.h
 */
struct host_info {
	char qemu_version[64];
	enum qemu_accel accel;
	char accel_why[256];
	bool rootless;
	uint32_t features;
	int64_t started_at; /* of this daemon, ms since 1970 */
	int spice_port;
};

/**
 * host_info_choose_accel() - how guests run, and why; kept in the database until the next boot
 * Blocks for up to three seconds where the probe guest has to run. Errors: as accel_choose(), and
 * those of the database.
 */
int host_info_choose_accel(struct host_info *info, struct db *db, const struct config *config,
			   struct err *err) warn_unused;

/** host_info_find_qemu_version() - "" when QEMU at @binary cannot be run or says nothing of the
 * kind */
void host_info_find_qemu_version(struct host_info *info, const char *binary);
