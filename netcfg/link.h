/* Links: bridges with an IPv4 address, taps on them, and what the host's own routes occupy. */
#pragma once

#include <stdint.h>

#include "netcfg/netcfg.h"

/**
 * netcfg_bridge_ensure() - a bridge of that name that is up and has exactly this IPv4 address
 * @address: the bridge's own address (network byte order), not the network's
 * @prefix:  8 to 30
 *
 * Spanning tree off, forward delay 0 (a guest's first DHCP packet is not held back), a fixed MAC
 * derived from the name (else it follows the lowest tap and flaps as desktops come and go), IPv6
 * off on the bridge itself. What differs on a bridge that is there is set right, other IPv4
 * addresses on it are removed, its ports stay.
 *
 * Errors: ERR_CONFLICT when a link of that name is no bridge; ERR_UNSUPPORTED
 * without bridges in the kernel; ERR_DENIED without CAP_NET_ADMIN.
 */
int netcfg_bridge_ensure(struct netcfg *netcfg, const char *name, struct in_addr address,
			 unsigned int prefix, struct err *err) warn_unused;

/**
 * netcfg_bridge_delete() - no bridge of that name; one that is not there is fine
 * Its taps are detached, not removed. Errors: ERR_CONFLICT when the link is no bridge.
 */
int netcfg_bridge_delete(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;

/**
 * netcfg_tap_create() - a tap on a bridge, up, and the descriptor that QEMU reads and writes
 * @ret_fd: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, close-on-exec, non-blocking; owned by the caller.
 *          The tap goes away with the last descriptor of it.
 *
 * An old tap of that name is replaced, whoever holds it: names are the caller's, so what is left
 * under one is a leftover. IPv6 is off on the tap. Errors: ERR_NOT_FOUND without the bridge;
 * ERR_CONFLICT when a link of that name is no tap, or @bridge is no bridge; ERR_BUSY when another
 * process takes the name at this very moment; ERR_UNSUPPORTED without /dev/net/tun.
 */
int netcfg_tap_create(struct netcfg *netcfg, const char *name, const char *bridge, int *ret_fd,
		      struct err *err) warn_unused;

/**
 * netcfg_tap_attach() - a tap that is there is up and a port of @bridge, whoever holds it
 * For one whose bridge was deleted and made again. Errors: ERR_NOT_FOUND without the tap or the
 * bridge; ERR_CONFLICT when a link of either name is none.
 */
int netcfg_tap_attach(struct netcfg *netcfg, const char *name, const char *bridge,
		      struct err *err) warn_unused;

/**
 * netcfg_tap_delete() - no tap of that name, whoever holds it; one that is not there is fine
 * Errors: ERR_CONFLICT when the link is no tap.
 */
int netcfg_tap_delete(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;

/**
 * struct netcfg_link - a link as it is now
 * @kind:   "bridge", "tun" (taps too), "veth", ...; "" for hardware
 * @up:     administratively
 * @carrier: a cable, a port that is up, a process that holds the tap
 * @master: index of the bridge it is a port of, or 0
 */
struct netcfg_link {
	int index;
	char kind[16];
	bool up, carrier;
	int master;
	uint8_t mac[6];
	uint32_t mtu;
};

/** netcfg_link_get() - errors: ERR_NOT_FOUND */
int netcfg_link_get(struct netcfg *netcfg, const char *name, struct netcfg_link *ret,
		    struct err *err) warn_unused;

/** netcfg_link_exists() - is there a link of that name? */
int netcfg_link_exists(struct netcfg *netcfg, const char *name, bool *ret,
		       struct err *err) warn_unused;

/**
 * netcfg_range_check() - may a network of ours take these addresses?
 * @address: any address inside the range (network byte order)
 * @own:     the bridge whose own address and route do not count, or NULL
 *
 * Compared with every IPv4 address and every unicast, blackhole, unreachable or prohibit route of
 * the host, in all tables, but for default routes (0.0.0.0/0, and the halves that VPNs use). Needs
 * no privilege. Errors: ERR_CONFLICT; the message names what is in the way.
 */
int netcfg_range_check(struct netcfg *netcfg, struct in_addr address, unsigned int prefix,
		       const char *own, struct err *err) warn_unused;

/**
 * struct netcfg_range - an IPv4 range that the host uses; @address in host byte order, host bits 0
 */
struct netcfg_range {
	uint32_t address;
	unsigned int prefix;
	char link[NETCFG_NAME_MAX + 1]; /* "" where a route has none */
};

/**
 * netcfg_ranges_each() - every range that netcfg_range_check() compares with
 * @cb: 0 to go on; anything else ends the walk
 */
int netcfg_ranges_each(struct netcfg *netcfg,
		       int (*cb)(void *data, const struct netcfg_range *range), void *data,
		       struct err *err) warn_unused;
