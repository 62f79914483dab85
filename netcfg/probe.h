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
	NETCFG_HAS_VXLAN = 1 << 6,
	NETCFG_HAS_RATE_TO = 1 << 7,     /* tbf */
	NETCFG_HAS_RATE_FROM = 1 << 8,   /* ifb, ingress, u32, mirred */
	NETCFG_HAS_NFT_BRIDGE = 1 << 9,  /* bridge family with sets that packets add to */
	NETCFG_HAS_NFT_NETDEV = 1 << 10, /* netdev family, not needed */
	NETCFG_HAS_BRIDGE_CT = 1 << 11,  /* connection tracking on bridges, not needed */
	NETCFG_HAS_PORT_ISOLATION = 1 << 12,
	NETCFG_HAS_MULTI_QUEUE = 1 << 13,
	NETCFG_HAS_IPV6 = 1 << 14,
	NETCFG_HAS_NFT_LOG = 1 << 15, /* what passes a bridge can be logged and heard: dhcp.h */
};

/**
 * netcfg_probe() - a set of NETCFG_HAS_*
 *
 * Takes tens of milliseconds: forks a child, which unshares its network. Call it from a process
 * with one thread. Without privilege no feature is there (but VHOST_NET may be). Errors: only when
 * the child could not be made.
 */
int netcfg_probe(uint32_t *ret, struct err *err) warn_unused;

/** netcfg_feature_name() - what one of NETCFG_HAS_* is called: "bridge", "vlan", ...; or NULL */
const char *netcfg_feature_name(uint32_t feature);
