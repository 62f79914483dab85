/* One of our bridges joined to one that the administrator made, by a pair of veths. */
#pragma once

#include "netcfg/netcfg.h"

/**
 * struct netcfg_join - which bridges, and by which links
 * @bridge: ours
 * @other:  the administrator's, which gets a port and is not touched otherwise
 * @near:   the end that is a port of @bridge
 * @far:    the end that is a port of @other
 * @vlan:   1 to 4094: all of @bridge is in this VLAN of @other, which has to filter VLANs, and in
 *          no other; 0: what @other gives to a new port, and what has been made of that since
 */
struct netcfg_join {
	const char *bridge, *other;
	const char *near, *far;
	uint16_t vlan;
};

/**
 * netcfg_join_ensure() - the two bridges are joined as @join says, and up
 *
 * Each end has the MTU of its bridge, which might follow a port with a smaller one. The MAC of @far
 * is a high one, since a bridge may take the lowest that its ports have. IPv6 is off on both ends.
 * What stands there under their names and is not this pair is replaced.
 *
 * Two ways between two bridges are a loop, in which each broadcast goes round for ever: where there
 * is another one (a pair of veths, a VLAN of @other as a port of @bridge), nothing is joined.
 *
 * Errors: ERR_NOT_FOUND without one of the bridges; ERR_CONFLICT when @other is no bridge, is down,
 * or filters no VLANs and @vlan asks for one, when a link of one of the names is no veth, or when
 * there is another way, which is named.
 */
int netcfg_join_ensure(struct netcfg *netcfg, const struct netcfg_join *join,
		       struct err *err) warn_unused;

/**
 * netcfg_join_delete() - neither end is there, so nothing is joined by them; idempotent
 * Errors: ERR_CONFLICT when a link of one of the names is no veth.
 */
int netcfg_join_delete(struct netcfg *netcfg, const char *near, const char *far,
		       struct err *err) warn_unused;
