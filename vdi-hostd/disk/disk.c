#include "vdi-hostd/disk/disk.h"

#include "vdi-hostd/disk/private.h"

int disks_new(const struct disks_env *env, struct disks **ret, struct err *err)
{
	struct disks *disks = mem_new(struct disks);

	disks->env = *env;
	*ret = disks;
	return 0;
}

void disks_reconcile(struct disks *disks, void (*done)(void *data), void *data)
{
	done(data);
}

void disks_free(struct disks *disks)
{
	if (!disks)
		return;
	disks->closing = true;
	free(disks);
}
