/* How guests run: under KVM where it works, else by translation (TCG). */
#pragma once

#include "base/err.h"
#include "vdi-hostd/config.h"
#include "vdi-hostd/priv/qemu_spec.h"

/**
 * accel_choose() - decide once, at start; blocks for at most three seconds
 * @ret_why: one sentence for host.info
 *
 * `auto` uses KVM only where a short probe guest really ran under it: a /dev/kvm that opens is no
 * proof. Errors: ERR_UNSUPPORTED when the configuration insists on KVM and the probe guest does not
 * run.
 */
int accel_choose(const struct config *config, enum qemu_accel *ret, char *ret_why, size_t why_size,
		 struct err *err) warn_unused;
