/* A physical link as a port of a bridge, with the host's addresses and routes moved along. */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_UPLINK_ADDRS_MAX  16
#define NETCFG_UPLINK_ROUTES_MAX 32

/* struct netcfg_route - of the main table or another; @gateway of family 0: on the link itself */
struct netcfg_route {
	struct netcfg_addr to; /* prefix 0: the default route */
	struct netcfg_addr gateway, source;
	uint32_t table, metric;
	uint8_t protocol, scope, onlink;
};

/**
 * struct netcfg_uplink - what a link had before it became a port
 * Of fixed size and without pointers, so that it can be sent and kept.
 */
struct netcfg_uplink {
	char name[NETCFG_NAME_MAX + 1];
	uint8_t mac[6];
	uint32_t mtu;
	uint8_t was_up;
	uint8_t n_addresses, n_routes;
	struct netcfg_addr addresses[NETCFG_UPLINK_ADDRS_MAX];
	struct netcfg_route routes[NETCFG_UPLINK_ROUTES_MAX];
};

/**
 * netcfg_uplink_capture() - addresses (not IPv6 link-local ones) and routes of a link
 *
 * Changes nothing. Errors: ERR_NOT_FOUND; ERR_CONFLICT when it is a port of a bridge already (which
 * is named), a bridge, or of loopback; ERR_LIMIT with more addresses or routes than there is
 * room for; ERR_UNSUPPORTED for a route over several gateways.
 */
int netcfg_uplink_capture(struct netcfg *netcfg, const char *name, struct netcfg_uplink *ret,
			  struct err *err) warn_unused;

/**
 * netcfg_uplink_enslave() - make the captured link a port of @bridge and give the bridge all it had
 *
 * The bridge takes the link's MAC, so that a lease of the host's own address goes on. Repeating it
 * is fine. On failure all is put back as captured. Errors: as netcfg_uplink_capture().
 */
int netcfg_uplink_enslave(struct netcfg *netcfg, const struct netcfg_uplink *uplink,
			  const char *bridge, struct err *err) warn_unused;

/**
 * netcfg_uplink_release() - the link is no port any more and has again what was captured
 * The bridge loses it, and may be gone already. Idempotent. Errors: ERR_NOT_FOUND without the link;
 * ERR_CONFLICT when it is by now a port of a bridge that is not @bridge.
 */
int netcfg_uplink_release(struct netcfg *netcfg, const struct netcfg_uplink *uplink,
			  const char *bridge, struct err *err) warn_unused;
