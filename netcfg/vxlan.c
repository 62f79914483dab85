#include "netcfg/vxlan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "netcfg/internal.h"

static int vxlan_check(const char *name, const struct netcfg_vxlan *vxlan, struct err *err)
{
	if (netcfg_name_check("VXLAN", name, err) < 0 ||
	    netcfg_addr_check("a VXLAN's own address", &vxlan->local, err) < 0)
		return -1;
	if (vxlan->vni < 1 || vxlan->vni > 0xffffff)
		return err_set(err, ERR_INVALID, "VXLAN %s: VNI %u is not in 1 to 16777215", name,
			       vxlan->vni);
	if (vxlan->n_peers > NETCFG_VXLAN_PEERS_MAX)
		return err_set(err, ERR_INVALID, "VXLAN %s: %u peers are over %d", name,
			       vxlan->n_peers, NETCFG_VXLAN_PEERS_MAX);
	for (unsigned int i = 0; i < vxlan->n_peers; i++)
		if (vxlan->peers[i].family != vxlan->local.family)
			return err_set(err, ERR_INVALID,
				       "VXLAN %s: peer %u is of another family than the host", name,
				       i);
	if (vxlan->mtu && (vxlan->mtu < 68 || vxlan->mtu > 65485))
		return err_set(err, ERR_INVALID, "VXLAN %s: MTU %u is not in 68 to 65485", name,
			       vxlan->mtu);
	return 0;
}

static uint16_t port_of(const struct netcfg_vxlan *vxlan)
{
	return vxlan->port ? vxlan->port : NETCFG_VXLAN_PORT;
}

/* ---- what is there ---- */

struct current {
	struct netcfg_addr local;
	uint16_t port;
};

static void current_parse(void *data, struct nlmsghdr *answer)
{
	struct current *ret = data;
	struct nlattr *attr[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1], *of[IFLA_VXLAN_MAX + 1];
	uint16_t port = 0;
	if (nlmsg_parse(answer, sizeof(struct ifinfomsg), attr, IFLA_MAX, NULL) < 0 ||
	    !attr[IFLA_LINKINFO] ||
	    nla_parse_nested(info, IFLA_INFO_MAX, attr[IFLA_LINKINFO], NULL) < 0 ||
	    !info[IFLA_INFO_DATA] ||
	    nla_parse_nested(of, IFLA_VXLAN_MAX, info[IFLA_INFO_DATA], NULL) < 0)
		return;
	struct nlattr *v4 = of[IFLA_VXLAN_LOCAL], *v6 = of[IFLA_VXLAN_LOCAL6];
	if ((v4 && !netcfg_addr_set(&ret->local, AF_INET, nla_data(v4), (size_t)nla_len(v4), 0)) ||
	    (v6 && !netcfg_addr_set(&ret->local, AF_INET6, nla_data(v6), (size_t)nla_len(v6), 0)))
		return;
	if (of[IFLA_VXLAN_PORT] && nla_len(of[IFLA_VXLAN_PORT]) >= 2)
		port = ntohs(nla_get_u16(of[IFLA_VXLAN_PORT]));
	ret->port = port;
}

/* Can what is there be kept? Peers and MTU change live, all else makes it another. */
static int can_stay(struct netcfg *netcfg, const struct netcfg_link *link,
		    const struct netcfg_vxlan *vxlan, bool *ret, struct err *err)
{
	const struct ifinfomsg head = {.ifi_family = AF_UNSPEC, .ifi_index = link->index};
	struct current current = {.port = 0};
	struct netcfg_addr local = vxlan->local;
	int sys = netcfg_ask(netcfg->sock, netcfg_msg(RTM_GETLINK, 0, &head, sizeof(head)),
			     current_parse, &current);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot look up VXLAN %s", link->name);
	local.prefix = 0;
	*ret = link->vni == vxlan->vni && current.port == port_of(vxlan) &&
	       netcfg_addr_equal(&current.local, &local);
	return 0;
}

struct peers {
	int index;
	struct netcfg_addr *ret;
	size_t n;
};

static void peer_parse(void *data, struct nlmsghdr *answer)
{
	static const uint8_t all[6];
	struct peers *peers = data;
	struct nlattr *attr[NDA_MAX + 1];
	const struct ndmsg *head = nlmsg_data(answer);
	if (answer->nlmsg_type != RTM_NEWNEIGH ||
	    nlmsg_parse(answer, sizeof(*head), attr, NDA_MAX, NULL) < 0 ||
	    head->ndm_ifindex != peers->index || !attr[NDA_LLADDR] || !attr[NDA_DST] ||
	    nla_len(attr[NDA_LLADDR]) != (int)sizeof(all) ||
	    memcmp(nla_data(attr[NDA_LLADDR]), all, sizeof(all)) != 0 ||
	    peers->n == NETCFG_VXLAN_PEERS_MAX)
		return;
	const size_t size = (size_t)nla_len(attr[NDA_DST]);
	if (netcfg_addr_set(&peers->ret[peers->n], size == 4 ? AF_INET : AF_INET6,
			    nla_data(attr[NDA_DST]), size, size == 4 ? 32 : 128))
		peers->n++;
}

static int peers_of(struct netcfg *netcfg, int index, struct netcfg_addr *ret, size_t *ret_n,
		    struct err *err)
{
	const struct ndmsg head = {.ndm_family = AF_BRIDGE};
	struct peers peers;
	int sys;
	do {
		peers = (struct peers){.index = index, .ret = ret};
		sys = netcfg_ask(netcfg->sock,
				 netcfg_msg(RTM_GETNEIGH, NLM_F_DUMP, &head, sizeof(head)),
				 peer_parse, &peers);
	} while (sys == EINTR);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot list the peers of a VXLAN");
	*ret_n = peers.n;
	return 0;
}

/* ---- changes ---- */

static void peer_add(struct netcfg_batch *batch, int type, int index,
		     const struct netcfg_addr *peer)
{
	static const uint8_t all[6];
	const bool add = type == RTM_NEWNEIGH;
	const struct ndmsg head = {.ndm_family = AF_BRIDGE,
				   .ndm_ifindex = index,
				   .ndm_state = NUD_NOARP | NUD_PERMANENT,
				   .ndm_flags = NTF_SELF};
	struct nl_msg *msg =
		netcfg_batch_add(batch, add ? "add a peer" : "remove a peer", type,
				 add ? NLM_F_CREATE | NLM_F_APPEND : 0, &head, sizeof(head));
	size_t size;
	const void *bytes = netcfg_addr_bytes(peer, &size);
	netcfg_put(msg, NDA_LLADDR, all, sizeof(all));
	netcfg_put(msg, NDA_DST, bytes, size);
}

static bool is_among(const struct netcfg_addr *address, const struct netcfg_addr *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct netcfg_addr other = list[i];
		other.prefix = address->prefix;
		if (netcfg_addr_equal(address, &other))
			return true;
	}
	return false;
}

static int peers_set(struct netcfg *netcfg, const char *name, int index,
		     const struct netcfg_vxlan *vxlan, struct err *err)
{
	struct netcfg_addr now[NETCFG_VXLAN_PEERS_MAX];
	struct netcfg_batch batch = {.n = 0};
	size_t n;
	if (peers_of(netcfg, index, now, &n, err) < 0)
		return -1;
	for (unsigned int i = 0; i < vxlan->n_peers; i++)
		if (!is_among(&vxlan->peers[i], now, n))
			peer_add(&batch, RTM_NEWNEIGH, index, &vxlan->peers[i]);
	for (size_t i = 0; i < n; i++)
		if (!is_among(&now[i], vxlan->peers, vxlan->n_peers))
			peer_add(&batch, RTM_DELNEIGH, index, &now[i]);
	return netcfg_batch_send(netcfg, &batch, name, (const int[]){EEXIST, ENOENT, 0}, err);
}

static int vxlan_create(struct netcfg *netcfg, const char *name, const struct netcfg_vxlan *vxlan,
			struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	struct nl_msg *msg = netcfg_link_add(&batch, "make it (VXLAN)", RTM_NEWLINK,
					     NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0);
	size_t size;
	const void *local = netcfg_addr_bytes(&vxlan->local, &size);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
	netcfg_put_str(msg, IFLA_INFO_KIND, "vxlan");
	struct nlattr *data = netcfg_nest(msg, IFLA_INFO_DATA);
	netcfg_put_u32(msg, IFLA_VXLAN_ID, vxlan->vni);
	netcfg_put(msg, size == 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local, size);
	netcfg_put_u16(msg, IFLA_VXLAN_PORT, htons(port_of(vxlan)));
	netcfg_put_u8(msg, IFLA_VXLAN_LEARNING, 1);
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	if (netcfg_batch_send(netcfg, &batch, name, (const int[]){EEXIST, EOPNOTSUPP, 0}, err) < 0)
		return -1;
	if (batch.sys[0] == EOPNOTSUPP)
		return err_set(err, ERR_UNSUPPORTED,
			       "VXLAN %s: this kernel has no VXLAN devices (CONFIG_VXLAN)", name);
	if (batch.sys[0] == EEXIST)
		return err_set(err, ERR_CONFLICT,
			       "VXLAN %s: another link has VNI %u on port %u already", name,
			       vxlan->vni, port_of(vxlan));
	return 0;
}

static int mtu_of(struct netcfg *netcfg, const struct netcfg_vxlan *vxlan, uint32_t *ret,
		  struct err *err)
{
	char text[NETCFG_ADDR_TEXT_MAX];
	struct netcfg_link lower;
	int index;
	char name[IF_NAMESIZE];
	if (netcfg_address_link(netcfg, &vxlan->local, &index, err) < 0)
		return -1;
	if (index == 0 || !if_indextoname((unsigned int)index, name))
		return err_set(err, ERR_NOT_FOUND, "VXLAN: no link of this host has address %s",
			       netcfg_addr_format(&vxlan->local, text));
	if (netcfg_link_find(netcfg, name, NULL, &lower, err) < 0)
		return -1;
	const uint32_t over =
		vxlan->local.family == AF_INET ? NETCFG_VXLAN_OVERHEAD : NETCFG_VXLAN_OVERHEAD + 20;
	*ret = vxlan->mtu ? vxlan->mtu : lower.mtu > over + 68 ? lower.mtu - over : 68;
	return 0;
}

int netcfg_vxlan_ensure(struct netcfg *netcfg, const char *name, const struct netcfg_vxlan *vxlan,
			struct err *err)
{
	struct netcfg_link link;
	struct netcfg_batch batch = {.n = 0};
	uint32_t mtu = 0;
	bool stays = false;
	if (vxlan_check(name, vxlan, err) < 0 ||
	    netcfg_link_find(netcfg, name, "vxlan", &link, err) < 0 ||
	    mtu_of(netcfg, vxlan, &mtu, err) < 0 ||
	    (link.index && can_stay(netcfg, &link, vxlan, &stays, err) < 0))
		return -1;
	if (!stays && (netcfg_link_delete(netcfg, name, "vxlan", err) < 0 ||
		       vxlan_create(netcfg, name, vxlan, err) < 0 ||
		       netcfg_link_find(netcfg, name, "vxlan", &link, err) < 0))
		return -1;
	netcfg_ipv6_set(name, false);
	struct nl_msg *msg =
		netcfg_link_add(&batch, "bring it up", RTM_NEWLINK, 0, link.index, IFF_UP, IFF_UP);
	netcfg_put_u32(msg, IFLA_MTU, mtu);
	if (netcfg_batch_send(netcfg, &batch, name, NULL, err) < 0)
		return -1;
	return peers_set(netcfg, name, link.index, vxlan, err);
}

int netcfg_vxlan_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	return netcfg_link_delete(netcfg, name, "vxlan", err);
}

int netcfg_vxlan_peers(struct netcfg *netcfg, const char *name, struct netcfg_addr *ret,
		       size_t *ret_n, struct err *err)
{
	struct netcfg_link link;
	if (netcfg_name_check("VXLAN", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, "vxlan", &link, err) < 0)
		return -1;
	if (link.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no VXLAN %s", name);
	return peers_of(netcfg, link.index, ret, ret_n, err);
}
