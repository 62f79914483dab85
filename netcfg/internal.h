/* Shared inside netcfg/ only. */
#pragma once

#include <netlink/netlink.h>

#include "netcfg/link.h"
#include "netcfg/netcfg.h"

struct netcfg {
	struct nl_sock *sock;
};

/** netcfg_err_nl() - an error from what libnl returned (0 or negative NLE_*); returns -1 */
int netcfg_err_nl(struct err *err, int nle, const char *fmt, ...) printf_like(3, 4);

/** netcfg_name_check() - ERR_INVALID for a name that no link of ours has; @what names it */
int netcfg_name_check(const char *what, const char *name, struct err *err) warn_unused;

/** netcfg_subnet_check() - a prefix and a host's address that a network can have */
int netcfg_subnet_check(struct in_addr address, unsigned int prefix, struct err *err) warn_unused;

/** netcfg_sysctl_write() - one value to a file below /proc/sys/net, if it is not there already */
int netcfg_sysctl_write(const char *path, const char *value, struct err *err) warn_unused;
