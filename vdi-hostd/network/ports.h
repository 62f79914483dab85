/* Inside of network/ only: which ports of the host have a listener. */
#pragma once

#include "netcfg/netcfg.h"

/**
 * struct ports - ports of the host's that somebody wants
 * @ipv4, @ipv6: of these families
 * @host: one address, or of family 0: all of them
 */
struct ports {
	bool tcp, ipv4, ipv6;
	struct netcfg_addr host;
	uint16_t first, last;
};

/**
 * ports_check_free() - does nothing on the host listen there?
 * Read from proc(5) /proc/net/{tcp,tcp6,udp,udp6}. Errors: ERR_CONFLICT naming the port.
 */
int ports_check_free(const struct ports *wanted, struct err *err) warn_unused;
