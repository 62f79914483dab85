/* Links: what there is, up and down, names, and what the host's own routes occupy. */
#pragma once

#include <stdint.h>

#include "netcfg/netcfg.h"

#define NETCFG_LINK_ADDRS_MAX 16

/* struct netcfg_counters - since the link was made; as the host sees it: rx is from the guest */
struct netcfg_counters {
	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets, rx_dropped, tx_dropped;
};

/**
 * struct netcfg_link - a link as it is now
 * @kind:        "bridge", "tun" (taps too), "veth", ...; "" for hardware
 * @up:          administratively
 * @carrier:     a cable, a port that is up, a process that holds the tap
 * @master:      index of the bridge it is a port of, or 0
 * @master_name: that bridge's name, or ""
 * @lower:       index of the link below it (VLAN, VXLAN) or of a veth's other end, or 0; also 0
 *               where that one is in another network namespace
 * @vlan, @vni:  of a VLAN and of a VXLAN, else 0
 * @vlan_filtering: of a bridge: it filters VLANs, so its ports are in VLANs
 * @isolated, @learning, @flood, @hairpin: of a bridge's port
 */
struct netcfg_link {
	int index;
	char name[NETCFG_NAME_MAX + 1];
	char kind[16];
	bool up, carrier, loopback;
	int master;
	char master_name[NETCFG_NAME_MAX + 1];
	int lower;
	uint16_t vlan;
	uint32_t vni;
	bool vlan_filtering;
	bool isolated, learning, flood, hairpin;
	uint8_t mac[6];
	uint32_t mtu;
	struct netcfg_counters counters;
};

/** netcfg_link_get() - any link by name, uplinks too; errors: ERR_NOT_FOUND */
int netcfg_link_get(struct netcfg *netcfg, const char *name, struct netcfg_link *ret,
		    struct err *err) warn_unused;

/** netcfg_link_exists() - is there a link of that name? */
int netcfg_link_exists(struct netcfg *netcfg, const char *name, bool *ret,
		       struct err *err) warn_unused;

/** netcfg_links_each() - all links in one request; @cb: 0 to go on, anything else ends the walk */
int netcfg_links_each(struct netcfg *netcfg, int (*cb)(void *data, const struct netcfg_link *link),
		      void *data, struct err *err) warn_unused;

/**
 * netcfg_link_addresses() - the IPv4 and IPv6 addresses of a link, link-local ones too
 * @ret: room for NETCFG_LINK_ADDRS_MAX; what is over is not told
 */
int netcfg_link_addresses(struct netcfg *netcfg, const char *name, struct netcfg_addr *ret,
			  size_t *ret_n, struct err *err) warn_unused;

/** netcfg_link_set_up() - bring a link of ours up or down; errors: ERR_NOT_FOUND */
int netcfg_link_set_up(struct netcfg *netcfg, const char *name, bool up,
		       struct err *err) warn_unused;

/**
 * netcfg_link_delete() - no link of that name and kind; one that is not there is fine
 * @kind: as in struct netcfg_link. Errors: ERR_CONFLICT when the link is of another kind.
 */
int netcfg_link_delete(struct netcfg *netcfg, const char *name, const char *kind,
		       struct err *err) warn_unused;

/**
 * netcfg_links_sweep() - what netcfg_tap_discard() and the like put aside goes
 *
 * The kernel takes some 15 ms until a link is gone, whoever deletes it, and about as long for many
 * in one request: see docs/decisions/deleting-links.md. So links are put aside where somebody
 * waits, which costs next to nothing, and swept away together where nobody does. Left aside they
 * do no harm: they are down. What a process before this one left is swept as well.
 */
int netcfg_links_sweep(struct netcfg *netcfg, struct err *err) warn_unused;

/** netcfg_links_await_sweep() - may there be anything to be swept? Asks nobody */
bool netcfg_links_await_sweep(const struct netcfg *netcfg);

/**
 * netcfg_veth_ensure() - two links, both up, each the other's end
 * Errors: ERR_CONFLICT when one name is taken by something else.
 */
int netcfg_veth_ensure(struct netcfg *netcfg, const char *name, const char *peer,
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
