#include "netcfg/link.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

#define VETH_INFO_PEER 1 /* linux/veth.h */

static void text_copy(char *ret, size_t size, const struct nlattr *attr)
{
	if (attr)
		snprintf(ret, size, "%.*s", (int)nla_len(attr), (const char *)nla_data(attr));
}

static uint8_t flag_of(struct nlattr *attr)
{
	return attr && nla_len(attr) >= 1 ? nla_get_u8(attr) : 0;
}

static void port_parse(struct nlattr *data, struct netcfg_link *ret)
{
	struct nlattr *attr[IFLA_BRPORT_MAX + 1];
	if (nla_parse_nested(attr, IFLA_BRPORT_MAX, data, NULL) < 0)
		return;
	ret->isolated = flag_of(attr[IFLA_BRPORT_ISOLATED]);
	ret->hairpin = flag_of(attr[IFLA_BRPORT_MODE]);
	ret->learning = flag_of(attr[IFLA_BRPORT_LEARNING]);
	ret->flood = flag_of(attr[IFLA_BRPORT_UNICAST_FLOOD]);
}

/* what tells one VLAN or VXLAN from another */
static void number_parse(struct nlattr *data, struct netcfg_link *ret)
{
	struct nlattr *attr[2]; /* it is the first attribute of both */
	_Static_assert(IFLA_VLAN_ID == 1 && IFLA_VXLAN_ID == 1, "");
	if (nla_parse_nested(attr, 1, data, NULL) < 0 || !attr[1])
		return;
	if (strcmp(ret->kind, "vlan") == 0 && nla_len(attr[1]) >= 2)
		ret->vlan = nla_get_u16(attr[1]);
	else if (strcmp(ret->kind, "vxlan") == 0 && nla_len(attr[1]) >= 4)
		ret->vni = nla_get_u32(attr[1]);
}

static void bridge_parse(struct nlattr *data, struct netcfg_link *ret)
{
	struct nlattr *attr[IFLA_BR_VLAN_FILTERING + 1];
	if (nla_parse_nested(attr, IFLA_BR_VLAN_FILTERING, data, NULL) == 0)
		ret->vlan_filtering = flag_of(attr[IFLA_BR_VLAN_FILTERING]);
}

static void info_parse(struct nlattr *info, struct netcfg_link *ret)
{
	struct nlattr *attr[IFLA_INFO_MAX + 1];
	if (nla_parse_nested(attr, IFLA_INFO_MAX, info, NULL) < 0)
		return;
	text_copy(ret->kind, sizeof(ret->kind), attr[IFLA_INFO_KIND]);
	if (attr[IFLA_INFO_DATA])
		number_parse(attr[IFLA_INFO_DATA], ret);
	if (attr[IFLA_INFO_DATA] && strcmp(ret->kind, "bridge") == 0)
		bridge_parse(attr[IFLA_INFO_DATA], ret);
	char master[16] = "";
	text_copy(master, sizeof(master), attr[IFLA_INFO_SLAVE_KIND]);
	if (attr[IFLA_INFO_SLAVE_DATA] && strcmp(master, "bridge") == 0)
		port_parse(attr[IFLA_INFO_SLAVE_DATA], ret);
}

static void counters_parse(struct nlattr *attr, struct netcfg_counters *ret)
{
	struct rtnl_link_stats64 stats;
	/* older kernels tell fewer of them; those used here always were there */
	const size_t known = offsetof(struct rtnl_link_stats64, multicast);
	if (nla_len(attr) < (int)known)
		return;
	memcpy(&stats, nla_data(attr), known);
	*ret = (struct netcfg_counters){.rx_bytes = stats.rx_bytes,
					.tx_bytes = stats.tx_bytes,
					.rx_packets = stats.rx_packets,
					.tx_packets = stats.tx_packets,
					.rx_dropped = stats.rx_dropped,
					.tx_dropped = stats.tx_dropped};
}

bool netcfg_link_parse(struct nlmsghdr *answer, struct netcfg_link *ret)
{
	struct nlattr *attr[IFLA_MAX + 1];
	const struct ifinfomsg *head = nlmsg_data(answer);
	memset(ret, 0, sizeof(*ret));
	if (answer->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(answer, sizeof(*head), attr, IFLA_MAX, NULL) < 0 || !attr[IFLA_IFNAME])
		return false;
	ret->index = head->ifi_index;
	ret->up = head->ifi_flags & IFF_UP;
	ret->loopback = head->ifi_flags & IFF_LOOPBACK;
	text_copy(ret->name, sizeof(ret->name), attr[IFLA_IFNAME]);
	ret->carrier = flag_of(attr[IFLA_CARRIER]);
	if (attr[IFLA_MASTER])
		ret->master = (int)nla_get_u32(attr[IFLA_MASTER]);
	/* in another namespace it is another link's number */
	if (attr[IFLA_LINK] && !attr[IFLA_LINK_NETNSID])
		ret->lower = (int)nla_get_u32(attr[IFLA_LINK]);
	if (attr[IFLA_MTU])
		ret->mtu = nla_get_u32(attr[IFLA_MTU]);
	if (attr[IFLA_ADDRESS] && nla_len(attr[IFLA_ADDRESS]) == (int)sizeof(ret->mac))
		memcpy(ret->mac, nla_data(attr[IFLA_ADDRESS]), sizeof(ret->mac));
	if (attr[IFLA_LINKINFO])
		info_parse(attr[IFLA_LINKINFO], ret);
	if (attr[IFLA_STATS64])
		counters_parse(attr[IFLA_STATS64], &ret->counters);
	return true;
}

static void link_store(void *data, struct nlmsghdr *answer)
{
	struct netcfg_link link;
	if (netcfg_link_parse(answer, &link))
		memcpy(data, &link, sizeof(link));
}

/* @name or, where that is NULL, @index; 0 or an errno */
static int link_load(struct netcfg *netcfg, const char *name, int index, uint32_t mask,
		     struct netcfg_link *ret)
{
	const struct ifinfomsg head = {.ifi_family = AF_UNSPEC, .ifi_index = index};
	struct nl_msg *msg = netcfg_msg(RTM_GETLINK, 0, &head, sizeof(head));
	if (name)
		netcfg_put_str(msg, IFLA_IFNAME, name);
	if (mask)
		netcfg_put_u32(msg, IFLA_EXT_MASK, mask);
	struct netcfg_link found = {0};
	int sys = netcfg_ask(netcfg->sock, msg, link_store, &found);
	if (sys == 0 && found.index == 0)
		sys = ENODEV;
	if (sys == 0)
		*ret = found;
	return sys;
}

int netcfg_link_get(struct netcfg *netcfg, const char *name, struct netcfg_link *ret,
		    struct err *err)
{
	struct netcfg_link link, master;
	if (netcfg_uplink_check("link", name, err) < 0)
		return -1;
	int sys = link_load(netcfg, name, 0, 0, &link);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot look up link %s", name);
	/* one that has gone by now leaves the name empty */
	if (link.master &&
	    link_load(netcfg, NULL, link.master, RTEXT_FILTER_SKIP_STATS, &master) == 0)
		memcpy(link.master_name, master.name, sizeof(link.master_name));
	*ret = link;
	return 0;
}

int netcfg_link_find(struct netcfg *netcfg, const char *name, const char *kind,
		     struct netcfg_link *ret, struct err *err)
{
	struct netcfg_link link = {0};
	int sys = link_load(netcfg, name, 0, RTEXT_FILTER_SKIP_STATS, &link);
	if (sys != 0 && sys != ENODEV)
		return netcfg_err_sys(err, sys, "cannot look up link %s", name);
	if (kind && netcfg_link_check_kind(&link, kind, err) < 0)
		return -1;
	*ret = link;
	return 0;
}

int netcfg_link_check_kind(const struct netcfg_link *link, const char *kind, struct err *err)
{
	if (link->index == 0 || strcmp(link->kind, kind) == 0)
		return 0;
	return err_set(err, ERR_CONFLICT, "link %s is of kind \"%s\", not \"%s\": rename it",
		       link->name, link->kind, kind);
}

int netcfg_link_exists(struct netcfg *netcfg, const char *name, bool *ret, struct err *err)
{
	struct netcfg_link link;
	if (netcfg_uplink_check("link", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	*ret = link.index != 0;
	return 0;
}

/* ---- all of them ---- */

struct links {
	struct netcfg_link *link;
	size_t n, room;
};

static void links_store(void *data, struct nlmsghdr *answer)
{
	struct links *links = data;
	struct netcfg_link link;
	if (!netcfg_link_parse(answer, &link))
		return;
	if (links->n == links->room) {
		links->room = links->room ? 2 * links->room : 32;
		links->link = mem_realloc(links->link, links->room, sizeof(*links->link));
	}
	links->link[links->n++] = link;
}

static void links_name_masters(struct links *links)
{
	for (size_t i = 0; i < links->n; i++)
		for (size_t k = 0; links->link[i].master && k < links->n; k++)
			if (links->link[k].index == links->link[i].master)
				memcpy(links->link[i].master_name, links->link[k].name,
				       sizeof(links->link[i].master_name));
}

int netcfg_links_each(struct netcfg *netcfg, int (*cb)(void *data, const struct netcfg_link *link),
		      void *data, struct err *err)
{
	const struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
	struct links links = {0};
	int sys;
	do {
		links.n = 0;
		sys = netcfg_ask(netcfg->sock,
				 netcfg_msg(RTM_GETLINK, NLM_F_DUMP, &head, sizeof(head)),
				 links_store, &links);
	} while (sys == EINTR);
	_cleanup_free_ struct netcfg_link *owned = links.link;
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot list the links");
	links_name_masters(&links);
	for (size_t i = 0; i < links.n; i++)
		if (cb(data, &owned[i]) != 0)
			break;
	return 0;
}

/* ---- changes ---- */

int netcfg_link_set_up(struct netcfg *netcfg, const char *name, bool up, struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	char subject[40];
	if (netcfg_name_check("link", name, err) < 0)
		return -1;
	snprintf(subject, sizeof(subject), "link %s", name);
	struct nl_msg *msg = netcfg_link_add(&batch, up ? "bring it up" : "bring it down",
					     RTM_NEWLINK, 0, 0, up ? IFF_UP : 0, IFF_UP);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	return netcfg_batch_send(netcfg, &batch, subject, NULL, err);
}

int netcfg_link_delete(struct netcfg *netcfg, const char *name, const char *kind, struct err *err)
{
	/* a tap whose holder ended meanwhile is gone by itself */
	static const int gone[] = {ENODEV, 0};
	struct netcfg_link link;
	struct netcfg_batch batch = {.n = 0};
	char subject[40];
	if (netcfg_name_check("link", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, kind, &link, err) < 0)
		return -1;
	if (link.index == 0)
		return 0;
	snprintf(subject, sizeof(subject), "link %s", name);
	netcfg_link_add(&batch, "delete it", RTM_DELLINK, 0, link.index, 0, 0);
	return netcfg_batch_send(netcfg, &batch, subject, gone, err);
}

void netcfg_discard_add(struct netcfg *netcfg, struct netcfg_batch *batch, int index)
{
	struct nl_msg *msg =
		netcfg_link_add(batch, "put it aside", RTM_NEWLINK, 0, index, 0, IFF_UP);
	netcfg_put_u32(msg, IFLA_GROUP, NETCFG_LINK_GROUP_DISCARDED);
	netcfg->discarded = true;
}

void netcfg_keep_put(struct nl_msg *msg)
{
	netcfg_put_u32(msg, IFLA_GROUP, 0);
}

int netcfg_links_sweep(struct netcfg *netcfg, struct err *err)
{
	static const int gone[] = {ENODEV, 0};
	struct netcfg_batch batch = {.n = 0};
	if (!netcfg->discarded)
		return 0;
	/* no index and no name: all links of the group, with one wait for all of them */
	struct nl_msg *msg = netcfg_link_add(&batch, "delete them", RTM_DELLINK, 0, 0, 0, 0);
	netcfg_put_u32(msg, IFLA_GROUP, NETCFG_LINK_GROUP_DISCARDED);
	/* tried once: what cannot go now would not go the next time either */
	netcfg->discarded = false;
	return netcfg_batch_send(netcfg, &batch, "links that were put aside", gone, err);
}

bool netcfg_links_await_sweep(const struct netcfg *netcfg)
{
	return netcfg->discarded;
}

int netcfg_veth_create(struct netcfg *netcfg, const char *name, const char *peer, struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
	struct nl_msg *msg = netcfg_batch_add(&batch, "make it (veth)", RTM_NEWLINK,
					      NLM_F_CREATE | NLM_F_EXCL, &head, sizeof(head));
	netcfg_put_str(msg, IFLA_IFNAME, name);
	struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
	netcfg_put_str(msg, IFLA_INFO_KIND, "veth");
	struct nlattr *data = netcfg_nest(msg, IFLA_INFO_DATA);
	struct nlattr *other = netcfg_nest(msg, VETH_INFO_PEER);
	if (nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO) < 0)
		abort();
	netcfg_put_str(msg, IFLA_IFNAME, peer);
	nla_nest_end(msg, other);
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	return netcfg_batch_send(netcfg, &batch, name, NULL, err);
}

int netcfg_veth_ensure(struct netcfg *netcfg, const char *name, const char *peer, struct err *err)
{
	struct netcfg_link one, other;
	if (netcfg_name_check("link", name, err) < 0 || netcfg_name_check("link", peer, err) < 0 ||
	    netcfg_link_find(netcfg, name, "veth", &one, err) < 0 ||
	    netcfg_link_find(netcfg, peer, "veth", &other, err) < 0)
		return -1;
	const bool fresh = one.index == 0 && other.index == 0;
	if (fresh && netcfg_veth_create(netcfg, name, peer, err) < 0)
		return -1;
	if (!fresh && (one.index == 0 || other.index == 0 || one.lower != other.index))
		return err_set(err, ERR_CONFLICT, "links %s and %s are not each other's ends", name,
			       peer);
	if (netcfg_link_set_up(netcfg, name, true, err) < 0)
		return -1;
	return netcfg_link_set_up(netcfg, peer, true, err);
}
