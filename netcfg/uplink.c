#include "netcfg/uplink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

/* ---- what a link has ---- */

struct capture {
	int index;
	struct netcfg_uplink *ret;
	bool too_many, several;
};

static void address_capture(void *data, struct nlmsghdr *answer)
{
	struct capture *capture = data;
	struct netcfg_uplink *ret = capture->ret;
	struct nlattr *attr[IFA_MAX + 1];
	const struct ifaddrmsg *head = nlmsg_data(answer);
	struct netcfg_addr found;
	if (answer->nlmsg_type != RTM_NEWADDR ||
	    nlmsg_parse(answer, sizeof(*head), attr, IFA_MAX, NULL) < 0 ||
	    (int)head->ifa_index != capture->index)
		return;
	const struct nlattr *local = attr[IFA_LOCAL] ? attr[IFA_LOCAL] : attr[IFA_ADDRESS];
	/* those that the kernel makes itself it makes on the bridge as well */
	if (!local ||
	    !netcfg_addr_set(&found, head->ifa_family, nla_data(local), (size_t)nla_len(local),
			     head->ifa_prefixlen) ||
	    (head->ifa_family == AF_INET6 &&
	     (IN6_IS_ADDR_LINKLOCAL(&found.v6) || head->ifa_flags & IFA_F_TEMPORARY)))
		return;
	if (ret->n_addresses == NETCFG_UPLINK_ADDRS_MAX)
		capture->too_many = true;
	else
		ret->addresses[ret->n_addresses++] = found;
}

static bool route_addr(struct nlattr *attr, int family, unsigned int prefix,
		       struct netcfg_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	return !attr || netcfg_addr_set(ret, family, nla_data(attr), (size_t)nla_len(attr), prefix);
}

static bool route_parse(const struct rtmsg *head, struct nlattr **attr, struct netcfg_route *ret)
{
	const int family = head->rtm_family;
	const unsigned int single = family == AF_INET ? 32 : 128;
	memset(ret, 0, sizeof(*ret));
	if (!route_addr(attr[RTA_DST], family, head->rtm_dst_len, &ret->to) ||
	    !route_addr(attr[RTA_GATEWAY], family, single, &ret->gateway) ||
	    !route_addr(attr[RTA_PREFSRC], family, single, &ret->source))
		return false;
	ret->to.family = (uint16_t)family;
	ret->to.prefix = head->rtm_dst_len;
	ret->table = attr[RTA_TABLE] ? nla_get_u32(attr[RTA_TABLE]) : head->rtm_table;
	ret->metric = attr[RTA_PRIORITY] ? nla_get_u32(attr[RTA_PRIORITY]) : 0;
	ret->protocol = head->rtm_protocol;
	ret->scope = head->rtm_scope;
	ret->onlink = !!(head->rtm_flags & RTNH_F_ONLINK);
	return true;
}

/* Does one of several gateways lie behind this link? */
static bool hops_have(struct nlattr *hops, int index)
{
	struct rtnexthop *hop = nla_data(hops);
	int rest = nla_len(hops);
	for (; RTNH_OK(hop, rest); rest -= NLMSG_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop))
		if (hop->rtnh_ifindex == index)
			return true;
	return false;
}

static void route_capture(void *data, struct nlmsghdr *answer)
{
	struct capture *capture = data;
	struct netcfg_uplink *ret = capture->ret;
	struct nlattr *attr[RTA_MAX + 1];
	const struct rtmsg *head = nlmsg_data(answer);
	struct netcfg_route route;
	if (answer->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(answer, sizeof(*head), attr, RTA_MAX, NULL) < 0 ||
	    (head->rtm_family != AF_INET && head->rtm_family != AF_INET6) ||
	    head->rtm_type != RTN_UNICAST || head->rtm_flags & RTM_F_CLONED)
		return;
	if (attr[RTA_MULTIPATH] && hops_have(attr[RTA_MULTIPATH], capture->index))
		capture->several = true;
	if (!attr[RTA_OIF] || (int)nla_get_u32(attr[RTA_OIF]) != capture->index)
		return;
	/* these come with the addresses; what a router announced, but for itself, too */
	if (head->rtm_protocol == RTPROT_KERNEL ||
	    (head->rtm_protocol == RTPROT_RA && !attr[RTA_GATEWAY]) ||
	    !route_parse(head, attr, &route) || route.table == RT_TABLE_LOCAL)
		return;
	if (ret->n_routes == NETCFG_UPLINK_ROUTES_MAX)
		capture->too_many = true;
	else
		ret->routes[ret->n_routes++] = route;
}

static int capture_all(struct netcfg *netcfg, int index, struct netcfg_uplink *ret, struct err *err)
{
	const struct ifaddrmsg addresses = {.ifa_family = AF_UNSPEC};
	const struct rtmsg routes = {.rtm_family = AF_UNSPEC};
	struct capture capture = {.index = index, .ret = ret};
	int sys;
	do {
		ret->n_addresses = 0;
		sys = netcfg_ask(netcfg->sock,
				 netcfg_msg(RTM_GETADDR, NLM_F_DUMP, &addresses, sizeof(addresses)),
				 address_capture, &capture);
	} while (sys == EINTR);
	while (sys == 0 || sys == EINTR) {
		ret->n_routes = 0;
		sys = netcfg_ask(netcfg->sock,
				 netcfg_msg(RTM_GETROUTE, NLM_F_DUMP, &routes, sizeof(routes)),
				 route_capture, &capture);
		if (sys == 0)
			break;
	}
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot list the addresses and routes of %s",
				      ret->name);
	if (capture.several)
		return err_set(err, ERR_UNSUPPORTED,
			       "uplink %s has a route over several gateways, which cannot be moved",
			       ret->name);
	if (capture.too_many)
		return err_set(err, ERR_LIMIT, "uplink %s has over %d addresses or %d routes",
			       ret->name, NETCFG_UPLINK_ADDRS_MAX, NETCFG_UPLINK_ROUTES_MAX);
	return 0;
}

/* A link that could be a port: there, and no bridge, loopback or other's port. */
static int uplink_find(struct netcfg *netcfg, const char *name, const char *bridge,
		       struct netcfg_link *ret, struct err *err)
{
	if (netcfg_uplink_check("uplink", name, err) < 0 ||
	    netcfg_link_get(netcfg, name, ret, err) < 0)
		return -1;
	if (ret->loopback || strcmp(ret->kind, "bridge") == 0)
		return err_set(err, ERR_CONFLICT, "%s is %s and cannot be a bridge's port", name,
			       ret->loopback ? "the loopback link" : "a bridge");
	if (ret->master && (!bridge || strcmp(ret->master_name, bridge) != 0))
		return err_set(err, ERR_CONFLICT,
			       "uplink %s is a port of %s already; make that one the uplink", name,
			       ret->master_name);
	return 0;
}

int netcfg_uplink_capture(struct netcfg *netcfg, const char *name, struct netcfg_uplink *ret,
			  struct err *err)
{
	struct netcfg_link link;
	struct netcfg_uplink found;
	memset(&found, 0, sizeof(found));
	if (uplink_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	memcpy(found.name, link.name, sizeof(found.name));
	memcpy(found.mac, link.mac, sizeof(found.mac));
	found.mtu = link.mtu;
	found.was_up = link.up;
	if (capture_all(netcfg, link.index, &found, err) < 0)
		return -1;
	*ret = found;
	return 0;
}

/* ---- moving it ---- */

static void route_add(struct netcfg_batch *batch, int type, int index,
		      const struct netcfg_route *route)
{
	const bool v4 = route->to.family == AF_INET, add = type == RTM_NEWROUTE;
	const struct rtmsg head = {.rtm_family = (uint8_t)route->to.family,
				   .rtm_dst_len = route->to.prefix,
				   .rtm_table = RT_TABLE_UNSPEC,
				   .rtm_protocol = route->protocol,
				   .rtm_scope = route->scope,
				   .rtm_type = RTN_UNICAST,
				   .rtm_flags = route->onlink ? RTNH_F_ONLINK : 0};
	/* another of the same range by another link may be there, and stays */
	const int create = NLM_F_CREATE | (v4 ? NLM_F_APPEND : 0);
	struct nl_msg *msg = netcfg_batch_add(batch, add ? "move a route" : "take a route away",
					      type, add ? create : 0, &head, sizeof(head));
	size_t size;
	const void *bytes = netcfg_addr_bytes(&route->to, &size);
	if (route->to.prefix)
		netcfg_put(msg, RTA_DST, bytes, size);
	if (route->gateway.family)
		netcfg_put(msg, RTA_GATEWAY, netcfg_addr_bytes(&route->gateway, &size), size);
	if (route->source.family)
		netcfg_put(msg, RTA_PREFSRC, netcfg_addr_bytes(&route->source, &size), size);
	netcfg_put_u32(msg, RTA_OIF, (uint32_t)index);
	netcfg_put_u32(msg, RTA_TABLE, route->table);
	if (route->metric)
		netcfg_put_u32(msg, RTA_PRIORITY, route->metric);
}

/* All that was captured, from one link (0: nowhere) to the other. */
static void all_move(struct netcfg_batch *batch, const struct netcfg_uplink *uplink, int from,
		     int to)
{
	/* IPv6 keeps routes by a gateway when the addresses go */
	for (int i = 0; from && i < uplink->n_routes; i++)
		route_add(batch, RTM_DELROUTE, from, &uplink->routes[i]);
	for (int i = 0; from && i < uplink->n_addresses; i++)
		netcfg_address_add(batch, RTM_DELADDR, from, &uplink->addresses[i]);
	for (int i = 0; i < uplink->n_addresses; i++)
		netcfg_address_add(batch, RTM_NEWADDR, to, &uplink->addresses[i]);
	/* gateways have to be reachable first */
	for (int gateways = 0; gateways < 2; gateways++)
		for (int i = 0; i < uplink->n_routes; i++)
			if ((uplink->routes[i].gateway.family != 0) == gateways)
				route_add(batch, RTM_NEWROUTE, to, &uplink->routes[i]);
}

static int uplink_check(const struct netcfg_uplink *uplink, const char *bridge, struct err *err)
{
	if (netcfg_name_check("bridge", bridge, err) < 0 ||
	    netcfg_uplink_check("uplink", uplink->name, err) < 0)
		return -1;
	if (uplink->n_addresses > NETCFG_UPLINK_ADDRS_MAX ||
	    uplink->n_routes > NETCFG_UPLINK_ROUTES_MAX)
		return err_set(err, ERR_INVALID, "uplink %s: what was captured is broken",
			       uplink->name);
	for (int i = 0; i < uplink->n_addresses; i++)
		if (netcfg_addr_check("an uplink's address", &uplink->addresses[i], err) < 0)
			return -1;
	for (int i = 0; i < uplink->n_routes; i++)
		if (netcfg_addr_check("an uplink's route", &uplink->routes[i].to, err) < 0)
			return -1;
	return 0;
}

/* what was moved already is there, and no more here */
static const int moved[] = {EEXIST, EADDRNOTAVAIL, ESRCH, 0};

int netcfg_uplink_enslave(struct netcfg *netcfg, const struct netcfg_uplink *uplink,
			  const char *bridge, struct err *err)
{
	struct netcfg_link link, master;
	struct netcfg_batch batch = {.n = 0};
	char subject[48];
	if (uplink_check(uplink, bridge, err) < 0 ||
	    uplink_find(netcfg, uplink->name, bridge, &link, err) < 0 ||
	    netcfg_link_find(netcfg, bridge, "bridge", &master, err) < 0)
		return -1;
	if (master.index == 0)
		return err_set(err, ERR_NOT_FOUND, "uplink %s: there is no bridge %s", uplink->name,
			       bridge);
	snprintf(subject, sizeof(subject), "uplink %s", uplink->name);
	if (uplink->n_addresses)
		netcfg_ipv6_set(bridge, true);
	/* one system call: nobody can be locked out between two of these */
	struct nl_msg *msg = netcfg_link_add(&batch, "give the bridge its MAC", RTM_NEWLINK, 0,
					     master.index, IFF_UP, IFF_UP);
	netcfg_put(msg, IFLA_ADDRESS, uplink->mac, sizeof(uplink->mac));
	netcfg_put_u32(msg, IFLA_MTU, uplink->mtu);
	msg = netcfg_link_add(&batch, "make it a port", RTM_NEWLINK, 0, link.index, IFF_UP, IFF_UP);
	netcfg_put_u32(msg, IFLA_MASTER, (uint32_t)master.index);
	all_move(&batch, uplink, link.index, master.index);
	if (netcfg_batch_send(netcfg, &batch, subject, moved, err) == 0)
		return 0;
	struct err why = {0};
	if (netcfg_uplink_release(netcfg, uplink, bridge, &why) < 0)
		err_prefix(err, "and it could not be put back (%.80s)", why.msg);
	return -1;
}

int netcfg_uplink_release(struct netcfg *netcfg, const struct netcfg_uplink *uplink,
			  const char *bridge, struct err *err)
{
	struct netcfg_link link, master;
	struct netcfg_batch batch = {.n = 0};
	char subject[48];
	if (uplink_check(uplink, bridge, err) < 0 ||
	    uplink_find(netcfg, uplink->name, bridge, &link, err) < 0 ||
	    netcfg_link_find(netcfg, bridge, "bridge", &master, err) < 0)
		return -1;
	snprintf(subject, sizeof(subject), "uplink %s", uplink->name);
	struct nl_msg *msg = netcfg_link_add(&batch, "take it off its bridge", RTM_NEWLINK, 0,
					     link.index, uplink->was_up ? IFF_UP : 0, IFF_UP);
	netcfg_put_u32(msg, IFLA_MASTER, 0);
	all_move(&batch, uplink, master.index, link.index);
	return netcfg_batch_send(netcfg, &batch, subject, moved, err);
}
