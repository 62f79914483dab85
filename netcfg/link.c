#include "netcfg/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/addr.h>
#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "netcfg/internal.h"

static void msg_freep(struct nl_msg **msg)
{
	nlmsg_free(*msg);
}

static void addr_putp(struct rtnl_addr **addr)
{
	rtnl_addr_put(*addr);
}

static void nl_addr_putp(struct nl_addr **addr)
{
	nl_addr_put(*addr);
}

/* A fixed address of the locally administered kind out of the name (FNV-1a). */
static void mac_of_name(const char *name, uint8_t mac[6])
{
	uint64_t hash = 0xcbf29ce484222325;
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
	mac[0] = 0x02;
	for (int i = 1; i < 6; i++)
		mac[i] = (uint8_t)(hash >> (8 * i));
}

/* One RTM_*LINK request; attributes follow by nla_put(). NULL only without memory. */
static struct nl_msg *link_msg(int type, int flags, int index, unsigned int up)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
	struct ifinfomsg head = {
		.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = up, .ifi_change = up};
	if (msg && nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

/* Send, free, wait for the kernel's verdict: 0 or negative NLE_*. */
static int link_send(struct netcfg *netcfg, struct nl_msg **msg)
{
	int nle = nl_send_sync(netcfg->sock, *msg);
	*msg = NULL; /* freed by nl_send_sync(), also on failure */
	return nle;
}

int netcfg_link_get(struct netcfg *netcfg, const char *name, struct netcfg_link *ret,
		    struct err *err)
{
	if (netcfg_name_check("link", name, err) < 0)
		return -1;
	struct rtnl_link *link = NULL;
	int nle = rtnl_link_get_kernel(netcfg->sock, 0, name, &link);
	if (nle < 0)
		return netcfg_err_nl(err, nle, "cannot look up link %s", name);
	struct netcfg_link found = {.index = rtnl_link_get_ifindex(link),
				    .up = rtnl_link_get_flags(link) & IFF_UP,
				    .carrier = rtnl_link_get_carrier(link),
				    .master = rtnl_link_get_master(link),
				    .mtu = rtnl_link_get_mtu(link)};
	const char *kind = rtnl_link_get_type(link);
	snprintf(found.kind, sizeof(found.kind), "%s", kind ? kind : "");
	struct nl_addr *mac = rtnl_link_get_addr(link);
	if (mac && nl_addr_get_len(mac) == sizeof(found.mac))
		memcpy(found.mac, nl_addr_get_binary_addr(mac), sizeof(found.mac));
	rtnl_link_put(link);
	*ret = found;
	return 0;
}

/* Like netcfg_link_get(), but a missing link is no error: @ret->index is 0 then. */
static int link_find(struct netcfg *netcfg, const char *name, const char *kind,
		     struct netcfg_link *ret, struct err *err)
{
	struct err why = {0};
	*ret = (struct netcfg_link){0};
	if (netcfg_link_get(netcfg, name, ret, &why) < 0) {
		if (why.code == ERR_NOT_FOUND)
			return 0;
		if (err)
			*err = why;
		return -1;
	}
	if (kind && strcmp(ret->kind, kind) != 0)
		return err_set(err, ERR_CONFLICT,
			       "link %s is of kind \"%s\", not \"%s\": rename it", name, ret->kind,
			       kind);
	return 0;
}

int netcfg_link_exists(struct netcfg *netcfg, const char *name, bool *ret, struct err *err)
{
	struct netcfg_link link;
	if (link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	*ret = link.index != 0;
	return 0;
}

static int link_delete(struct netcfg *netcfg, const char *name, const char *kind, struct err *err)
{
	struct netcfg_link link;
	if (link_find(netcfg, name, kind, &link, err) < 0)
		return -1;
	if (link.index == 0)
		return 0;
	_cleanup_(msg_freep) struct nl_msg *msg = link_msg(RTM_DELLINK, 0, link.index, 0);
	int nle = msg ? link_send(netcfg, &msg) : -NLE_NOMEM;
	/* a tap whose holder ended meanwhile is gone by itself */
	if (nle < 0 && nle != -NLE_NODEV)
		return netcfg_err_nl(err, nle, "cannot delete link %s", name);
	return 0;
}

/* A link's own IPv6 is of no use to us and would only announce itself to guests. */
static void ipv6_off(const char *name)
{
	char path[96];
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	/* a kernel without IPv6 has no such file; the firewall drops IPv6 all the same */
	if (netcfg_sysctl_write(path, "1", NULL) < 0)
		return;
}

/*
 * Make or set right a bridge, in two rounds. Down at first: IPv6 has to be off before the link
 * comes up, and the kernel takes no forward delay of 0 while spanning tree is on, which it looks
 * at before it turns that off.
 */
static int bridge_put(struct netcfg *netcfg, const char *name, bool up)
{
	uint8_t mac[6];
	mac_of_name(name, mac);
	_cleanup_(msg_freep) struct nl_msg *msg =
		link_msg(RTM_NEWLINK, NLM_F_CREATE, 0, up ? IFF_UP : 0);
	if (!msg)
		return -NLE_NOMEM;
	int nle = nla_put_string(msg, IFLA_IFNAME, name);
	if (nle == 0)
		nle = nla_put(msg, IFLA_ADDRESS, sizeof(mac), mac);
	struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
	if (nle < 0 || !info)
		return -NLE_NOMEM;
	nle = nla_put_string(msg, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
	if (nle < 0 || !data)
		return -NLE_NOMEM;
	nle = nla_put_u32(msg, IFLA_BR_STP_STATE, 0);
	if (nle == 0 && up)
		nle = nla_put_u32(msg, IFLA_BR_FORWARD_DELAY, 0);
	if (nle < 0)
		return nle;
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	return link_send(netcfg, &msg);
}

/* struct rtnl_addr for address/prefix on a link, or NULL */
static struct rtnl_addr *addr_make(int index, struct in_addr address, unsigned int prefix)
{
	struct in_addr all = {address.s_addr | htonl(~netcfg_mask(prefix))};
	_cleanup_(addr_putp) struct rtnl_addr *addr = rtnl_addr_alloc();
	_cleanup_(nl_addr_putp) struct nl_addr *local = nl_addr_build(AF_INET, &address, 4);
	_cleanup_(nl_addr_putp) struct nl_addr *broadcast = nl_addr_build(AF_INET, &all, 4);
	if (!addr || !local || !broadcast)
		return NULL;
	nl_addr_set_prefixlen(local, (int)prefix);
	rtnl_addr_set_ifindex(addr, index);
	if (rtnl_addr_set_local(addr, local) < 0 || rtnl_addr_set_broadcast(addr, broadcast) < 0)
		return NULL;
	return TAKE_PTR(addr);
}

/* Remove every IPv4 address of a link but one. */
static int addresses_trim(struct netcfg *netcfg, int index, struct in_addr keep,
			  unsigned int prefix)
{
	struct nl_cache *cache = NULL;
	int nle = rtnl_addr_alloc_cache(netcfg->sock, &cache);
	if (nle < 0)
		return nle;
	for (struct nl_object *o = nl_cache_get_first(cache); o && nle >= 0;
	     o = nl_cache_get_next(o)) {
		struct rtnl_addr *addr = (struct rtnl_addr *)(void *)o;
		struct nl_addr *local = rtnl_addr_get_local(addr);
		if (rtnl_addr_get_family(addr) != AF_INET || !local ||
		    rtnl_addr_get_ifindex(addr) != index)
			continue;
		if (memcmp(nl_addr_get_binary_addr(local), &keep, sizeof(keep)) == 0 &&
		    rtnl_addr_get_prefixlen(addr) == (int)prefix)
			continue;
		nle = rtnl_addr_delete(netcfg->sock, addr, 0);
		/* secondary addresses go with their primary one */
		if (nle == -NLE_NOADDR)
			nle = 0;
	}
	nl_cache_free(cache);
	return nle;
}

int netcfg_bridge_ensure(struct netcfg *netcfg, const char *name, struct in_addr address,
			 unsigned int prefix, struct err *err)
{
	struct netcfg_link link;
	if (netcfg_name_check("bridge", name, err) < 0 ||
	    netcfg_subnet_check(address, prefix, err) < 0 ||
	    link_find(netcfg, name, "bridge", &link, err) < 0)
		return -1;
	int nle = bridge_put(netcfg, name, false);
	if (nle < 0)
		return netcfg_err_nl(err, nle, "cannot make bridge %s", name);
	ipv6_off(name);
	nle = bridge_put(netcfg, name, true);
	if (nle < 0)
		return netcfg_err_nl(err, nle, "cannot bring bridge %s up", name);
	if (netcfg_link_get(netcfg, name, &link, err) < 0)
		return -1;
	nle = addresses_trim(netcfg, link.index, address, prefix);
	if (nle < 0)
		return netcfg_err_nl(err, nle, "cannot clear the addresses of bridge %s", name);
	_cleanup_(addr_putp) struct rtnl_addr *addr = addr_make(link.index, address, prefix);
	nle = addr ? rtnl_addr_add(netcfg->sock, addr, 0) : -NLE_NOMEM;
	if (nle < 0 && nle != -NLE_EXIST)
		return netcfg_err_nl(err, nle, "cannot give %s/%u to bridge %s", inet_ntoa(address),
				     prefix, name);
	return 0;
}

int netcfg_bridge_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	return link_delete(netcfg, name, "bridge", err);
}

/* A fresh tap of that name; it lives as long as the descriptor. */
static int tap_open(const char *name, struct err *err)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		bool missing = errno == ENOENT || errno == ENODEV || errno == ENXIO;
		return err_set_sys(err, missing ? ERR_UNSUPPORTED : err_from_errno(errno), errno,
				   "cannot open /dev/net/tun for tap %s", name);
	}
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot make tap %s", name);
	return TAKE_FD(fd);
}

/* up, and a port of @bridge, which is there */
static int tap_join(struct netcfg *netcfg, const char *name, int index, const char *bridge,
		    int master, struct err *err)
{
	_cleanup_(msg_freep) struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, index, IFF_UP);
	int nle = msg ? nla_put_u32(msg, IFLA_MASTER, (uint32_t)master) : -NLE_NOMEM;
	if (nle == 0)
		nle = link_send(netcfg, &msg);
	if (nle < 0)
		return netcfg_err_nl(err, nle, "cannot attach tap %s to bridge %s", name, bridge);
	return 0;
}

int netcfg_tap_create(struct netcfg *netcfg, const char *name, const char *bridge, int *ret_fd,
		      struct err *err)
{
	struct netcfg_link master, tap;
	if (netcfg_name_check("tap", name, err) < 0 ||
	    link_find(netcfg, bridge, "bridge", &master, err) < 0)
		return -1;
	if (master.index == 0)
		return err_set(err, ERR_NOT_FOUND, "tap %s: there is no bridge %s", name, bridge);
	if (link_delete(netcfg, name, "tun", err) < 0)
		return -1;
	_cleanup_close_ int fd = tap_open(name, err);
	if (fd < 0)
		return -1;
	ipv6_off(name);
	if (netcfg_link_get(netcfg, name, &tap, err) < 0 ||
	    tap_join(netcfg, name, tap.index, bridge, master.index, err) < 0)
		return -1;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int netcfg_tap_attach(struct netcfg *netcfg, const char *name, const char *bridge, struct err *err)
{
	struct netcfg_link master, tap;
	if (netcfg_name_check("tap", name, err) < 0 ||
	    link_find(netcfg, bridge, "bridge", &master, err) < 0 ||
	    link_find(netcfg, name, "tun", &tap, err) < 0)
		return -1;
	if (master.index == 0)
		return err_set(err, ERR_NOT_FOUND, "tap %s: there is no bridge %s", name, bridge);
	if (tap.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no tap %s for bridge %s", name,
			       bridge);
	if (tap.up && tap.master == master.index)
		return 0;
	return tap_join(netcfg, name, tap.index, bridge, master.index, err);
}

int netcfg_tap_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	return link_delete(netcfg, name, "tun", err);
}
