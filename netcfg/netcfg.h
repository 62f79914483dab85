/*
 * Kernel networking in plain synchronous calls: bridges and taps over rtnetlink (libnl-3,
 * libnl-route-3), the firewall over libnftables, probes of what this kernel can do. For programs
 * with CAP_NET_ADMIN; reading needs no privilege. Every call that makes or removes something is
 * idempotent: it may be repeated after a crash at any point, and what others own is left alone.
 *
 * Names of links are the caller's: 1 to 15 characters of [a-z0-9-] (NETCFG_NAME_MAX is the
 * kernel's IFNAMSIZ less its NUL). A name outside of that is ERR_INVALID and nothing is touched.
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

/** netcfg_mask() - the netmask of a prefix length of 0 to 32, host byte order */
static inline uint32_t netcfg_mask(unsigned int prefix)
{
	return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}
