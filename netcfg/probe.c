#include "netcfg/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "netcfg/bridge.h"
#include "netcfg/dhcp.h"
#include "netcfg/firewall.h"
#include "netcfg/group.h"
#include "netcfg/nft.h"
#include "netcfg/nic.h"
#include "netcfg/rate.h"
#include "netcfg/tap.h"
#include "netcfg/vlan.h"
#include "netcfg/vxlan.h"

/* A device that opens is no proof: its thread must start as well. */
static bool has_vhost(void)
{
	_cleanup_close_ int fd = -1;
	return netcfg_vhost_open(1, &fd, NULL) == 0 && ioctl(fd, VHOST_SET_OWNER) == 0;
}

static bool nft_takes(const char *text)
{
	return nft_run("ask", text, NULL, NULL) == 0;
}

/* Bridges and what can be done with a port. */
static uint32_t probe_bridge(struct netcfg *netcfg, const struct netcfg_addr *address)
{
	const struct netcfg_bridge bridge = {.addresses = {*address}, .n_addresses = 1};
	const struct netcfg_bridge filtering = {.vlan_filtering = true};
	const struct netcfg_port isolated = {.isolated = true};
	uint32_t found = 0;
	if (netcfg_bridge_ensure(netcfg, "probe-br", &bridge, NULL) == 0)
		found |= NETCFG_HAS_BRIDGE;
	if (netcfg_bridge_ensure(netcfg, "probe-brv", &filtering, NULL) == 0)
		found |= NETCFG_HAS_BRIDGE_VLAN;
	if (netcfg_veth_ensure(netcfg, "probe-one", "probe-two", NULL) == 0 &&
	    netcfg_port_attach(netcfg, "probe-one", "probe-br", &isolated, NULL) == 0)
		found |= NETCFG_HAS_PORT_ISOLATION;
	return found;
}

/* Taps, and the limits on one. */
static uint32_t probe_tap(struct netcfg *netcfg)
{
	const struct netcfg_tap one = {.bridge = "probe-br"};
	const struct netcfg_tap several = {.bridge = "probe-br", .queues = 2};
	const struct netcfg_rates to = {.to_guest = {NETCFG_RATE_MIN, 0}};
	const struct netcfg_rates from = {.from_guest = {NETCFG_RATE_MIN, 0}};
	int fds[2];
	uint32_t found = 0;
	if (netcfg_tap_create(netcfg, "probe-tap", &several, fds, NULL) == 0) {
		found |= NETCFG_HAS_MULTI_QUEUE;
		close(fds[0]);
		close(fds[1]);
	}
	if (netcfg_tap_create(netcfg, "probe-tap", &one, fds, NULL) < 0)
		return found;
	found |= NETCFG_HAS_TUN;
	if (netcfg_rates_ensure(netcfg, "probe-tap", &to, NULL) == 0)
		found |= NETCFG_HAS_RATE_TO;
	if (netcfg_rates_ensure(netcfg, "probe-tap", &from, NULL) == 0)
		found |= NETCFG_HAS_RATE_FROM;
	close(fds[0]);
	return found;
}

/* Links of other kinds. */
static uint32_t probe_links(struct netcfg *netcfg)
{
	const struct in6_addr any = IN6ADDR_LOOPBACK_INIT;
	struct netcfg_vxlan vxlan = {.vni = 1};
	uint32_t found = 0;
	vxlan.local = netcfg_addr_v4((struct in_addr){htonl(INADDR_LOOPBACK)}, 8);
	if (netcfg_link_set_up(netcfg, "lo", true, NULL) == 0 &&
	    netcfg_vxlan_ensure(netcfg, "probe-vxlan", &vxlan, NULL) == 0)
		found |= NETCFG_HAS_VXLAN;
	/* the loopback device carries no VLAN; a bridge does */
	if (netcfg_vlan_ensure(netcfg, "probe-vlan", "probe-br", 2, NULL) == 0)
		found |= NETCFG_HAS_VLAN;
	int index = 0;
	const struct netcfg_addr own = netcfg_addr_v6(&any, 128);
	if (netcfg_address_link(netcfg, &own, &index, NULL) == 0 && index != 0)
		found |= NETCFG_HAS_IPV6;
	return found;
}

/* nftables: all that the tables of firewall.h are made of, and what would be nice to have. */
static uint32_t probe_nft(struct netcfg *netcfg, const struct netcfg_addr *address)
{
	const struct netcfg_firewall network = {.bridge = "probe-br",
						.kind = NETCFG_FIREWALL_NAT,
						.addresses = {*address},
						.n_addresses = 1};
	const struct netcfg_group group = {.id = 1};
	const struct netcfg_nic nic = {
		.tap = "probe-tap", .mac = {2}, .groups = {1}, .n_groups = 1};
	struct err err = {0};
	bool there = false;
	uint32_t found = 0;
	/* forwarding that cannot be enabled says nothing about nftables */
	if (netcfg_firewall_ensure(netcfg, &network, &err) == 0 ||
	    (netcfg_firewall_has(netcfg, &network, &there, &err) == 0 && there))
		found |= NETCFG_HAS_NFT;
	if (netcfg_groups_ensure(netcfg, &group, 1, false, NULL) == 0 &&
	    netcfg_nics_ensure(netcfg, &nic, 1, NULL) == 0)
		found |= NETCFG_HAS_NFT_BRIDGE;
	if ((found & NETCFG_HAS_NFT) &&
	    nft_takes("add table netdev probe\nadd chain netdev probe one { type filter hook "
		      "ingress device lo priority 0; }\n"))
		found |= NETCFG_HAS_NFT_NETDEV;
	if ((found & NETCFG_HAS_NFT_BRIDGE) &&
	    nft_takes("add table bridge probe\nadd chain bridge probe one { type filter hook "
		      "forward priority 0; }\nadd rule bridge probe one ct state established "
		      "accept\n"))
		found |= NETCFG_HAS_BRIDGE_CT;
	return found;
}

/* What DHCP servers answer, on bridged networks. */
static uint32_t probe_log(struct netcfg *netcfg)
{
	const struct netcfg_firewall network = {
		.bridge = "probe-br", .kind = NETCFG_FIREWALL_BRIDGED, .hears_dhcp = true};
	_cleanup_close_ int fd = -1;
	if (netcfg_firewall_ensure(netcfg, &network, NULL) < 0 || netcfg_dhcp_listen(&fd, NULL) < 0)
		return 0;
	return NETCFG_HAS_NFT_LOG;
}

/* In the child, in a network namespace of its own: whatever it makes goes with it. */
static uint32_t probe_here(void)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	const struct netcfg_addr address = netcfg_addr_v4((struct in_addr){htonl(0x0a000001)}, 24);
	if (netcfg_open(&netcfg, NULL) < 0)
		return 0;
	uint32_t found = probe_bridge(netcfg, &address);
	found |= probe_tap(netcfg);
	found |= probe_links(netcfg);
	found |= probe_nft(netcfg, &address);
	return found | probe_log(netcfg);
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
	if (has_vhost())
		found |= NETCFG_HAS_VHOST_NET;
	*ret = found;
	return 0;
}

const char *netcfg_feature_name(uint32_t feature)
{
	static const char *const names[] = {
		"bridge",
		"tap",
		"nftables",
		"vlan",
		"bridge_vlan",
		"vhost_net",
		"vxlan",
		"rate_to_guest",
		"rate_from_guest",
		"nftables_bridge",
		"nftables_netdev",
		"bridge_conntrack",
		"port_isolation",
		"multi_queue",
		"ipv6",
		"nft_log",
	};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (feature == 1U << i)
			return names[i];
	return NULL;
}
