/* DHCP servers' answers on their way over a bridge: which of them are told, and to whom. */
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/dhcp.h"
#include "netcfg/firewall.h"
#include "netcfg/nic.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/answers.h"

#define B4 "10.9.8.11"

/* A LAN (the fd of its port), and two desktops with source guard. */
struct net {
	struct netcfg *netcfg;
	int lan, a, b, listener;
};

struct heard {
	struct netcfg_lease lease;
	unsigned int n;
	bool lost;
};

static void note_lease(void *data, const struct netcfg_lease *lease)
{
	struct heard *heard = data;
	heard->lease = *lease;
	heard->n++;
}

/* All that can be read by now. */
static struct heard hear(int fd)
{
	struct err err;
	struct heard heard = {.n = 0};
	unsigned int before;
	do {
		bool lost = false;
		before = heard.n;
		assert_ok(netcfg_dhcp_read(fd, note_lease, &heard, &lost, &err));
		heard.lost = heard.lost || lost;
	} while (heard.n != before);
	return heard;
}

static const struct netcfg_firewall lan_network = {
	.bridge = "vdibr1", .kind = NETCFG_FIREWALL_BRIDGED, .hears_dhcp = true};

static struct netcfg_nic nic_of(const char *tap, const uint8_t *mac)
{
	struct netcfg_nic nic = {.tap = tap, .any_prefix6 = true};
	memcpy(nic.mac, mac, 6);
	return nic;
}

static void guard(struct netcfg *netcfg)
{
	struct err err;
	const struct netcfg_nic nics[] = {nic_of("vdi1n0", mac_a), nic_of("vdi2n0", mac_b)};
	assert_ok(netcfg_nics_ensure(netcfg, nics, 2, &err));
}

static struct net net_make(struct netcfg *netcfg)
{
	struct err err;
	struct net net = {.netcfg = netcfg};
	const struct netcfg_bridge bridge = {.n_addresses = 0};
	struct netcfg_tap tap = {.bridge = "vdibr1"};
	assert_ok(netcfg_firewall_ensure(netcfg, &lan_network, &err));
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_tap_create(netcfg, "lan", &tap, &net.lan, &err));
	tap.port.fixed = true;
	memcpy(tap.port.mac, mac_a, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, &net.a, &err));
	memcpy(tap.port.mac, mac_b, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi2n0", &tap, &net.b, &err));
	guard(netcfg);
	const struct frame first = answer_of_type(mac_all, mac_x, A4, ANSWER_ACK);
	assert_true(frame_passes_soon(net.lan, &first, net.a, &first));
	assert_true(frame_passes_soon(net.lan, &first, net.b, &first));
	assert_ok(netcfg_dhcp_listen(&net.listener, &err));
	return net;
}

static void net_done(struct net *net)
{
	close(net->lan);
	close(net->a);
	close(net->b);
	close(net->listener);
}

/* It is told before the bridge hands it to the tap: once it is there, nothing is on its way. */
static void deliver(struct net *net, const struct frame *answer, int tap)
{
	frame_send(net->lan, answer);
	if (!frame_heard(tap, answer, 10000))
		fail_msg("the answer did not pass");
}

static struct heard heard_of(struct net *net, const struct frame *answer, int tap)
{
	deliver(net, answer, tap);
	return hear(net->listener);
}

static void assert_hears(struct net *net, const char *address)
{
	const struct frame ack = answer_of_type(mac_a, mac_a, address, ANSWER_ACK);
	const struct heard heard = heard_of(net, &ack, net->a);
	assert_int_equal(heard.n, 1);
	assert_false(heard.lost);
	assert_lease(&heard.lease, address, "10.9.8.2", 3600);
}

static void assert_deaf(struct net *net)
{
	const struct frame ack = answer_of_type(mac_a, mac_a, A4, ANSWER_ACK);
	assert_int_equal(heard_of(net, &ack, net->a).n, 0);
}

static void test_hears_acks_at_once(void **state)
{
	struct net net = net_make(*state);
	assert_int_equal(hear(net.listener).n, 0);
	assert_hears(&net, A4);
	/* one for each, and none waits in the kernel for more to come */
	for (int i = 0; i < 3; i++) {
		const struct frame ack = answer_of_type(mac_a, mac_a, B4, ANSWER_ACK);
		const struct heard heard = heard_of(&net, &ack, net.a);
		assert_int_equal(heard.n, 1);
		assert_lease(&heard.lease, B4, "10.9.8.2", 3600);
	}
	/* to everybody, from which it is heard once */
	const struct frame all = answer_of_type(mac_all, mac_a, A4, ANSWER_ACK);
	deliver(&net, &all, net.b);
	assert_true(frame_heard(net.a, &all, 10000));
	const struct heard heard = hear(net.listener);
	assert_int_equal(heard.n, 1);
	assert_lease(&heard.lease, A4, "10.9.8.2", 3600);
	net_done(&net);
}

static void test_hears_nothing_else(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	assert_hears(&net, A4);
	const struct frame others[] = {
		answer_of_type(mac_a, mac_a, A4, ANSWER_OFFER),
		answer_of_type(mac_a, mac_a, A4, ANSWER_NAK),
		/* for another, also for another that is there */
		answer_of_type(mac_a, mac_x, A4, ANSWER_ACK),
		answer_of_type(mac_a, mac_b, A4, ANSWER_ACK),
		answer_of_type(mac_all, mac_x, A4, ANSWER_ACK),
		frame_udp(mac_a, mac_x, "10.9.8.2", 67, A4, 68),
		frame_udp(mac_a, mac_x, "10.9.8.2", 53, A4, 68),
	};
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_int_equal(heard_of(&net, &others[i], net.a).n, 0);
	/* in a VLAN */
	const struct frame ack = answer_of_type(mac_a, mac_a, A4, ANSWER_ACK);
	const struct frame tagged = frame_tagged(&ack, ETH_P_8021Q, 5);
	assert_int_equal(heard_of(&net, &tagged, net.a).n, 0);
	/* a guest's own, to itself, to its neighbour, to everybody */
	const uint8_t *const targets[] = {mac_a, mac_b, mac_all};
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct frame own = answer_of_type(targets[i], mac_a, B4, ANSWER_ACK);
		memcpy(own.data + 6, mac_a, 6);
		assert_false(frame_passes(net.a, net.b, &own));
		own = answer_of_type(targets[i], mac_b, B4, ANSWER_ACK);
		memcpy(own.data + 6, mac_a, 6);
		assert_false(frame_passes(net.a, net.b, &own));
		assert_int_equal(hear(net.listener).n, 0);
	}
	/* of a NIC whose addresses are not guarded, nobody needs to know */
	struct netcfg_nic any = nic_of("vdi1n0", mac_a);
	any.any_address = true;
	any.any_prefix6 = false;
	assert_ok(netcfg_nics_ensure(net.netcfg, &any, 1, &err));
	assert_deaf(&net);
	guard(net.netcfg);
	assert_hears(&net, A4);
	net_done(&net);
}

static void test_lost_and_too_many(void **state)
{
	struct net net = net_make(*state);
	const int small = 1;
	assert_hears(&net, A4);
	/* room for the least that the kernel allows */
	assert_int_equal(setsockopt(net.listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	const struct frame to_a = answer_of_type(mac_a, mac_a, A4, ANSWER_ACK);
	for (int i = 0; i < 20; i++)
		deliver(&net, &to_a, net.a);
	struct heard heard = hear(net.listener);
	assert_true(heard.lost);
	assert_true(heard.n < 20);
	assert_false(hear(net.listener).lost);
	assert_hears(&net, B4);
	/* who is sent very many does not have them all heard; and the others are */
	const int room = 128 << 20;
	assert_int_equal(setsockopt(net.listener, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)),
			 0);
	for (int i = 0; i < 3000; i++)
		frame_send(net.lan, &to_a);
	heard = hear(net.listener);
	assert_true(heard.n < 2000);
	const struct frame to_b = answer_of_type(mac_b, mac_b, B4, ANSWER_ACK);
	heard = heard_of(&net, &to_b, net.b);
	assert_true(heard.n >= 1);
	assert_memory_equal(heard.lease.mac, mac_b, 6);
	net_done(&net);
}

/* A call ends, however much there is: the rest comes with the next. */
static void test_a_read_is_bounded(void **state)
{
	enum { NICS = 8 };
	struct err err;
	struct net net = net_make(*state);
	struct netcfg_nic nics[NICS];
	char names[NICS][16];
	int taps[NICS];
	struct heard heard = {.n = 0};
	bool lost;
	for (int i = 0; i < NICS; i++) {
		struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true}};
		uint8_t mac[6] = {0x52, 0x54, 0, 1, 0, (uint8_t)i};
		snprintf(names[i], sizeof(names[i]), "vdi%dn1", i);
		nics[i] = nic_of(names[i], mac);
		memcpy(tap.port.mac, mac, 6);
		assert_ok(netcfg_tap_create(net.netcfg, names[i], &tap, &taps[i], &err));
		assert_ok(netcfg_nics_ensure(net.netcfg, &nics[i], 1, &err));
		const struct frame first = answer_of_type(mac, mac, A4, ANSWER_ACK);
		assert_true(frame_passes_soon(net.lan, &first, taps[i], &first));
	}
	const int room = 32 << 20;
	assert_int_equal(setsockopt(net.listener, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)),
			 0);
	hear(net.listener);
	for (int i = 0; i < NICS; i++) {
		const struct frame ack = answer_of_type(nics[i].mac, nics[i].mac, A4, ANSWER_ACK);
		for (int k = 0; k < 50; k++)
			deliver(&net, &ack, taps[i]);
	}
	assert_ok(netcfg_dhcp_read(net.listener, note_lease, &heard, &lost, &err));
	assert_int_equal(heard.n, 256);
	assert_int_equal(heard.n + hear(net.listener).n, NICS * 50);
	for (int i = 0; i < NICS; i++)
		close(taps[i]);
	net_done(&net);
}

static void test_one_listener(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	int second = -1;
	assert_err(netcfg_dhcp_listen(&second, &err), ERR_BUSY);
	assert_int_equal(second, -1);
	assert_hears(&net, A4);
	close(net.listener);
	assert_ok(netcfg_dhcp_listen(&net.listener, &err));
	assert_int_equal(fcntl(net.listener, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(net.listener, F_GETFL) & O_NONBLOCK);
	assert_hears(&net, B4);
	net_done(&net);
}

/* Another group for the socket, as its owner could have it. */
static ssize_t send_config(int fd)
{
	struct {
		struct nlmsghdr head;
		struct nfgenmsg group;
		struct nlattr attr;
		struct nfulnl_msg_config_cmd command;
	} msg = {.head = {.nlmsg_len = sizeof(msg),
			  .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		 .group = {.res_id = htons(7)},
		 .attr = {.nla_len = 5, .nla_type = NFULA_CFG_CMD},
		 .command = {NFULNL_CFG_CMD_BIND}};
	return send(fd, &msg, sizeof(msg), 0);
}

static int without_privilege(struct net *net)
{
	struct err err;
	struct heard heard = {.n = 0};
	bool lost;
	int fd;
	char answer[256];
	struct nlmsghdr head;
	struct nlmsgerr verdict;
	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 1;
	if (netcfg_dhcp_read(net->listener, note_lease, &heard, &lost, &err) < 0 || heard.n != 1)
		return 2;
	if (netcfg_dhcp_listen(&fd, &err) == 0 || err.code != ERR_DENIED)
		return 3;
	if (send_config(net->listener) < 0 || recv(net->listener, answer, sizeof(answer), 0) <
						      (ssize_t)(sizeof(head) + sizeof(verdict)))
		return 4;
	memcpy(&head, answer, sizeof(head));
	memcpy(&verdict, answer + sizeof(head), sizeof(verdict));
	return head.nlmsg_type == NLMSG_ERROR && verdict.error == -EPERM ? 0 : 5;
}

static void test_reading_needs_no_privilege(void **state)
{
	struct net net = net_make(*state);
	const struct frame ack = answer_of_type(mac_a, mac_a, A4, ANSWER_ACK);
	int status;
	assert_hears(&net, A4);
	deliver(&net, &ack, net.a);
	pid_t pid = fork();
	if (pid == 0)
		_exit(without_privilege(&net));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_hears(&net, B4);
	net_done(&net);
}

/* Whoever has the privilege may write to any netlink socket. */
static void test_only_the_kernel_is_heard(void **state)
{
	struct net net = net_make(*state);
	const struct frame message =
		answer_message(mac_a, A4, OPTIONS(O_TYPE_ACK O_SERVER O_HOUR O_END), 300);
	const struct frame packet = answer_packet(&message);
	struct {
		struct nlmsghdr head;
		struct nfgenmsg group;
		struct nlattr attr;
		uint8_t packet[FRAME_MAX];
	} msg = {.attr = {.nla_len = (uint16_t)(sizeof(struct nlattr) + packet.n),
			  .nla_type = NFULA_PAYLOAD}};
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};
	socklen_t size = sizeof(to);
	msg.head.nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET;
	msg.head.nlmsg_len = (uint32_t)(offsetof(__typeof__(msg), packet) + packet.n);
	memcpy(msg.packet, packet.data, packet.n);
	assert_int_equal(getsockname(net.listener, (struct sockaddr *)&to, &size), 0);
	_cleanup_close_ int other = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	assert_true(other >= 0);
	assert_int_equal(sendto(other, &msg, msg.head.nlmsg_len, 0, (struct sockaddr *)&to, size),
			 msg.head.nlmsg_len);
	struct pollfd ready = {.fd = net.listener, .events = POLLIN};
	assert_int_equal(poll(&ready, 1, 0), 1);
	assert_int_equal(hear(net.listener).n, 0);
	assert_hears(&net, A4);
	net_done(&net);
}

static void test_a_broken_socket(void **state)
{
	struct err err;
	struct heard heard = {.n = 0};
	bool lost = true;
	_cleanup_close_ int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_err(netcfg_dhcp_read(file, note_lease, &heard, &lost, &err), ERR_IO);
	assert_err(netcfg_dhcp_read(-1, note_lease, &heard, &lost, &err), ERR_IO);
	assert_true(lost);
	assert_int_equal(heard.n, 0);
}

/* ---- the rule ---- */

#define HEAR "nft list chain bridge vdi-hostd hear"

static void assert_has(struct netcfg *netcfg, const struct netcfg_firewall *network, bool wanted)
{
	struct err err;
	bool has = !wanted;
	assert_ok(netcfg_firewall_has(netcfg, network, &has, &err));
	assert_int_equal(has, wanted);
}

static void test_another_hand(void **state)
{
	static const char *const hands[] = {
		"nft flush chain bridge vdi-hostd hear",
		"nft flush chain bridge vdi-hostd postrouting",
		"nft delete element bridge vdi-hostd hearing '{ \"vdibr1\" }'",
		"nft add rule bridge vdi-hostd hear drop",
		"nft insert rule bridge vdi-hostd hear return",
		"nft 'flush chain bridge vdi-hostd hear; add rule bridge vdi-hostd hear counter'",
		"nft delete table bridge vdi-hostd",
		"nft flush ruleset",
	};
	struct err err;
	struct net net = net_make(*state);
	assert_hears(&net, A4);
	_cleanup_free_ char *before = netns_output(HEAR);
	for (size_t i = 0; i < ARRAY_LEN(hands); i++) {
		assert_has(net.netcfg, &lan_network, true);
		netns_run(hands[i]);
		if (i + 2 < ARRAY_LEN(hands))
			assert_has(net.netcfg, &lan_network, false);
		assert_ok(netcfg_firewall_ensure(net.netcfg, &lan_network, &err));
		guard(net.netcfg);
		_cleanup_free_ char *after = netns_output(HEAR);
		assert_string_equal(before, after);
		assert_hears(&net, i % 2 ? A4 : B4);
	}
	net_done(&net);
}

/* Other networks, NICs and groups put the frame anew as well. */
static void test_rule_stays_while_it_is_wanted(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	struct netcfg_firewall other = {.bridge = "vdibr2", .kind = NETCFG_FIREWALL_ISOLATED};
	struct netcfg_firewall second = lan_network, deaf = lan_network;
	second.bridge = "vdibr3";
	deaf.hears_dhcp = false;
	assert_hears(&net, A4);
	assert_ok(netcfg_firewall_ensure(net.netcfg, &other, &err));
	assert_ok(netcfg_firewall_ensure(net.netcfg, &second, &err));
	assert_has(net.netcfg, &lan_network, true);
	assert_has(net.netcfg, &second, true);
	assert_has(net.netcfg, &other, true);
	assert_has(net.netcfg, &deaf, false);
	assert_hears(&net, B4);
	assert_ok(netcfg_firewall_delete(net.netcfg, "vdibr2", &err));
	assert_ok(netcfg_firewall_delete(net.netcfg, "vdibr3", &err));
	assert_has(net.netcfg, &second, false);
	assert_hears(&net, A4);

	/* the last does not want it any more */
	assert_ok(netcfg_firewall_ensure(net.netcfg, &deaf, &err));
	assert_has(net.netcfg, &deaf, true);
	assert_has(net.netcfg, &lan_network, false);
	assert_false(netns_shows(HEAR, "log"));
	assert_deaf(&net);
	assert_ok(netcfg_firewall_ensure(net.netcfg, &deaf, &err));
	assert_ok(netcfg_firewall_ensure(net.netcfg, &lan_network, &err));
	assert_hears(&net, B4);
	/* or goes */
	assert_ok(netcfg_firewall_ensure(net.netcfg, &other, &err));
	assert_ok(netcfg_firewall_delete(net.netcfg, "vdibr1", &err));
	assert_ok(netcfg_firewall_delete(net.netcfg, "vdibr1", &err));
	assert_false(netns_shows(HEAR, "log"));
	assert_false(netns_shows("nft list set bridge vdi-hostd hearing", "vdibr1"));
	assert_deaf(&net);
	net_done(&net);
}

static void test_only_bridged_networks_hear(void **state)
{
	struct err err;
	struct netcfg_firewall network = lan_network;
	network.kind = NETCFG_FIREWALL_ISOLATED;
	bool has;
	assert_err(netcfg_firewall_ensure(*state, &network, &err), ERR_INVALID);
	assert_err(netcfg_firewall_has(*state, &network, &has, &err), ERR_INVALID);
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_hears_acks_at_once),
		netns_test(test_hears_nothing_else),
		netns_test(test_lost_and_too_many),
		netns_test(test_a_read_is_bounded),
		netns_test(test_one_listener),
		netns_test(test_reading_needs_no_privilege),
		netns_test(test_only_the_kernel_is_heard),
		netns_test(test_a_broken_socket),
		netns_test(test_another_hand),
		netns_test(test_rule_stays_while_it_is_wanted),
		netns_test(test_only_bridged_networks_hear),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
