/* Inside of disk/ only. */
#pragma once

#include "base/mem.h"
#include "vdi-hostd/disk/disk.h"

struct disks {
	struct disks_env env;
	bool closing;
};
