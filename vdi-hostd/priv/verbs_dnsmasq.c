/* One dnsmasq a network: DHCP, router advertisements, names. Its argv is made here. */
#include <arpa/inet.h>
#include <linux/capability.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/priv/network_names.h"
#include "vdi-hostd/priv/spawn.h"

#define LEASE_TIME "12h"
#define RA_SECONDS 600 /* between two; the router's word holds thrice as long */

/*
 * dnsmasq's own bounds are for a household: 1000 leases, and 150 questions that wait for an answer
 * from elsewhere. Leases are for those alone that the hosts file names; a NIC has no more than 2000
 * questions wait (ten seconds each), for the firewall lets no more in.
 */
#define LEASES_MAX    65536
#define QUESTIONS_MAX 16384

static void address_text(uint32_t host_order, char ret[INET_ADDRSTRLEN])
{
	const struct in_addr address = {htonl(host_order)};
	inet_ntop(AF_INET, &address, ret, INET_ADDRSTRLEN);
}

static void push_names(const struct priv_network *network, const char *own, struct argv *argv)
{
	if (network->no_dns) {
		argv_push(argv, "--port=0");
		argv_push(argv, "--dhcp-option=option:dns-server");
		return;
	}
	argv_push(argv, "--dns-forward-max=%d", QUESTIONS_MAX);
	argv_push(argv, "--domain-needed");
	argv_push(argv, "--bogus-priv");
	/* no way out: no names are asked for elsewhere */
	if (network->kind == PRIV_NETWORK_ISOLATED)
		argv_push(argv, "--no-resolv");
	argv_push(argv, "--dhcp-option=option:dns-server,%s", own);
}

static void push_ipv6(const struct priv_network *network, const char *bridge, struct argv *argv)
{
	char own[INET6_ADDRSTRLEN], range[INET6_ADDRSTRLEN], mtu[24] = "";
	uint8_t first[16] = {0};

	if (!network_has_address6(network->address6))
		return;
	memcpy(first, network->address6, 8);
	inet_ntop(AF_INET6, network->address6, own, sizeof(own));
	inet_ntop(AF_INET6, first, range, sizeof(range));
	if (network->mtu)
		snprintf(mtu, sizeof(mtu), "mtu:%u,", network->mtu);
	argv_push(argv, "--enable-ra");
	argv_push(argv, "--dhcp-range=%s,static,64," LEASE_TIME, range);
	/* a lifetime of 0: a range, and no router that leads out of it */
	argv_push(argv, "--ra-param=%s,%s%d,%d", bridge, mtu, RA_SECONDS,
		  network->kind == PRIV_NETWORK_ISOLATED ? 0 : 3 * RA_SECONDS);
	if (!network->no_dns)
		argv_push(argv, "--dhcp-option=option6:dns-server,[%s]", own);
}

static void dnsmasq_argv(const struct verbs *verbs, const struct priv_network *network,
			 struct argv *argv)
{
	const char *dir = verbs->config.runtime_dir;
	const uint32_t address = ntohl(network->address), mask = netcfg_mask(network->prefix);
	const struct link_name bridge = bridge_name(network->slot);
	const unsigned int slot = network->slot;
	char own[INET_ADDRSTRLEN], range[INET_ADDRSTRLEN], netmask[INET_ADDRSTRLEN];

	address_text(address, own);
	address_text(address & mask, range);
	address_text(mask, netmask);
	argv_push(argv, "%s", verbs->config.dnsmasq_binary);
	argv_push(argv, "--keep-in-foreground");
	argv_push(argv, "--conf-file=/dev/null");
	argv_push(argv, "--pid-file=");
	argv_push(argv, "--user=");
	argv_push(argv, "--group=");
	argv_push(argv, "--log-facility=-");
	argv_push(argv, "--no-hosts");
	argv_push(argv, "--bind-dynamic");
	argv_push(argv, "--interface=%s", bridge.text);
	argv_push(argv, "--except-interface=lo");
	argv_push(argv, "--dhcp-range=%s,static,%s," LEASE_TIME, range, netmask);
	argv_push(argv, "--dhcp-hostsfile=%s/networks/%u/hosts", dir, slot);
	argv_push(argv, "--dhcp-lease-max=%d", LEASES_MAX);
	/* a guest is its MAC, which it cannot forge, and not what it says that it is called */
	argv_push(argv, "--dhcp-ignore-clid");
	argv_push(argv, "--addn-hosts=%s/networks/%u/names", dir, slot);
	argv_push(argv, "--dhcp-leasefile=%s/networks/%u/leases", dir, slot);
	/* where other hosts' servers are on the network, strangers are theirs, not to be refused */
	if (!network->vni)
		argv_push(argv, "--dhcp-authoritative");
	if (network->kind == PRIV_NETWORK_ISOLATED)
		argv_push(argv, "--dhcp-option=option:router"); /* none is told */
	else
		argv_push(argv, "--dhcp-option=option:router,%s", own);
	if (network->mtu)
		argv_push(argv, "--dhcp-option=option:mtu,%u", network->mtu);
	push_names(network, own, argv);
	push_ipv6(network, bridge.text, argv);
}

int verb_dnsmasq_spawn(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	struct spawned spawned;

	_cleanup_(argv_done) struct argv argv = {.n = 0};
	dnsmasq_argv(verbs, &req->u.network, &argv);
	struct spawn spawn = {
		.what = "dnsmasq",
		.advice = "install dnsmasq-base or set dnsmasq_binary",
		.argv = argv.arg,
		.drop = true,
		/* it writes its leases into the other half's folder */
		.uid = verbs->config.uid,
		.gid = verbs->config.gid,
		.extra_gid = -1,
		.caps = 1ULL << CAP_NET_BIND_SERVICE | 1ULL << CAP_NET_ADMIN | 1ULL << CAP_NET_RAW,
		.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 1024}},
		.n_limits = 2,
		.cgroup_procs = -1,
		.landlock = -1,
	};
	if (spawn_process(&spawn, &spawned, err) < 0)
		return -1;
	verb_reply_spawned(verbs, spawned.pid, spawned.start_time, spawned.pidfd, reply, reply_fds);
	return 0;
}
