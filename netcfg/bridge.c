#include "netcfg/bridge.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

#define ADDRS_ROOM 64

static int bridge_check(const char *name, const struct netcfg_bridge *bridge, struct err *err)
{
	static const uint8_t zeros[6];
	if (netcfg_name_check("bridge", name, err) < 0)
		return -1;
	if (bridge->n_addresses > NETCFG_BRIDGE_ADDRS_MAX)
		return err_set(err, ERR_INVALID, "bridge %s: %u addresses are over %d", name,
			       bridge->n_addresses, NETCFG_BRIDGE_ADDRS_MAX);
	for (unsigned int i = 0; i < bridge->n_addresses; i++)
		if (netcfg_subnet_check(&bridge->addresses[i], err) < 0)
			return -1;
	if (bridge->mtu && (bridge->mtu < 68 || bridge->mtu > 65535))
		return err_set(err, ERR_INVALID, "bridge %s: MTU %u is not in 68 to 65535", name,
			       bridge->mtu);
	if (bridge->ageing_s > 1000000)
		return err_set(err, ERR_INVALID, "bridge %s: ageing %u s is over 1000000", name,
			       bridge->ageing_s);
	if (memcmp(bridge->mac, zeros, sizeof(zeros)) != 0 && !netcfg_mac_is_valid(bridge->mac))
		return err_set(err, ERR_INVALID, "bridge %s: a multicast MAC is no bridge's", name);
	return 0;
}

static bool wants_ipv6(const struct netcfg_bridge *bridge)
{
	bool ret = bridge->keep_addresses;
	for (unsigned int i = 0; i < bridge->n_addresses; i++)
		ret = ret || bridge->addresses[i].family == AF_INET6;
	return ret;
}

void netcfg_bridge_mac(const char *name, const uint8_t wish[6], uint8_t ret[6])
{
	static const uint8_t zeros[6];
	if (memcmp(wish, zeros, sizeof(zeros)) == 0)
		netcfg_mac_of_name(name, ret);
	else
		memcpy(ret, wish, sizeof(zeros));
}

/*
 * Make or set right a bridge, in two rounds. Down at first: IPv6 has to be off before the link
 * comes up, and the kernel takes no forward delay of 0 while spanning tree is on, which it looks
 * at before it turns that off.
 */
static void bridge_add(struct netcfg_batch *batch, const char *name,
		       const struct netcfg_bridge *bridge, bool up)
{
	uint8_t mac[6];
	netcfg_bridge_mac(name, bridge->mac, mac);
	struct nl_msg *msg =
		netcfg_link_add(batch, up ? "bring it up" : "make it (bridge)", RTM_NEWLINK,
				NLM_F_CREATE, 0, up ? IFF_UP : 0, up ? IFF_UP : 0);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	netcfg_put(msg, IFLA_ADDRESS, mac, sizeof(mac));
	/* told, or it would follow the smallest of its ports */
	if (up)
		netcfg_put_u32(msg, IFLA_MTU, bridge->mtu ? bridge->mtu : 1500);
	struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
	netcfg_put_str(msg, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = netcfg_nest(msg, IFLA_INFO_DATA);
	netcfg_put_u32(msg, IFLA_BR_STP_STATE, 0);
	if (up) {
		netcfg_put_u32(msg, IFLA_BR_FORWARD_DELAY, 0);
		netcfg_put_u32(msg, IFLA_BR_AGEING_TIME,
			       100 * (bridge->ageing_s ? bridge->ageing_s : 300));
	}
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
}

/* Options of their own message each, since not every kernel has them. */
static void options_add(struct netcfg_batch *batch, const char *name,
			const struct netcfg_bridge *bridge)
{
	const struct br_boolopt_multi quiet = {.optval = 1 << BR_BOOLOPT_NO_LL_LEARN,
					       .optmask = 1 << BR_BOOLOPT_NO_LL_LEARN};
	for (int i = 0; i < 2; i++) {
		struct nl_msg *msg = netcfg_link_add(
			batch, i ? "set VLAN filtering" : "set options", RTM_NEWLINK, 0, 0, 0, 0);
		netcfg_put_str(msg, IFLA_IFNAME, name);
		struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
		netcfg_put_str(msg, IFLA_INFO_KIND, "bridge");
		struct nlattr *data = netcfg_nest(msg, IFLA_INFO_DATA);
		if (i == 0)
			netcfg_put(msg, IFLA_BR_MULTI_BOOLOPT, &quiet, sizeof(quiet));
		else
			netcfg_put_u8(msg, IFLA_BR_VLAN_FILTERING, bridge->vlan_filtering);
		nla_nest_end(msg, data);
		nla_nest_end(msg, info);
	}
}

static bool is_link_local(const struct netcfg_addr *address)
{
	return address->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&address->v6);
}

/* What is too many goes, what is missing comes. */
static int addresses_set(struct netcfg *netcfg, const char *name, int index,
			 const struct netcfg_bridge *bridge, struct err *err)
{
	/* secondary addresses go with their primary one; what is there already is there */
	static const int fine[] = {EADDRNOTAVAIL, EEXIST, 0};
	struct netcfg_addr now[ADDRS_ROOM];
	struct netcfg_batch batch = {.n = 0};
	size_t n_now;
	if (netcfg_addresses_of(netcfg, index, now, ADDRS_ROOM - NETCFG_BRIDGE_ADDRS_MAX, &n_now,
				err) < 0)
		return -1;
	for (size_t i = 0; i < n_now; i++) {
		bool wanted = is_link_local(&now[i]);
		for (unsigned int k = 0; k < bridge->n_addresses; k++)
			wanted = wanted || netcfg_addr_equal(&now[i], &bridge->addresses[k]);
		if (!wanted)
			netcfg_address_add(&batch, RTM_DELADDR, index, &now[i]);
	}
	for (unsigned int k = 0; k < bridge->n_addresses; k++)
		netcfg_address_add(&batch, RTM_NEWADDR, index, &bridge->addresses[k]);
	return netcfg_batch_send(netcfg, &batch, name, fine, err);
}

static void ipv6_conf_set(const char *name, const char *what, const char *value)
{
	char path[96];
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, what);
	/* without IPv6 there is no such file, and nothing to be set */
	if (netcfg_sysctl_write(path, value, NULL) < 0)
		return;
}

int netcfg_bridge_ensure(struct netcfg *netcfg, const char *name,
			 const struct netcfg_bridge *bridge, struct err *err)
{
	struct netcfg_link link;
	struct netcfg_batch batch = {.n = 0};
	char subject[40];
	if (bridge_check(name, bridge, err) < 0 ||
	    netcfg_link_find(netcfg, name, "bridge", &link, err) < 0)
		return -1;
	snprintf(subject, sizeof(subject), "bridge %s", name);
	bridge_add(&batch, name, bridge, false);
	if (netcfg_batch_send(netcfg, &batch, subject, NULL, err) < 0)
		return -1;
	netcfg_ipv6_set(name, wants_ipv6(bridge));
	if (!bridge->keep_addresses) {
		ipv6_conf_set(name, "accept_ra", "0");
		/* guests ask for a router at once: no second of looking for a twin first */
		ipv6_conf_set(name, "accept_dad", "0");
	}
	options_add(&batch, name, bridge);
	bridge_add(&batch, name, bridge, true);
	if (netcfg_batch_send(netcfg, &batch, subject, (const int[]){EOPNOTSUPP, EINVAL, 0}, err) <
	    0)
		return -1;
	if (bridge->vlan_filtering && batch.sys[1] != 0)
		return err_set(err, ERR_UNSUPPORTED,
			       "%s: this kernel has no bridge VLAN filtering "
			       "(CONFIG_BRIDGE_VLAN_FILTERING)",
			       subject);
	if (batch.sys[2] != 0)
		return netcfg_err_sys(err, batch.sys[2], "%s: cannot bring it up", subject);
	if (netcfg_link_find(netcfg, name, "bridge", &link, err) < 0)
		return -1;
	return bridge->keep_addresses ? 0 : addresses_set(netcfg, subject, link.index, bridge, err);
}

int netcfg_bridge_has_mac(struct netcfg *netcfg, const char *name, const uint8_t mac[6], bool *ret,
			  struct err *err)
{
	struct netcfg_link link;
	uint8_t own[6];
	if (netcfg_name_check("bridge", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	netcfg_bridge_mac(name, mac, own);
	*ret = link.index == 0 || memcmp(link.mac, own, sizeof(own)) == 0;
	return 0;
}

int netcfg_bridge_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	return netcfg_link_delete(netcfg, name, "bridge", err);
}
