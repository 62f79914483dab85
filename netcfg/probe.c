#include "netcfg/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/internal.h"

static bool has_device(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	return fd >= 0;
}

static bool has_tun(void)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq req = {.ifr_name = "probe-tap",
			    .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	return fd >= 0 && ioctl(fd, TUNSETIFF, &req) == 0;
}

/*
 * Make a link of a kind, with one number in its settings.
 * @lower: index of the link below it, or 0
 */
static bool make_link(struct netcfg *netcfg, const char *name, const char *kind, int lower,
		      int setting, int value, size_t value_size)
{
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
	uint8_t byte = (uint8_t)value;
	uint16_t word = (uint16_t)value;
	if (!msg)
		return false;
	/* room is there for all of it: the message is a page long */
	int nle = nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO);
	nle |= nla_put_string(msg, IFLA_IFNAME, name);
	if (lower)
		nle |= nla_put_u32(msg, IFLA_LINK, (uint32_t)lower);
	struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
	nle |= nla_put_string(msg, IFLA_INFO_KIND, kind);
	struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
	if (nle != 0 || !info || !data) {
		nlmsg_free(msg);
		return false;
	}
	if (value_size == sizeof(byte))
		nle = nla_put(msg, setting, sizeof(byte), &byte);
	else
		nle = nla_put(msg, setting, sizeof(word), &word);
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	return nl_send_sync(netcfg->sock, msg) == 0 && nle == 0;
}

/* In the child, in a network namespace of its own: whatever it makes goes with it. */
static uint32_t probe_here(void)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	const struct netcfg_addr address = netcfg_addr_v4((struct in_addr){htonl(0x0a000001)}, 24);
	const struct netcfg_firewall network = {.bridge = "probe-br",
						.kind = NETCFG_FIREWALL_NAT,
						.addresses = {address},
						.n_addresses = 1};
	const struct netcfg_bridge bridge = {.addresses = {address}, .n_addresses = 1};
	uint32_t found = 0;
	if (netcfg_open(&netcfg, NULL) < 0)
		return 0;
	if (has_tun())
		found |= NETCFG_HAS_TUN;
	if (netcfg_bridge_ensure(netcfg, "probe-br", &bridge, NULL) == 0)
		found |= NETCFG_HAS_BRIDGE;
	struct err err = {0};
	/* forwarding that cannot be enabled says nothing about nftables */
	bool there = false;
	if (netcfg_firewall_ensure(netcfg, &network, &err) == 0 ||
	    (netcfg_firewall_has(netcfg, "probe-br", &there, &err) == 0 && there))
		found |= NETCFG_HAS_NFT;
	if (make_link(netcfg, "probe-brv", "bridge", 0, IFLA_BR_VLAN_FILTERING, 1, 1))
		found |= NETCFG_HAS_BRIDGE_VLAN;
	/* the loopback device carries no VLAN; a bridge does */
	struct netcfg_link lower;
	if (netcfg_link_get(netcfg, "probe-br", &lower, NULL) == 0 &&
	    make_link(netcfg, "probe-vlan", "vlan", lower.index, IFLA_VLAN_ID, 2, 2))
		found |= NETCFG_HAS_VLAN;
	return found;
}

int netcfg_probe(uint32_t *ret, struct err *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot probe the kernel");
	_cleanup_close_ int in = ends[0];
	pid_t pid = fork();
	if (pid < 0) {
		close(ends[1]);
		return err_set_sys(err, err_from_errno(errno), errno, "cannot probe the kernel");
	}
	if (pid == 0) {
		uint32_t found = unshare(CLONE_NEWNET) == 0 ? probe_here() : 0;
		ssize_t n = write(ends[1], &found, sizeof(found));
		_exit(n == sizeof(found) ? 0 : 1);
	}
	close(ends[1]);
	/* an end without an answer: the child died of it, so nothing is there to be used */
	uint32_t found = 0;
	ssize_t n;
	do
		n = read(in, &found, sizeof(found));
	while (n < 0 && errno == EINTR);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(found))
		found = 0;
	if (has_device("/dev/vhost-net"))
		found |= NETCFG_HAS_VHOST_NET;
	*ret = found;
	return 0;
}
