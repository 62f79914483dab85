#include "vdi-hostd/image/quota.h"

#include "vdi-hostd/image/private.h"

#define GIB ((double)(1 << 30))

int images_quota_charge_check(struct images *images, const char *owner, int64_t extra_bytes,
			      struct err *err)
{
	struct db_quota quota;
	struct err none;
	int64_t used;

	if (!owner || owner[0] == '\0' || extra_bytes <= 0)
		return 0;
	if (db_quota_get(images->db, owner, &quota, &none) < 0) {
		if (none.code == ERR_NOT_FOUND)
			return 0;
		if (err)
			*err = none;
		return -1;
	}
	if (db_quota_used(images->db, owner, &used, err) < 0)
		return -1;
	if (used <= quota.bytes && extra_bytes <= quota.bytes - used)
		return 0;
	return err_set(err, ERR_LIMIT,
		       "'%s' has %.2f of %.2f GiB; %.2f GiB more would be over the quota: delete "
		       "some of `vdictl image usage --owner %s`, or raise it with `vdictl quota "
		       "set %s`",
		       owner, (double)used / GIB, (double)quota.bytes / GIB,
		       (double)extra_bytes / GIB, owner, owner);
}
