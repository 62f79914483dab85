/* Networks, taps and dnsmasq, for real, in a network of the privileged half's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/proc.h"
#include "guest.h"
#include "half.h"

static struct priv_reply ask_network(struct half *half, uint32_t verb, int *ret_fd)
{
	struct priv_request req = {.verb = verb};
	req.u.network = (struct priv_network){7, PRIV_NETWORK_NAT, 24, htonl(0x0a630001)};
	struct priv_reply reply = half_ask(half, &req, NULL, 0, ret_fd);
	if (reply.err.code)
		fail_msg("%s", reply.err.msg);
	return reply;
}

/* as many descriptors as queues; twice as many where the host has vhost-net, else it says why */
static void ask_queues(struct half *half, uint32_t queues)
{
	struct priv_request req = {.verb = PRIV_TAP_CREATE};
	const bool has_vhost = access("/dev/vhost-net", F_OK) == 0;
	int tap;

	req.u.tap = (struct priv_tap){3, 3, 7, .queues = (uint8_t)queues};
	struct priv_reply reply = half_ask(half, &req, NULL, 0, &tap);
	assert_int_equal(reply.err.code, 0);
	assert_int_equal(reply.queues, queues);
	assert_int_equal(reply.n_fds, has_vhost ? 2 * queues : queues);
	assert_int_equal(reply.vhost_sys, has_vhost ? 0 : ENOENT);
	assert_int_equal(half_run(half, "ip -d link show vdi3n3 | grep -q multi_queue"), 0);
	close(tap);
	assert_int_not_equal(half_run(half, "ip link show vdi3n3"), 0);
}

static uint32_t missing_of(struct half *half, const struct priv_network *network, uint32_t verb)
{
	struct priv_request req = {.verb = verb};
	req.u.network = *network;
	struct priv_reply reply = half_ask(half, &req, NULL, 0, NULL);
	if (reply.err.code)
		fail_msg("%s", reply.err.msg);
	return reply.missing;
}

/* Each kind of bridge has a MAC that somebody else may change. */
static void check_mac(struct half *half, const struct priv_network *network, const char *mac)
{
	char command[128];

	assert_int_equal(missing_of(half, network, PRIV_NETWORK_LOOK) & PRIV_MISSING_MAC, 0);
	missing_of(half, network, PRIV_BRIDGE_ENSURE);
	assert_int_equal(missing_of(half, network, PRIV_NETWORK_LOOK), 0);
	snprintf(command, sizeof(command), "ip link show vdibr%u | grep -q %s", network->slot, mac);
	assert_int_equal(half_run(half, command), 0);
	snprintf(command, sizeof(command), "ip link set vdibr%u address 02:00:00:00:00:66",
		 network->slot);
	assert_int_equal(half_run(half, command), 0);
	assert_int_equal(missing_of(half, network, PRIV_NETWORK_LOOK), PRIV_MISSING_MAC);
	missing_of(half, network, PRIV_BRIDGE_ENSURE);
	assert_int_equal(missing_of(half, network, PRIV_NETWORK_LOOK), 0);
}

static void test_macs_of_bridges(void **state)
{
	struct half half;
	const struct priv_network nat = {8, PRIV_NETWORK_NAT, 24, htonl(0x0a630101)};
	const struct priv_network wide = {9,
					  PRIV_NETWORK_ISOLATED,
					  24,
					  htonl(0x0a630201),
					  .vni = 5,
					  .underlay = htonl(0xc0000201),
					  .n_peers = 1,
					  .peers = {htonl(0xc0000202)}};
	const struct priv_network office = {10, PRIV_NETWORK_BRIDGED, .uplink = "up0"};

	half_open(&half);
	if (!half.own_net || getuid() != 0) {
		print_message("no network of its own to be had\n");
		half_assert_orderly(&half);
		skip();
	}
	assert_int_equal(half_run(&half, "ip link add up0 address 02:00:00:00:00:01 type veth peer "
					 "name up1 && ip addr add 192.0.2.1/24 dev up0 && "
					 "ip link set up0 up && ip link set up1 up"),
			 0);
	check_mac(&half, &nat, "02:");
	check_mac(&half, &wide, "02:76:c0:00:02:01");
	check_mac(&half, &office, "02:00:00:00:00:01");
	/* without its uplink there is none to go by */
	assert_int_equal(half_run(&half, "ip link delete up0"), 0);
	assert_int_equal(missing_of(&half, &office, PRIV_NETWORK_LOOK), 0);
	half_assert_orderly(&half);
}

static void test_network(void **state)
{
	struct half half;
	int tap, pidfd;
	char command[512];

	half_open(&half);
	if (!half.own_net || getuid() != 0) {
		print_message("no network of its own to be had\n");
		half_assert_orderly(&half);
		skip();
	}
	for (int i = 0; i < 2; i++)
		ask_network(&half, PRIV_BRIDGE_ENSURE, NULL);
	assert_int_equal(half_run(&half, "ip -4 addr show vdibr7 | grep -q 10.99.0.1/24"), 0);
	assert_int_equal(half_run(&half, "! command -v nft || nft list ruleset | grep -q vdibr7"),
			 0);

	/* what is opened to guests: seen to be missing, made, seen to be there */
	const uint32_t verbs[] = {PRIV_NETWORK_LOOK, PRIV_BRIDGE_ENSURE, PRIV_NETWORK_LOOK};
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		struct priv_request opened = {.verb = verbs[i]};
		opened.u.network = (struct priv_network){7, PRIV_NETWORK_NAT, 24, htonl(0x0a630001),
							 .n_openings = 1};
		opened.u.network.openings[0] = (struct netcfg_opening){NETCFG_TCP, 22, 22};
		struct priv_reply seen = half_ask(&half, &opened, NULL, 0, NULL);
		assert_int_equal(seen.err.code, 0);
		assert_int_equal(seen.missing, i == 0 ? PRIV_MISSING_FIREWALL : 0);
	}

	struct priv_request req = {.verb = PRIV_TAP_CREATE};
	req.u.tap = (struct priv_tap){3, 1, 7};
	struct priv_reply reply = half_ask(&half, &req, NULL, 0, &tap);
	assert_int_equal(reply.err.code, 0);
	assert_int_equal(half_run(&half, "ip link show vdi3n1 | grep -q vdibr7"), 0);
	assert_int_equal(reply.queues, 1);
	assert_int_equal(half_run(&half, "ip link set vdi3n1 nomaster"), 0);
	req.verb = PRIV_TAP_ATTACH;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	assert_int_equal(half_run(&half, "ip link show vdi3n1 | grep -q vdibr7"), 0);
	ask_queues(&half, QEMU_QUEUES_MAX);
	req.verb = PRIV_TAP_CREATE;
	req.u.tap.network = 8;
	req.u.tap.nic = 2;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, ERR_NOT_FOUND);

	snprintf(command, sizeof(command),
		 "mkdir -p %s/networks/7 && echo 52:54:00:00:00:01,10.99.0.5,guest "
		 ">%s/networks/7/hosts && chmod 755 %s && chown -R %d %s",
		 half.runtime_dir, half.runtime_dir, half.runtime_dir, HALF_DAEMON_UID,
		 half.runtime_dir);
	assert_int_equal(system(command), 0);
	struct priv_reply dnsmasq = ask_network(&half, PRIV_DNSMASQ_SPAWN, &pidfd);
	static const char listens[] =
		"ss -lun | grep -q 10.99.0.1:53 && ss -lun | grep -q vdibr7:67";
	for (int i = 0; i < 2000 && half_run(&half, listens) != 0; i++)
		usleep(10000);
	assert_int_equal(half_run(&half, listens), 0);
	assert_string_equal(guest_status(dnsmasq.pid, "Uid"), "300000\t300000\t300000\t300000");
	assert_string_equal(guest_status(dnsmasq.pid, "CapEff"), "0000000000003400");
	assert_string_equal(guest_status(dnsmasq.pid, "CapBnd"), "0000000000003400");
	req = (struct priv_request){.verb = PRIV_DNSMASQ_SIGNAL};
	req.u.process = (struct priv_process){7, dnsmasq.pid, dnsmasq.start_time, SIGHUP};
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	usleep(100000);
	assert_true(proc_is_alive(pidfd));
	req.u.process.sig = SIGTERM;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	guest_await_end(pidfd);
	close(pidfd);

	req = (struct priv_request){.verb = PRIV_TAP_DELETE};
	req.u.tap = (struct priv_tap){3, 1, 7};
	for (int i = 0; i < 2; i++) {
		assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
		ask_network(&half, PRIV_BRIDGE_DELETE, NULL);
	}
	assert_int_not_equal(half_run(&half, "ip link show vdibr7"), 0);
	/* down since it was answered; gone when nobody had a wish for a while */
	for (int i = 0; i < 2000 && half_run(&half, "ip link show vdi3n1") == 0; i++)
		usleep(10000);
	assert_int_not_equal(half_run(&half, "ip link show vdi3n1"), 0);
	assert_int_not_equal(half_run(&half, "command -v nft && nft list ruleset | grep -q vdibr7"),
			     0);
	close(tap);
	half_assert_orderly(&half);
}

/* A network whose uplink is a bridge of the administrator's. */
static void test_joined(void **state)
{
	struct half half;
	struct priv_request req = {.verb = PRIV_BRIDGE_ENSURE};
	req.u.network =
		(struct priv_network){7, PRIV_NETWORK_BRIDGED, .uplink = "br0", .joined = 1};

	half_open(&half);
	if (!half.own_net || getuid() != 0) {
		print_message("no network of its own to be had\n");
		half_assert_orderly(&half);
		skip();
	}
	/* none, a link that is none, one that is down */
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, ERR_NOT_FOUND);
	assert_int_equal(half_run(&half, "ip link add br0 type veth peer name br1"), 0);
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, ERR_CONFLICT);
	assert_int_equal(half_run(&half, "ip link delete br0; ip link add br0 type bridge && "
					 "ip addr add 10.50.0.1/24 dev br0"),
			 0);
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, ERR_CONFLICT);
	assert_int_not_equal(half_run(&half, "ip link show vdiup7"), 0);
	assert_int_equal(half_run(&half, "ip link set br0 up"), 0);
	for (int i = 0; i < 2; i++) {
		struct priv_reply reply = half_ask(&half, &req, NULL, 0, NULL);
		if (reply.err.code)
			fail_msg("%s", reply.err.msg);
	}
	assert_int_equal(half_run(&half, "ip link show vdiup7 | grep -q 'master vdibr7'"), 0);
	assert_int_equal(half_run(&half, "ip link show vdidn7 | grep -q 'master br0'"), 0);
	assert_int_equal(half_run(&half, "ip addr show br0 | grep -q 10.50.0.1/24"), 0);
	assert_int_not_equal(half_run(&half, "ip addr show vdibr7 | grep inet"), 0);
	/* it has the MAC of its name, whatever the uplink has */
	req.verb = PRIV_NETWORK_LOOK;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).missing, 0);
	assert_int_equal(half_run(&half, "ip link set vdibr7 address 02:00:00:00:00:07"), 0);
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).missing, PRIV_MISSING_MAC);
	req.verb = PRIV_BRIDGE_ENSURE;
	req.u.network.mtu = 1300;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	assert_int_equal(half_run(&half, "ip link show vdiup7 | grep -q 'mtu 1300'"), 0);
	assert_int_equal(half_run(&half, "ip link show vdidn7 | grep -q 'mtu 1500'"), 0);
	/* this is no link to take over */
	struct priv_request other = {.verb = PRIV_UPLINK_ENSLAVE};
	other.u.uplink = (struct priv_uplink){.slot = 7, .before.name = "br0"};
	assert_int_equal(half_ask(&half, &other, NULL, 0, NULL).err.code, ERR_CONFLICT);
	other = (struct priv_request){.verb = PRIV_BRIDGE_DELETE, .u.slot = 7};
	for (int i = 0; i < 2; i++)
		assert_int_equal(half_ask(&half, &other, NULL, 0, NULL).err.code, 0);
	assert_int_not_equal(half_run(&half, "ip link | grep vdi"), 0);
	assert_int_equal(half_run(&half, "ip addr show br0 | grep -q 10.50.0.1/24"), 0);
	half_assert_orderly(&half);
}

/* DHCP servers of the office give the addresses, and it is heard what they give. */
static void test_source_guard(void **state)
{
	struct half half;
	struct priv_network network = {7, PRIV_NETWORK_BRIDGED, .uplink = "br0", .joined = 1,
				       .hears_dhcp = 1};
	struct priv_request req = {.verb = PRIV_TAP_CREATE};
	int tap, listener, second;

	half_open(&half);
	if (!half.own_net || getuid() != 0) {
		print_message("no network of its own to be had\n");
		half_assert_orderly(&half);
		skip();
	}
	assert_int_equal(half_run(&half, "ip link add br0 type bridge && ip link set br0 up"), 0);
	missing_of(&half, &network, PRIV_BRIDGE_ENSURE);
	assert_int_equal(missing_of(&half, &network, PRIV_NETWORK_LOOK), 0);
	assert_int_equal(half_run(&half, "nft flush chain bridge vdi-hostd hear"), 0);
	assert_int_equal(missing_of(&half, &network, PRIV_NETWORK_LOOK), PRIV_MISSING_FIREWALL);
	missing_of(&half, &network, PRIV_BRIDGE_ENSURE);
	assert_int_equal(missing_of(&half, &network, PRIV_NETWORK_LOOK), 0);
	network.hears_dhcp = 0;
	assert_int_equal(missing_of(&half, &network, PRIV_NETWORK_LOOK), PRIV_MISSING_FIREWALL);

	req.u.tap = (struct priv_tap){3, 0, 7, .mac = {0x52, 0x54, 0, 0, 0, 1}, .any_prefix6 = 1};
	assert_int_equal(half_ask(&half, &req, NULL, 0, &tap).err.code, 0);
	req.verb = PRIV_TAP_LOOK;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).missing, 0);
	req.u.tap.any_prefix6 = 0;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).missing, PRIV_MISSING_GUARD);
	close(tap);

	/* who has it reads from it; it is one, until it is closed */
	req = (struct priv_request){.verb = PRIV_DHCP_LISTEN};
	struct priv_reply reply = half_ask(&half, &req, NULL, 0, &listener);
	assert_int_equal(reply.err.code, 0);
	assert_int_equal(reply.n_fds, 1);
	reply = half_ask(&half, &req, NULL, 0, &second);
	assert_int_equal(reply.err.code, ERR_BUSY);
	assert_int_equal(reply.n_fds, 0);
	close(listener);
	assert_int_equal(half_ask(&half, &req, NULL, 0, &listener).err.code, 0);
	close(listener);
	half_assert_orderly(&half);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_network),
		cmocka_unit_test(test_macs_of_bridges),
		cmocka_unit_test(test_joined),
		cmocka_unit_test(test_source_guard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
