/* Bridges, taps, firewall, dnsmasq: names and argv are made here from slots. */
#include "vdi-hostd/priv/verbs.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/tap.h"
#include "vdi-hostd/priv/spawn.h"

#define LEASE_TIME "12h"

struct link_name {
	char text[NETCFG_NAME_MAX + 1];
};

static struct link_name bridge_name(uint32_t network)
{
	struct link_name ret;
	snprintf(ret.text, sizeof(ret.text), "vdibr%u", network);
	return ret;
}

static struct link_name tap_name(const struct priv_tap *tap)
{
	struct link_name ret;
	snprintf(ret.text, sizeof(ret.text), "vdi%un%u", tap->desktop, tap->nic);
	return ret;
}

static int check_slot(uint32_t slot, const char *field, struct err *err)
{
	if (slot >= 1 && slot <= PRIV_SLOT_MAX)
		return 0;
	return err_set_field(err, field, "slot %u is not in 1 to %d", slot, PRIV_SLOT_MAX);
}

int verb_network_check(const struct priv_request *req, const int *fds, size_t n_fds,
		       struct err *err)
{
	const struct priv_network *network = &req->u.network;

	if (check_slot(network->slot, "slot", err) < 0)
		return -1;
	if (network->kind != PRIV_NETWORK_NAT && network->kind != PRIV_NETWORK_ISOLATED)
		return err_set_field(err, "kind", "there is no kind %u of network", network->kind);
	if (network->prefix < 8 || network->prefix > 30)
		return err_set_field(err, "prefix", "prefix %u is not in 8 to 30", network->prefix);
	const uint32_t address = ntohl(network->address), mask = netcfg_mask(network->prefix);
	if (address >> 24 == 0 || address >> 24 == 127 || address >> 24 >= 224)
		return err_set_field(err, "address", "a bridge's address must be a unicast one");
	if ((address & ~mask) == 0 || (address & ~mask) == ~mask)
		return err_set_field(err, "address",
				     "the network's own and its broadcast address are no host's");
	return 0;
}

int verb_tap_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;

	if (check_slot(tap->desktop, "desktop", err) < 0 ||
	    (req->verb != PRIV_TAP_DELETE && check_slot(tap->network, "network", err) < 0))
		return -1;
	if (tap->nic >= QEMU_NICS_MAX)
		return err_set_field(err, "nic", "NIC %u is not in 0 to %d", tap->nic,
				     QEMU_NICS_MAX - 1);
	return 0;
}

static int need_netcfg(const struct verbs *verbs, struct err *err)
{
	if (verbs->netcfg)
		return 0;
	return err_set(err, ERR_UNSUPPORTED, "the kernel's networking cannot be reached");
}

int verb_bridge_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_network *network = &req->u.network;
	const struct link_name bridge = bridge_name(network->slot);
	const struct netcfg_addr address =
		netcfg_addr_v4((struct in_addr){network->address}, network->prefix);
	const struct netcfg_firewall firewall = {
		.bridge = bridge.text,
		.kind = network->kind == PRIV_NETWORK_NAT ? NETCFG_FIREWALL_NAT
							  : NETCFG_FIREWALL_ISOLATED,
		.addresses = {address},
		.n_addresses = 1,
	};
	const struct netcfg_bridge options = {.addresses = {address}, .n_addresses = 1};

	/* the rules first: not a moment without them */
	if (need_netcfg(verbs, err) < 0 ||
	    netcfg_firewall_ensure(verbs->netcfg, &firewall, err) < 0)
		return -1;
	return netcfg_bridge_ensure(verbs->netcfg, bridge.text, &options, err);
}

int verb_bridge_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name bridge = bridge_name(req->u.slot);

	if (need_netcfg(verbs, err) < 0 ||
	    netcfg_bridge_delete(verbs->netcfg, bridge.text, err) < 0)
		return -1;
	return netcfg_firewall_delete(verbs->netcfg, bridge.text, err);
}

int verb_tap_create(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name tap = tap_name(&req->u.tap);
	const struct link_name bridge = bridge_name(req->u.tap.network);
	const struct netcfg_tap options = {.bridge = bridge.text};

	if (need_netcfg(verbs, err) < 0 ||
	    netcfg_tap_create(verbs->netcfg, tap.text, &options, &reply_fds[0], err) < 0)
		return -1;
	reply->n_fds = 1;
	return 0;
}

int verb_tap_attach(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name tap = tap_name(&req->u.tap);
	const struct link_name bridge = bridge_name(req->u.tap.network);
	const struct netcfg_tap options = {.bridge = bridge.text};

	if (need_netcfg(verbs, err) < 0)
		return -1;
	return netcfg_tap_attach(verbs->netcfg, tap.text, &options, err);
}

int verb_tap_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name tap = tap_name(&req->u.tap);

	if (need_netcfg(verbs, err) < 0)
		return -1;
	return netcfg_tap_delete(verbs->netcfg, tap.text, err);
}

static void address_text(uint32_t host_order, char ret[INET_ADDRSTRLEN])
{
	const struct in_addr address = {htonl(host_order)};
	inet_ntop(AF_INET, &address, ret, INET_ADDRSTRLEN);
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
	argv_push(argv, "--dhcp-leasefile=%s/networks/%u/leases", dir, slot);
	argv_push(argv, "--dhcp-authoritative");
	argv_push(argv, "--domain-needed");
	argv_push(argv, "--bogus-priv");
	if (network->kind == PRIV_NETWORK_NAT) {
		argv_push(argv, "--dhcp-option=option:router,%s", own);
	} else {
		/* no way out: no router is told, and no names are asked for elsewhere */
		argv_push(argv, "--dhcp-option=option:router");
		argv_push(argv, "--no-resolv");
	}
	argv_push(argv, "--dhcp-option=option:dns-server,%s", own);
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
