#include "netcfg/link.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <netlink/addr.h>
#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

static void cache_freep(struct nl_cache **cache)
{
	nl_cache_free(*cache);
}

/* Is it an IPv4 range that counts? Default routes, whole or as VPNs' two halves, do not. */
static bool range_of(struct nl_addr *addr, int prefix, struct netcfg_range *ret)
{
	if (!addr || nl_addr_get_family(addr) != AF_INET || nl_addr_get_len(addr) != 4 ||
	    prefix < 2 || prefix > 32)
		return false;
	uint32_t raw;
	memcpy(&raw, nl_addr_get_binary_addr(addr), sizeof(raw));
	ret->prefix = (unsigned int)prefix;
	ret->address = ntohl(raw) & netcfg_mask(ret->prefix);
	return true;
}

static void range_name(struct nl_cache *links, int index, struct netcfg_range *ret)
{
	if (index <= 0 || !rtnl_link_i2name(links, index, ret->link, sizeof(ret->link)))
		ret->link[0] = '\0';
}

static bool route_counts(struct rtnl_route *route)
{
	int type = rtnl_route_get_type(route);
	return type == RTN_UNICAST || type == RTN_BLACKHOLE || type == RTN_UNREACHABLE ||
	       type == RTN_PROHIBIT;
}

int netcfg_ranges_each(struct netcfg *netcfg,
		       int (*cb)(void *data, const struct netcfg_range *range), void *data,
		       struct err *err)
{
	_cleanup_(cache_freep) struct nl_cache *links = NULL, *addrs = NULL, *routes = NULL;
	int nle = rtnl_link_alloc_cache(netcfg->sock, AF_UNSPEC, &links);
	if (nle == 0)
		nle = rtnl_addr_alloc_cache(netcfg->sock, &addrs);
	if (nle == 0)
		nle = rtnl_route_alloc_cache(netcfg->sock, AF_INET, 0, &routes);
	if (nle < 0)
		return netcfg_err_nl(err, nle, "cannot list the host's addresses and routes");
	struct netcfg_range range;
	for (struct nl_object *o = nl_cache_get_first(addrs); o; o = nl_cache_get_next(o)) {
		struct rtnl_addr *addr = (struct rtnl_addr *)(void *)o;
		if (!range_of(rtnl_addr_get_local(addr), rtnl_addr_get_prefixlen(addr), &range))
			continue;
		range_name(links, rtnl_addr_get_ifindex(addr), &range);
		if (cb(data, &range) != 0)
			return 0;
	}
	for (struct nl_object *o = nl_cache_get_first(routes); o; o = nl_cache_get_next(o)) {
		struct rtnl_route *route = (struct rtnl_route *)(void *)o;
		struct nl_addr *dst = rtnl_route_get_dst(route);
		if (!route_counts(route) || !dst ||
		    !range_of(dst, (int)nl_addr_get_prefixlen(dst), &range))
			continue;
		struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
		range_name(links, hop ? rtnl_route_nh_get_ifindex(hop) : 0, &range);
		if (cb(data, &range) != 0)
			return 0;
	}
	return 0;
}

struct check {
	uint32_t address;
	unsigned int prefix;
	const char *own;
	bool hit;
	struct netcfg_range found;
};

static int check_one(void *data, const struct netcfg_range *range)
{
	struct check *check = data;
	if (check->own && strcmp(range->link, check->own) == 0)
		return 0;
	unsigned int prefix = range->prefix < check->prefix ? range->prefix : check->prefix;
	if ((range->address ^ check->address) & netcfg_mask(prefix))
		return 0;
	check->hit = true;
	check->found = *range;
	return 1;
}

int netcfg_range_check(struct netcfg *netcfg, struct in_addr address, unsigned int prefix,
		       const char *own, struct err *err)
{
	if (prefix > 32)
		return err_set(err, ERR_INVALID, "prefix /%u is over /32", prefix);
	struct check check = {.address = ntohl(address.s_addr) & netcfg_mask(prefix),
			      .prefix = prefix,
			      .own = own};
	if (netcfg_ranges_each(netcfg, check_one, &check, err) < 0)
		return -1;
	if (!check.hit)
		return 0;
	struct in_addr asked = {htonl(check.address)}, found = {htonl(check.found.address)};
	char asked_text[INET_ADDRSTRLEN], found_text[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &asked, asked_text, sizeof(asked_text));
	inet_ntop(AF_INET, &found, found_text, sizeof(found_text));
	return err_set(err, ERR_CONFLICT,
		       "%s/%u overlaps %s/%u, which this host reaches %s%s: choose another range",
		       asked_text, prefix, found_text, check.found.prefix,
		       check.found.link[0] ? "over " : "by a route without a link",
		       check.found.link);
}
