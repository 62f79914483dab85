/*
 * Kernel networking in plain synchronous calls: bridges, taps, VLANs, VXLANs, rates over rtnetlink
 * (libnl-3, libnl-route-3), the firewall over nfnetlink and libnftables, probes of what this kernel
 * can do. For programs
 * with CAP_NET_ADMIN; reading needs no privilege. Every call that makes or removes something is
 * idempotent: it may be repeated after a crash at any point, and what others own is left alone.
 *
 * Names of links are the caller's: 1 to 15 characters of [a-z0-9-] (NETCFG_NAME_MAX is the
 * kernel's IFNAMSIZ less its NUL). A name outside of that is ERR_INVALID and nothing is touched.
 * An uplink has the name that the administrator gave it: whatever the kernel takes.
 *
 * What the kernel lacks is ERR_UNSUPPORTED, and the message names the feature.
 *
 * The network namespace is the one that the thread was in at netcfg_open().
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

#define NETCFG_NAME_MAX 15

/** struct netcfg - one rtnetlink socket; not to be shared between threads or across fork(2) */
struct netcfg;

int netcfg_open(struct netcfg **ret, struct err *err) warn_unused;

/** netcfg_close() - NULL is fine */
void netcfg_close(struct netcfg *netcfg);

DEFINE_FREEP(struct netcfg, netcfg_close);

/** netcfg_name_is_valid() - could a link of ours have this name? */
bool netcfg_name_is_valid(const char *name);

/** netcfg_name_is_uplink() - could a link of somebody's have this name? No '/', ':', blanks, '"'.
 */
bool netcfg_name_is_uplink(const char *name);

/**
 * struct netcfg_addr - an IPv4 or IPv6 address, or a network
 * @family: AF_INET, AF_INET6, or 0: none
 * @prefix: 0 to 32 or 128; where a single address is meant it is not looked at
 * @v4, @v6: network byte order
 *
 * Of fixed size and without pointers, so that it can be sent.
 */
struct netcfg_addr {
	uint16_t family;
	uint8_t prefix;
	union {
		struct in_addr v4;
		struct in6_addr v6;
	};
};

#define NETCFG_ADDR_TEXT_MAX (INET6_ADDRSTRLEN + 4)

/** netcfg_addr_v4() - from an address in network byte order */
struct netcfg_addr netcfg_addr_v4(struct in_addr address, unsigned int prefix);

struct netcfg_addr netcfg_addr_v6(const struct in6_addr *address, unsigned int prefix);

/** netcfg_addr_parse() - "10.0.0.1", "10.0.0.0/8", "fd00::1/64"; without '/': 32 or 128 */
int netcfg_addr_parse(const char *text, struct netcfg_addr *ret, struct err *err) warn_unused;

/** netcfg_addr_format() - "10.0.0.1/8"; "none" for family 0; returns @ret */
const char *netcfg_addr_format(const struct netcfg_addr *addr, char ret[NETCFG_ADDR_TEXT_MAX]);

/** netcfg_addr_equal() - the same family, address and prefix? */
bool netcfg_addr_equal(const struct netcfg_addr *a, const struct netcfg_addr *b);

/** netcfg_ipv4_is_unicast() - could it be a host's? Not of 0/8 or 127/8, no group and nothing above
 */
bool netcfg_ipv4_is_unicast(struct in_addr address);

#define NETCFG_MAC_TEXT_MAX 18

/** netcfg_mac_format() - "52:54:00:01:02:03"; returns @ret */
const char *netcfg_mac_format(const uint8_t mac[6], char ret[NETCFG_MAC_TEXT_MAX]);

/** netcfg_mac_is_valid() - a unicast MAC that is not all zeros? */
bool netcfg_mac_is_valid(const uint8_t mac[6]);

/** netcfg_mac_link_local() - the IPv6 link-local address that derives from a MAC (EUI-64) */
struct in6_addr netcfg_mac_link_local(const uint8_t mac[6]);

/** netcfg_mask() - the netmask of a prefix length of 0 to 32, host byte order */
static inline uint32_t netcfg_mask(unsigned int prefix)
{
	return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}
