/* Bridges. */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_BRIDGE_ADDRS_MAX 4

/**
 * struct netcfg_bridge - what a bridge is to be like
 * @addresses: the host's own on it, with their prefixes (IPv4: 8 to 30, IPv6: 48 to 126), or none
 * @keep_addresses: leave addresses alone: they belong to an uplink that is a port of it
 * @vlan_filtering: ports may have VLANs of their own; ERR_UNSUPPORTED without it in the kernel
 * @mtu:       68 to 65535; 0: 1500
 * @ageing_s:  how long a MAC that was learned stays; 0: 300
 * @mac:       zeros: derived from the name (else it would follow the lowest tap and flap)
 */
struct netcfg_bridge {
	struct netcfg_addr addresses[NETCFG_BRIDGE_ADDRS_MAX];
	unsigned int n_addresses;
	bool keep_addresses;
	bool vlan_filtering;
	uint32_t mtu;
	uint32_t ageing_s;
	uint8_t mac[6];
};

/**
 * netcfg_bridge_ensure() - a bridge of that name that is up and as @bridge says
 *
 * Spanning tree off, forward delay 0 (a guest's first DHCP packet is not held back), nothing is
 * learned from link-local frames, which pass no filter. IPv6 is off on the bridge itself unless it
 * has an IPv6 address or keeps an uplink's; router advertisements are not heard on it. What differs
 * on a bridge that is there is set right, other addresses on it are removed (not IPv6 link-local
 * ones), its ports stay.
 *
 * Errors: ERR_CONFLICT when a link of that name is no bridge; ERR_UNSUPPORTED without bridges, VLAN
 * filtering or IPv6 in the kernel; ERR_DENIED without CAP_NET_ADMIN.
 */
int netcfg_bridge_ensure(struct netcfg *netcfg, const char *name,
			 const struct netcfg_bridge *bridge, struct err *err) warn_unused;

/**
 * netcfg_bridge_has_mac() - does it have the MAC that a struct netcfg_bridge with @mac asks for?
 * Where there is no bridge of that name there is no wrong one either: @ret is true.
 */
int netcfg_bridge_has_mac(struct netcfg *netcfg, const char *name, const uint8_t mac[6], bool *ret,
			  struct err *err) warn_unused;

/**
 * netcfg_bridge_delete() - no bridge of that name; one that is not there is fine
 * Its taps are detached, not removed. Errors: ERR_CONFLICT when the link is no bridge.
 */
int netcfg_bridge_delete(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;
