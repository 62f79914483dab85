/* What this kernel can do, found out by doing it in a network namespace that is thrown away. */
#pragma once

#include <stdint.h>

#include "netcfg/netcfg.h"

enum {
	NETCFG_HAS_BRIDGE = 1 << 0,
	NETCFG_HAS_TUN = 1 << 1,
	NETCFG_HAS_NFT = 1 << 2, /* inet tables with NAT */
	NETCFG_HAS_VLAN = 1 << 3,
	NETCFG_HAS_BRIDGE_VLAN = 1 << 4, /* VLAN filtering on a bridge */
	NETCFG_HAS_VHOST_NET = 1 << 5,
};

/**
 * netcfg_probe() - a set of NETCFG_HAS_*
 *
 * Takes tens of milliseconds: forks a child, which unshares its network. Call it from a process
 * with one thread. Without privilege no feature is there (but VHOST_NET may be). Errors: only when
 * the child could not be made.
 */
int netcfg_probe(uint32_t *ret, struct err *err) warn_unused;
