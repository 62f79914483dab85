/* What this host is and can do, found out once at start: what host.info answers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

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
