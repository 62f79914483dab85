/*
 * Firewall groups: sets of rules that NICs carry (nic.h).
 *
 * They hold at the tap, in the bridge family, so that they also hold between desktops of one
 * bridge. Stateful: where a rule lets a TCP, UDP or echo exchange begin, its answers pass the other
 * way, whatever the rules there say; ARP, DHCP, neighbour discovery and ICMP errors always pass.
 * State is kept in sets of ours, since bridge connection tracking is not in every kernel: see
 * docs/decisions/firewall-groups.md.
 */
#pragma once

#include "netcfg/firewall.h"

#define NETCFG_GROUP_RULES_MAX 256

enum netcfg_direction { NETCFG_IN = 1 /* to the guest */, NETCFG_OUT };

/**
 * struct netcfg_rule - the first rule that matches a packet decides
 * @port_first, @port_last: the destination's, tcp and udp only; 0, 0: all
 * @remote:       the other end: a network, or family 0: anybody
 * @remote_group: or the NICs of a group (its id; ids begin with 1), by their addresses; 0: none
 */
struct netcfg_rule {
	enum netcfg_direction direction;
	enum netcfg_protocol protocol;
	bool accept;
	uint16_t port_first, port_last;
	struct netcfg_addr remote;
	uint32_t remote_group;
};

/**
 * struct netcfg_group - a named set of rules
 * @id: from 1; the name is the caller's business
 * @drop_in, @drop_out: what no rule of any of the NIC's groups matches is dropped in that direction
 *                      when one of its groups says so, else it passes
 */
struct netcfg_group {
	uint32_t id;
	bool drop_in, drop_out;
	const struct netcfg_rule *rules;
	size_t n_rules;
};

/**
 * netcfg_groups_ensure() - these groups are so, for all NICs that carry them; one transaction
 * Others stay as they are. A remote group that is not there is made, empty of members.
 * @revoke: also end the open connections that the rules no longer allow to begin. Those that they
 *          allow go on when the side that began them sends next. Without it they all go on.
 */
int netcfg_groups_ensure(struct netcfg *netcfg, const struct netcfg_group *groups, size_t n,
			 bool revoke, struct err *err) warn_unused;

/** netcfg_group_delete() - errors: ERR_BUSY while a NIC carries it or a rule names it */
int netcfg_group_delete(struct netcfg *netcfg, uint32_t id, struct err *err) warn_unused;

/** netcfg_group_has() - is there a group of that id? */
int netcfg_group_has(struct netcfg *netcfg, uint32_t id, bool *ret, struct err *err) warn_unused;
