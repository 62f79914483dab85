/*
 * Quotas: how many bytes an owner may have promised to him. What counts, and why it is promises and
 * not blocks on disk, is in docs/decisions/quotas.md.
 */
#pragma once

#include "vdi-hostd/db/quota.h"
#include "vdi-hostd/image/image.h"

/**
 * images_quota_charge_check() - may an owner have so many bytes more?
 * @owner: NULL, "" and those without a quota may
 *
 * Nothing is reserved: the caller writes the row that counts before it goes back to the loop.
 * Errors: ERR_LIMIT with what is used, what the limit is and what to do.
 */
int images_quota_charge_check(struct images *images, const char *owner, int64_t extra_bytes,
			      struct err *err) warn_unused;
