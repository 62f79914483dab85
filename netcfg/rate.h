/* How fast a port may send and receive. */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_RATE_MIN  8000ULL /* bits a second */
#define NETCFG_RATE_MAX  400000000000ULL
#define NETCFG_BURST_MIN 1600U /* bytes */
#define NETCFG_BURST_MAX (1U << 30)

/**
 * struct netcfg_rate - one way
 * @bits_per_s: NETCFG_RATE_MIN to NETCFG_RATE_MAX, or 0: no limit
 * @burst:      bytes that may pass at once; 0: what passes in 10 ms, at least 64 KiB
 */
struct netcfg_rate {
	uint64_t bits_per_s;
	uint32_t burst;
};

/* struct netcfg_rates - both ways, as the guest sees it */
struct netcfg_rates {
	struct netcfg_rate to_guest, from_guest;
};

/**
 * netcfg_rates_ensure() - a tap or veth has these limits; changed live, no packet is lost by it
 *
 * To the guest: a tbf qdisc on the link. From the guest: ingress redirected to an ifb device of the
 * link's own (without the limit it goes with netcfg_links_sweep()), with a tbf there. What waits
 * over 50 ms is dropped. Errors: ERR_NOT_FOUND; ERR_UNSUPPORTED naming tbf, ifb or the redirection.
 */
int netcfg_rates_ensure(struct netcfg *netcfg, const char *name, const struct netcfg_rates *rates,
			struct err *err) warn_unused;

/** netcfg_rates_remove() - no limits; what is left of them, also where the link itself is gone,
 * goes with netcfg_links_sweep() */
int netcfg_rates_remove(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;

/** netcfg_rates_has() - has it these limits? What they are, but not the little that the kernel
 * rounds */
int netcfg_rates_has(struct netcfg *netcfg, const char *name, const struct netcfg_rates *rates,
		     bool *ret, struct err *err) warn_unused;

/** netcfg_rates_get() - as the kernel has them; zeros for no limit; errors: ERR_NOT_FOUND */
int netcfg_rates_get(struct netcfg *netcfg, const char *name, struct netcfg_rates *ret,
		     struct err *err) warn_unused;
