/* Ports of a bridge. */
#pragma once

#include "netcfg/netcfg.h"

/**
 * struct netcfg_port - how a bridge treats a port; all zeros is the kernel's own way
 * @isolated: nothing passes between this port and other isolated ones
 * @hairpin:  frames may leave by the port that they came in by
 * @fixed:    @mac is the only one behind this port: it is not learned but told, frames to others
 *            are not flooded there, so that no frame of a guest moves another's MAC to its port
 * @pvid:     1 to 4094: untagged traffic is in this VLAN, and no other passes (needs VLAN
 *            filtering on the bridge); 0: leave alone
 * @trunk:    with @pvid: tagged instead, and no untagged traffic, for an uplink that carries
 *            several: attach it once for each
 */
struct netcfg_port {
	bool isolated, hairpin, fixed, trunk;
	uint16_t pvid;
	uint8_t mac[6];
};

/**
 * netcfg_port_attach() - a link that is there is up and a port of @bridge, as @port says
 * One that is a port of another bridge is moved. Errors: ERR_NOT_FOUND without the link or the
 * bridge; ERR_CONFLICT when @bridge is no bridge; ERR_UNSUPPORTED naming what the kernel lacks.
 */
int netcfg_port_attach(struct netcfg *netcfg, const char *name, const char *bridge,
		       const struct netcfg_port *port, struct err *err) warn_unused;

/**
 * netcfg_port_has_pvid() - is it in VLAN @pvid, untagged, and in no other?
 * What @pvid of struct netcfg_port makes. No, where it is no port or its bridge filters no VLANs.
 */
int netcfg_port_has_pvid(struct netcfg *netcfg, const char *name, uint16_t pvid, bool *ret,
			 struct err *err) warn_unused;

/**
 * netcfg_port_pvid() - in which VLAN is what comes untagged?
 * Of a port whose bridge filters VLANs. 0: in none, so all of it is dropped; or it is no port.
 */
int netcfg_port_pvid(struct netcfg *netcfg, const char *name, uint16_t *ret,
		     struct err *err) warn_unused;

/** netcfg_port_detach() - it is no bridge's port; a link that is not there is fine */
int netcfg_port_detach(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;
