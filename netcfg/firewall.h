/*
 * The firewall, in two nftables tables of our own. Other tables are never read or written.
 *
 * `table inet vdi-hostd`: what leaves a network, what reaches the host, NAT and port forwards
 * (firewall.h, forward.h). `table bridge vdi-hostd`: what a NIC may send and receive at all, also
 * between the desktops of one bridge: anti-spoofing (nic.h) and firewall groups (group.h). Each
 * change is one transaction that happens wholly or not at all.
 *
 * What guests of a network may do:
 *
 *  - nat: open connections to anywhere but our other networks, as the host (masquerade, IPv4 and
 *    IPv6); only answers come back, and what a port forward lets in. Source addresses outside of
 *    the network are dropped.
 *  - routed: the same without masquerade, and others may open connections to it; the routers around
 *    must know the way.
 *  - isolated: talk to each other; nothing is forwarded but port forwards.
 *  - bridged: a port of the bridge is an uplink; the host forwards nothing for it, and its services
 *    are guarded by the host's own firewall, as before (a bridge that has the host's address is how
 *    the administrator comes in).
 *  - all but bridged: ask the host for DHCP, DHCPv6, DNS, ICMP echo, what neighbour discovery
 *    needs, and what @openings say; answer connections that the host opened. All else to the host
 *    is dropped, also what goes on through an opening that is closed.
 *
 * Living with other tables: in nftables a packet passes only if no table drops it. Docker sets the
 * FORWARD policy of its own table to drop, and firewalld refuses DHCP in its default zone; ours
 * cannot overrule them. There the administrator adds, for Docker,
 * `iptables -I DOCKER-USER -i vdibr+ -j ACCEPT` and `-o vdibr+`, and for firewalld puts the bridges
 * in zone `trusted`; this table still guards them.
 */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_FIREWALL_TABLE        "vdi-hostd"
#define NETCFG_FIREWALL_ADDRS_MAX    4
#define NETCFG_FIREWALL_OPENINGS_MAX 16

enum netcfg_firewall_kind {
	NETCFG_FIREWALL_NAT = 1,
	NETCFG_FIREWALL_ISOLATED,
	NETCFG_FIREWALL_ROUTED,
	NETCFG_FIREWALL_BRIDGED,
};

/* icmp is ICMP for IPv4 and ICMPv6 for IPv6 */
enum netcfg_protocol { NETCFG_PROTOCOL_ANY, NETCFG_TCP, NETCFG_UDP, NETCFG_ICMP };

/* struct netcfg_opening - a service of the host that guests may use; tcp or udp, first <= last */
struct netcfg_opening {
	enum netcfg_protocol protocol;
	uint16_t port_first, port_last;
};

/**
 * struct netcfg_firewall - one network
 * @bridge:    its bridge, which need not exist yet
 * @mac:       the bridge's, as struct netcfg_bridge has it
 * @addresses: the bridge's own, with the networks' prefixes; none for kind bridged
 * @openings:  what guests may reach on the host besides DHCP and DNS
 * @hears_dhcp: kind bridged: answers of DHCP servers to its NICs are logged, for
 *             netcfg_dhcp_listen(); ERR_UNSUPPORTED where the kernel cannot
 */
struct netcfg_firewall {
	const char *bridge;
	uint8_t mac[6];
	enum netcfg_firewall_kind kind;
	struct netcfg_addr addresses[NETCFG_FIREWALL_ADDRS_MAX];
	unsigned int n_addresses;
	struct netcfg_opening openings[NETCFG_FIREWALL_OPENINGS_MAX];
	unsigned int n_openings;
	bool hears_dhcp;
};

/**
 * netcfg_firewall_ensure() - the rules of one network are as @network says
 *
 * Makes the tables where they are missing. For kinds nat and routed also enables forwarding in the
 * kernel (of the families that @addresses have), which is never disabled again: something else on
 * the host may rely on it by then. With it on for IPv6, links whose accept_ra is 1 stop hearing
 * routers: those are set to 2 first, so that the host keeps its own way out.
 * Errors: ERR_UNSUPPORTED without nftables, ERR_DENIED, ERR_IO (nft's own words).
 */
int netcfg_firewall_ensure(struct netcfg *netcfg, const struct netcfg_firewall *network,
			   struct err *err) warn_unused;

/**
 * netcfg_firewall_delete() - nothing of that bridge's network is left; nothing there is fine
 * The tables go with the last network.
 */
int netcfg_firewall_delete(struct netcfg *netcfg, const char *bridge, struct err *err) warn_unused;

/**
 * netcfg_firewall_has() - do the rules say what @network asks for, and do hooks lead to them?
 * Of the rules that networks share it sees only that they are as many as they should be;
 * netcfg_firewall_ensure() mends those as well.
 */
int netcfg_firewall_has(struct netcfg *netcfg, const struct netcfg_firewall *network, bool *ret,
			struct err *err) warn_unused;

/**
 * netcfg_firewall_owner() - the number under which the kernel tells others who changed nftables
 * For netcfg_monitor_open(): what this process does is no news.
 */
int netcfg_firewall_owner(struct netcfg *netcfg, uint32_t *ret, struct err *err) warn_unused;
