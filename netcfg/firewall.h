/*
 * The firewall, in one nftables table of our own: `table inet vdi-hostd`. Each network has chains
 * of its own, reached over verdict maps keyed by the bridge's name, so that a change to one network
 * touches nothing of the others; each change is one transaction that happens wholly or not at all.
 * Other tables are never read or written.
 *
 * What guests may do:
 *
 *  - nat: open connections to anywhere but our other networks, as the host (masquerade); only
 *    answers come back. Source addresses outside of the network are dropped.
 *  - isolated: talk to each other; nothing is forwarded.
 *  - both: ask the host for DHCP (UDP 67), DNS on the bridge's address (53), ICMP echo, and answer
 *    connections that the host opened. All else to the host is dropped. No IPv6 passes.
 *
 * Living with other tables: in nftables a packet passes only if no table drops it. Docker sets the
 * FORWARD policy of its own table to drop, and firewalld refuses DHCP in its default zone; ours
 * cannot overrule them. There the administrator adds, for Docker,
 * `iptables -I DOCKER-USER -i vdibr+ -j ACCEPT` and `-o vdibr+`, and for firewalld puts the bridges
 * in zone `trusted`; this table still guards them.
 */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_FIREWALL_TABLE "vdi-hostd"

enum netcfg_firewall_kind { NETCFG_FIREWALL_NAT = 1, NETCFG_FIREWALL_ISOLATED };

/**
 * struct netcfg_firewall - one network
 * @bridge:  its bridge, which need not exist yet
 * @address: the bridge's own address (network byte order)
 * @prefix:  8 to 30
 */
struct netcfg_firewall {
	const char *bridge;
	enum netcfg_firewall_kind kind;
	struct in_addr address;
	unsigned int prefix;
};

/**
 * netcfg_firewall_ensure() - the rules of one network are as @network says
 *
 * Makes the table where it is missing. For kind nat also enables net.ipv4.ip_forward, which is
 * never disabled again: something else on the host may rely on it by then.
 * Errors: ERR_UNSUPPORTED without nftables, ERR_DENIED, ERR_IO (nft's own words).
 */
int netcfg_firewall_ensure(struct netcfg *netcfg, const struct netcfg_firewall *network,
			   struct err *err) warn_unused;

/**
 * netcfg_firewall_delete() - nothing of that bridge's network is left; nothing there is fine
 * The table goes with its last network.
 */
int netcfg_firewall_delete(struct netcfg *netcfg, const char *bridge, struct err *err) warn_unused;

/** netcfg_firewall_has() - are there rules for that bridge? */
int netcfg_firewall_has(struct netcfg *netcfg, const char *bridge, bool *ret,
			struct err *err) warn_unused;
