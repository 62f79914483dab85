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
	for (int i = 0; i < 500 && half_run(&half, "ss -lun | grep -q 10.99.0.1:53") != 0; i++)
		usleep(10000);
	assert_int_equal(half_run(&half, "ss -lun | grep -q vdibr7:67"), 0);
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
	for (int i = 0; i < 500 && half_run(&half, "ip link show vdi3n1") == 0; i++)
		usleep(10000);
	assert_int_not_equal(half_run(&half, "ip link show vdi3n1"), 0);
	assert_int_not_equal(half_run(&half, "command -v nft && nft list ruleset | grep -q vdibr7"),
			     0);
	close(tap);
	half_assert_orderly(&half);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_network),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
