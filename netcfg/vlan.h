/* 802.1Q sub-interfaces: one VLAN of an uplink as a link of its own, to be a port of a bridge. */
#pragma once

#include "netcfg/netcfg.h"

/**
 * netcfg_vlan_ensure() - link @name is VLAN @tag (1 to 4094) of @uplink, and up
 * One of that name with another tag or uplink is replaced. Errors: ERR_NOT_FOUND without the
 * uplink; ERR_CONFLICT when a link of that name is no VLAN, or the uplink has that VLAN under
 * another name (which is named), or is down: the kernel brings sub-interfaces up and down together
 * with it; ERR_UNSUPPORTED without 802.1Q in the kernel.
 */
int netcfg_vlan_ensure(struct netcfg *netcfg, const char *name, const char *uplink,
		       unsigned int tag, struct err *err) warn_unused;

/** netcfg_vlan_delete() - no VLAN of that name; errors: ERR_CONFLICT when the link is none */
int netcfg_vlan_delete(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;
