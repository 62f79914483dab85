/* Port forwards: a port of the host's that leads to a guest's. */
#pragma once

#include "netcfg/firewall.h"

#define NETCFG_FORWARD_PORTS_MAX 1024

/**
 * struct netcfg_forward - ports of the host's, one to one to as many of a guest's
 * @protocol:   NETCFG_TCP or NETCFG_UDP
 * @host:       one address of the host's, or family 0: all but loopback, of the guest's family
 * @guest:      the guest's address, in a network of ours
 * @guest_port: where @port_first leads to; the others follow
 */
struct netcfg_forward {
	enum netcfg_protocol protocol;
	struct netcfg_addr host;
	uint16_t port_first, port_last;
	struct netcfg_addr guest;
	uint16_t guest_port;
};

/**
 * netcfg_forward_ensure() - these ports lead there, from outside, from the host itself and from
 * guests of the same network
 *
 * The network's rules (netcfg_firewall_ensure()) let through what was forwarded; firewall groups of
 * the NIC still have their say. Enables forwarding in the kernel. Errors: ERR_CONFLICT when one of
 * the ports leads elsewhere already; ERR_INVALID.
 */
int netcfg_forward_ensure(struct netcfg *netcfg, const struct netcfg_forward *forward,
			  struct err *err) warn_unused;

/** netcfg_forward_delete() - none of these ports leads to that guest; what leads elsewhere stays */
int netcfg_forward_delete(struct netcfg *netcfg, const struct netcfg_forward *forward,
			  struct err *err) warn_unused;

/** netcfg_forward_has() - do all of these ports lead there? */
int netcfg_forward_has(struct netcfg *netcfg, const struct netcfg_forward *forward, bool *ret,
		       struct err *err) warn_unused;
