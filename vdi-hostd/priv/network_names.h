/* Inside of priv/ only: names of links out of slots, and what the network verbs share. */
#pragma once

#include <stdio.h>

#include "netcfg/netcfg.h"
#include "vdi-hostd/priv/verbs.h"

struct link_name {
	char text[NETCFG_NAME_MAX + 1];
};

static inline struct link_name network_link_name(const char *what, uint32_t network)
{
	struct link_name ret;
	snprintf(ret.text, sizeof(ret.text), "vdi%s%u", what, network);
	return ret;
}

static inline struct link_name bridge_name(uint32_t network)
{
	return network_link_name("br", network);
}

static inline struct link_name vxlan_name(uint32_t network)
{
	return network_link_name("vx", network);
}

static inline struct link_name vlan_name(uint32_t network)
{
	return network_link_name("vl", network);
}

/* the ends of the veths that join a network's bridge to one of the administrator's: in ours ... */
static inline struct link_name near_name(uint32_t network)
{
	return network_link_name("up", network);
}

/* ... and in that one */
static inline struct link_name far_name(uint32_t network)
{
	return network_link_name("dn", network);
}

static inline struct link_name tap_name(uint32_t desktop, uint32_t nic)
{
	struct link_name ret;
	snprintf(ret.text, sizeof(ret.text), "vdi%un%u", desktop, nic);
	return ret;
}

/** network_check_slot() - ERR_INVALID naming @field where it is none */
int network_check_slot(uint32_t slot, const char *field, struct err *err) warn_unused;
/** network_check_address() - an address of one host, or a range with its prefix */
int network_check_address(const struct netcfg_addr *addr, bool optional, const char *field,
			  struct err *err) warn_unused;
/** network_check_uplink() - a whole name, of a link that can be somebody's uplink */
int network_check_uplink(const char name[NETCFG_NAME_MAX + 1], struct err *err) warn_unused;
/** network_need_netcfg() - ERR_UNSUPPORTED where the kernel cannot be reached */
int network_need_netcfg(const struct verbs *verbs, struct err *err) warn_unused;
/** network_has_address6() - not zeros? */
bool network_has_address6(const uint8_t address[16]);
