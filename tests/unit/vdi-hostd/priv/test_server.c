#include "vdi-hostd/priv/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/proc.h"
#include "guest.h"
#include "netcfg/netcfg.h"
#include "vdi-hostd/priv/wire.h"

#define DAEMON_UID 300000
#define TOOL_UID   300001

/* the server in a process of its own; its network is its own, too, where that can be */
struct half {
	pid_t pid;
	int fd;
	char runtime_dir[64];
	bool own_net;
};

static void be_server(int fd, const struct half *half, int ready)
{
	struct verbs verbs = {
		.rootless = getuid() != 0,
		/* vhost-net is found missing only when it is opened */
		.kernel_features = PRIV_HAS_MULTI_QUEUE | PRIV_HAS_VHOST_NET,
		.config = {.uid = DAEMON_UID,
			   .gid = DAEMON_UID,
			   .vhost = true,
			   .uid_base = GUEST_UID_BASE,
			   .tool_uid = TOOL_UID,
			   .qemu_binary = "/usr/bin/qemu-system-x86_64",
			   .qemu_img_binary = "/usr/bin/qemu-img",
			   .dnsmasq_binary = "/usr/sbin/dnsmasq"},
	};
	struct err err;
	char own_net = unshare(CLONE_NEWNET) == 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(verbs.config.runtime_dir, sizeof(verbs.config.runtime_dir), "%s",
		 half->runtime_dir);
	if (own_net && !verbs.rootless && netcfg_open(&verbs.netcfg, &err) < 0)
		own_net = 0;
	if (!freopen("/dev/null", "w", stderr) || write(ready, &own_net, 1) != 1)
		_exit(99);
	server_run(fd, &verbs);
	verbs_done(&verbs);
	_exit(42);
}

static void open_half(struct half *half)
{
	int ends[2], ready[2];
	char own_net = 0;

	*half = (struct half){.runtime_dir = "/tmp/vdi-half-XXXXXX"};
	assert_non_null(mkdtemp(half->runtime_dir));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	half->pid = fork();
	if (half->pid == 0) {
		close(ends[1]);
		be_server(ends[0], half, ready[1]);
	}
	close(ends[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &own_net, 1), 1);
	close(ready[0]);
	half->own_net = own_net;
	half->fd = ends[1];
}

/* end the wire; how did the server end? */
static int close_half(struct half *half)
{
	char command[128];
	int status;

	close(half->fd);
	assert_int_equal(waitpid(half->pid, &status, 0), half->pid);
	snprintf(command, sizeof(command), "rm -rf %s", half->runtime_dir);
	assert_int_equal(system(command), 0);
	return status;
}

static void assert_orderly(struct half *half)
{
	int status = close_half(half);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void assert_aborted(struct half *half)
{
	char byte;
	assert_int_equal(recv(half->fd, &byte, 1, 0), 0); /* no answer, only the end */
	int status = close_half(half);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static struct priv_reply ask(struct half *half, const struct priv_request *req, const int *fds,
			     size_t n_fds, int *ret_fd)
{
	struct priv_reply reply;
	int reply_fds[WIRE_FDS_MAX];
	size_t n = 0;

	assert_int_equal(wire_send(half->fd, req, sizeof(*req), fds, n_fds), 0);
	assert_int_equal(wire_receive(half->fd, &reply, sizeof(reply), reply_fds, &n), 1);
	assert_int_equal(n, reply.n_fds);
	if (ret_fd)
		*ret_fd = n ? reply_fds[0] : -1;
	for (size_t i = ret_fd ? 1 : 0; i < n; i++)
		close(reply_fds[i]);
	return reply;
}

static void test_probe_and_end(void **state)
{
	struct half half;
	struct priv_request req = {.verb = PRIV_PROBE};

	open_half(&half);
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	assert_orderly(&half);
}

static void test_wrong_sizes(void **state)
{
	static const size_t sizes[] = {1, 7, sizeof(struct priv_request) - 1,
				       sizeof(struct priv_request) + 1, 60000};
	_cleanup_free_ char *bytes = mem_calloc(1, 60000);

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct half half;
		struct priv_request req = {.verb = PRIV_PROBE};
		memcpy(bytes, &req, sizeof(req));
		open_half(&half);
		assert_int_equal(wire_send(half.fd, bytes, sizes[i], NULL, 0), 0);
		assert_aborted(&half);
	}
}

/* every verb filled with bytes that make no sense, and verbs that are none */
static void test_filled(void **state)
{
	static const uint32_t strange[] = {0, PRIV_VERBS_END, 1u << 31, UINT32_MAX};
	const uint32_t n = PRIV_VERBS_END + (uint32_t)ARRAY_LEN(strange);

	for (uint32_t i = PRIV_PROBE + 1; i < n; i++) {
		struct half half;
		struct priv_request req;
		memset(&req, 0xff, sizeof(req));
		if (i == PRIV_WATCH)
			continue; /* looks at nothing, as PROBE */
		req.verb = i < PRIV_VERBS_END ? i : strange[i - PRIV_VERBS_END];
		for (req.n_fds = 0; req.n_fds < 6; req.n_fds += 5) {
			int fds[6] = {0};
			open_half(&half);
			assert_int_equal(wire_send(half.fd, &req, sizeof(req), fds, req.n_fds), 0);
			assert_aborted(&half);
		}
	}
}

static void send_bad(const struct priv_request *req, const int *fds, size_t n_fds)
{
	struct half half;
	open_half(&half);
	assert_int_equal(wire_send(half.fd, req, sizeof(*req), fds, n_fds), 0);
	assert_aborted(&half);
}

static void test_wrong_fd_counts(void **state)
{
	struct priv_request req = {.verb = PRIV_PROBE};
	const int fds[] = {0, 1, 2, 0, 1};

	send_bad(&req, fds, 1); /* says none, brings one */
	req.n_fds = 1;
	send_bad(&req, NULL, 0); /* says one, brings none */
	send_bad(&req, fds, 1);  /* takes none */
	req = (struct priv_request){.verb = PRIV_IMG_SPAWN, .n_fds = 5};
	req.u.img = (struct priv_img){PRIV_IMG_RAW, PRIV_IMG_QCOW2, 0};
	send_bad(&req, fds, 5); /* two sources, of which neither is qcow2 */
	req.n_fds = 3;
	send_bad(&req, fds, 3);
	req.n_fds = UINT32_MAX;
	send_bad(&req, fds, 4);
}

static void bad_network(const struct priv_network *network)
{
	struct priv_request req = {.verb = PRIV_BRIDGE_ENSURE};
	req.u.network = *network;
	send_bad(&req, NULL, 0);
}

/* each is a network that is fine but for one field */
static void test_networks_out_of_range(void **state)
{
	struct priv_network nat = {1, PRIV_NETWORK_NAT, 24, htonl(0x0a010101)}, bad = nat;
	struct priv_network bridged = {1, PRIV_NETWORK_BRIDGED, .uplink = "eth0"};

	bad.mtu = PRIV_MTU_MIN - 1;
	bad_network(&bad);
	bad.mtu = PRIV_MTU_MAX + 1;
	bad_network(&bad);
	bad = nat;
	bad.address6[0] = 0xff;
	bad_network(&bad);
	bad = nat;
	bad.vlan = 1;
	bad_network(&bad);
	bad = nat;
	memcpy(bad.uplink, "eth0", 4);
	bad_network(&bad);
	nat.vni = 5;
	nat.n_peers = 1;
	nat.underlay = nat.peers[0] = htonl(0x0a000001);
	bad = nat;
	bad.vni = 1 << 24;
	bad_network(&bad);
	bad = nat;
	bad.n_peers = 0;
	bad_network(&bad);
	bad.n_peers = PRIV_PEERS_MAX + 1;
	bad_network(&bad);
	bad = nat;
	bad.peers[0] = UINT32_MAX;
	bad_network(&bad);
	bad = nat;
	bad.underlay = 0;
	bad_network(&bad);
	bad = nat;
	bad.n_openings = NETCFG_FIREWALL_OPENINGS_MAX + 1;
	bad_network(&bad);
	const struct netcfg_opening openings[] = {
		{NETCFG_ICMP, 1, 1}, {NETCFG_PROTOCOL_ANY, 1, 1}, {77, 1, 1},
		{NETCFG_TCP, 0, 1},  {NETCFG_UDP, 2, 1},
	};
	for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
		/* the last of several */
		bad = nat;
		bad.n_openings = NETCFG_FIREWALL_OPENINGS_MAX;
		for (size_t k = 0; k < NETCFG_FIREWALL_OPENINGS_MAX; k++)
			bad.openings[k] = (struct netcfg_opening){NETCFG_TCP, 1, 65535};
		bad.openings[NETCFG_FIREWALL_OPENINGS_MAX - 1] = openings[i];
		bad_network(&bad);
	}
	bad = bridged;
	bad.n_openings = 1;
	bad.openings[0] = (struct netcfg_opening){NETCFG_TCP, 22, 22};
	bad_network(&bad);
	bad = bridged;
	bad.vlan = 4095;
	bad_network(&bad);
	bad = bridged;
	bad.prefix = 24;
	bad_network(&bad);
	bad = bridged;
	bad.vni = 5;
	bad_network(&bad);
	const char *const names[] = {"", "lo", "vdibr1", "a/b", "..", "a b", "a\"b"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		bad = bridged;
		memset(bad.uplink, 0, sizeof(bad.uplink));
		memcpy(bad.uplink, names[i], strlen(names[i]));
		bad_network(&bad);
	}
	memset(bad.uplink, 'x', sizeof(bad.uplink));
	bad_network(&bad);
	struct priv_request req = {.verb = PRIV_DNSMASQ_SPAWN};
	req.u.network = bridged;
	send_bad(&req, NULL, 0);
}

static void bad_tap(const struct priv_tap *tap)
{
	struct priv_request req = {.verb = PRIV_TAP_CREATE};
	req.u.tap = *tap;
	send_bad(&req, NULL, 0);
}

static void bad_forward(const struct netcfg_forward *forward)
{
	struct priv_request req = {.verb = PRIV_FORWARD_ENSURE};
	req.u.forward = *forward;
	send_bad(&req, NULL, 0);
	req.verb = PRIV_FORWARD_DELETE;
	send_bad(&req, NULL, 0);
}

static void bad_rule(const struct netcfg_rule *rule)
{
	struct priv_request req = {.verb = PRIV_GROUP_ENSURE};
	req.u.group = (struct priv_group){.id = 1, .n_rules = 1, .rules = {*rule}};
	send_bad(&req, NULL, 0);
}

static void test_taps_and_rules_out_of_range(void **state)
{
	const struct priv_tap tap = {1, 0, 1, .mac = {0x52, 0x54, 0, 0, 0, 1}};
	const struct netcfg_addr host = {.family = AF_INET, .prefix = 32};
	const struct netcfg_forward forward = {
		.protocol = NETCFG_TCP,
		.port_first = 80,
		.port_last = 80,
		.guest = host,
		.guest_port = 80,
	};
	const struct netcfg_rule rule = {.direction = NETCFG_IN};
	struct priv_tap t = tap;
	struct netcfg_forward f = forward;
	struct netcfg_rule r = rule;

	t.mac[0] = 0x53;
	bad_tap(&t);
	t = tap;
	t.mtu = 10;
	bad_tap(&t);
	t = tap;
	t.n_groups = NETCFG_NIC_GROUPS_MAX + 1;
	bad_tap(&t);
	t.n_groups = 1;
	bad_tap(&t);
	t = tap;
	t.queues = QEMU_QUEUES_MAX + 1;
	bad_tap(&t);

	f.protocol = NETCFG_ICMP;
	bad_forward(&f);
	f = forward;
	f.port_first = 0;
	bad_forward(&f);
	f.port_first = 81;
	bad_forward(&f);
	f.port_last = UINT16_MAX;
	bad_forward(&f);
	f = forward;
	f.guest_port = UINT16_MAX;
	f.port_last = 81;
	bad_forward(&f);
	f = forward;
	f.guest.family = 0;
	bad_forward(&f);
	f.guest.family = AF_UNIX;
	bad_forward(&f);
	f = forward;
	f.host.family = AF_INET;
	f.host.prefix = 33;
	bad_forward(&f);

	r.direction = 0;
	bad_rule(&r);
	r = rule;
	r.protocol = NETCFG_ICMP + 1;
	bad_rule(&r);
	r = rule;
	r.port_last = 5;
	bad_rule(&r);
	r.port_first = 6;
	bad_rule(&r);
	r = rule;
	r.remote.family = AF_INET6;
	r.remote.prefix = 129;
	bad_rule(&r);
	r = rule;
	memset(&r.accept, 2, 1);
	bad_rule(&r);
	struct priv_request req = {.verb = PRIV_GROUP_ENSURE};
	send_bad(&req, NULL, 0);
	req.u.group.id = 1;
	req.u.group.n_rules = PRIV_RULES_MAX + 1;
	send_bad(&req, NULL, 0);
}

static void bad_uplink(const struct priv_uplink *uplink)
{
	struct priv_request req = {.verb = PRIV_UPLINK_ENSLAVE};
	req.u.uplink = *uplink;
	send_bad(&req, NULL, 0);
	req.verb = PRIV_UPLINK_RELEASE;
	send_bad(&req, NULL, 0);
}

static void test_uplinks_out_of_range(void **state)
{
	const struct priv_uplink uplink = {.slot = 1, .before.name = "eth0"};
	struct priv_uplink bad = uplink;

	bad.slot = 0;
	bad_uplink(&bad);
	bad = uplink;
	bad.timeout_s = PRIV_CONFIRM_MAX_S + 1;
	bad_uplink(&bad);
	bad = uplink;
	bad.before.n_addresses = NETCFG_UPLINK_ADDRS_MAX + 1;
	bad_uplink(&bad);
	bad.before.n_addresses = 1; /* of no family */
	bad_uplink(&bad);
	bad = uplink;
	bad.before.n_routes = NETCFG_UPLINK_ROUTES_MAX + 1;
	bad_uplink(&bad);
	bad.before.n_routes = 1;
	bad.before.routes[0].gateway.family = 77;
	bad_uplink(&bad);
	bad = uplink;
	memset(bad.before.name, 'x', sizeof(bad.before.name));
	bad_uplink(&bad);
	memcpy(bad.before.name, "vdi1n0", 7);
	bad_uplink(&bad);
}

static void test_out_of_range(void **state)
{
	const uint32_t address = htonl(0x0a010101);
	const struct {
		uint32_t verb;
		struct priv_network network;
	} networks[] = {
		{PRIV_BRIDGE_ENSURE, {0, PRIV_NETWORK_NAT, 24, address}},
		{PRIV_BRIDGE_ENSURE, {PRIV_SLOT_MAX + 1, PRIV_NETWORK_NAT, 24, address}},
		{PRIV_BRIDGE_ENSURE, {1, 0, 24, address}},
		{PRIV_BRIDGE_ENSURE, {1, 5, 24, address}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 7, address}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 31, address}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, 0}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0x7f000001)}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0xe0000001)}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0x0a010100)}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0x0a0101ff)}},
		{PRIV_DNSMASQ_SPAWN, {0, PRIV_NETWORK_NAT, 24, address}},
		{PRIV_BRIDGE_DELETE, {0, 0, 0, 0}},
		{PRIV_BRIDGE_DELETE, {PRIV_SLOT_MAX + 1, 0, 0, 0}},
		{PRIV_CGROUP_DELETE, {0, 0, 0, 0}},
	};
	const struct priv_tap taps[] = {
		{0, 0, 1},
		{PRIV_SLOT_MAX + 1, 0, 1},
		{1, QEMU_NICS_MAX, 1},
		{1, 0, 0},
		{1, 0, 1, .pid = 1, .start_time = 5},
		{1, 0, 1, .pid = -500, .start_time = 5},
		{1, 0, 1, .pid = 500},
	};
	const struct {
		uint32_t verb;
		struct priv_process process;
	} processes[] = {
		{PRIV_QEMU_SIGNAL, {1, 1, 5, SIGTERM}},
		{PRIV_QEMU_SIGNAL, {1, -1, 5, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {1, 0, 5, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {1, 500, 0, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {0, 500, 5, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {1, 500, 5, SIGHUP}},
		{PRIV_QEMU_SIGNAL, {1, 500, 5, 0}},
		{PRIV_QEMU_SIGNAL, {1, 500, 5, SIGSTOP}},
		{PRIV_IMG_SIGNAL, {1, 500, 5, SIGHUP}},
		{PRIV_DNSMASQ_SIGNAL, {1, 500, 5, SIGINT}},
		{PRIV_DNSMASQ_SIGNAL, {0, 500, 5, SIGHUP}},
		{PRIV_REAP, {1, 0, 5, 0}},
	};

	for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
		struct priv_request req = {.verb = networks[i].verb};
		req.u.network = networks[i].network;
		send_bad(&req, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
		struct priv_request req = {.verb = PRIV_TAP_CREATE};
		req.u.tap = taps[i];
		send_bad(&req, NULL, 0);
		req.verb = PRIV_TAP_ATTACH;
		send_bad(&req, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(processes); i++) {
		struct priv_request req = {.verb = processes[i].verb};
		req.u.process = processes[i].process;
		send_bad(&req, NULL, 0);
	}
}

/* a descriptor of the wrong kind at each place */
static void test_fd_kinds(void **state)
{
	struct guest guest;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	guest_setup(&guest);
	for (size_t i = 0; i < GUEST_FDS; i++) {
		int fds[GUEST_FDS];
		memcpy(fds, guest.fds, sizeof(fds));
		fds[i] = null;
		send_bad(&guest.req, fds, GUEST_FDS);
	}
	const struct {
		size_t place, with;
	} swaps[] = {
		{GUEST_TOP, GUEST_BASE},    /* read-only where QEMU writes */
		{GUEST_BASE, GUEST_TOP},    /* writable where it must not */
		{GUEST_CONSOLE, GUEST_TOP}, /* open both ways */
		{GUEST_QMP, GUEST_LOG},
	};
	for (size_t i = 0; i < ARRAY_LEN(swaps); i++) {
		int fds[GUEST_FDS];
		memcpy(fds, guest.fds, sizeof(fds));
		fds[swaps[i].place] = guest.fds[swaps[i].with];
		send_bad(&guest.req, fds, GUEST_FDS);
	}
	int with_tap[GUEST_FDS + 2];
	memcpy(with_tap, guest.fds, sizeof(guest.fds));
	with_tap[GUEST_FDS] = null;
	guest.req.u.qemu.nics[0].queues = 1;
	guest.req.u.qemu.nics[0].tap_fd[0] = GUEST_FDS;
	guest.req.n_fds = GUEST_FDS + 1;
	send_bad(&guest.req, with_tap, GUEST_FDS + 1);
	/* a tap is no vhost-net */
	with_tap[GUEST_FDS] = with_tap[GUEST_FDS + 1] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	guest.req.u.qemu.nics[0].vhost = 1;
	guest.req.u.qemu.nics[0].vhost_fd[0] = GUEST_FDS + 1;
	guest.req.n_fds = GUEST_FDS + 2;
	send_bad(&guest.req, with_tap, GUEST_FDS + 2);
	close(with_tap[GUEST_FDS]);
	guest_teardown(&guest);
	close(null);
}

/* @fork: a process of another uid that has nothing to do with us */
static pid_t start_stranger(uint64_t *ret_start)
{
	struct err err;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	assert_int_equal(proc_start_time(pid, ret_start, &err), 0);
	return pid;
}

static void test_strangers_live(void **state)
{
	static const uint32_t verbs[] = {PRIV_QEMU_SIGNAL, PRIV_IMG_SIGNAL, PRIV_DNSMASQ_SIGNAL};
	struct half half;
	uint64_t start;
	pid_t stranger;
	int status;

	if (getuid() != 0) {
		print_message("not root: all processes are of one uid\n");
		skip();
	}
	stranger = start_stranger(&start);
	open_half(&half);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		struct priv_request req = {.verb = verbs[i]};
		req.u.process = (struct priv_process){7, stranger, start, SIGKILL};
		assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, ERR_DENIED);
		/* the right pid of another time is a process that is gone */
		req.u.process.start_time++;
		assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	}
	assert_orderly(&half);
	assert_int_equal(waitpid(stranger, &status, WNOHANG), 0);
	kill(stranger, SIGKILL);
	waitpid(stranger, &status, 0);
}

/* spawned by one half, signalled by the next; another desktop's slot does not reach it */
static void test_qemu_outlives_half(void **state)
{
	struct guest guest;
	struct half half;
	int pidfd;

	guest_setup(&guest);
	open_half(&half);
	struct priv_reply spawned = ask(&half, &guest.req, guest.fds, GUEST_FDS, &pidfd);
	if (spawned.err.code)
		fail_msg("%s", spawned.err.msg);
	assert_orderly(&half);
	assert_true(proc_is_alive(pidfd));
	close(guest_qmp_connect(&guest));

	open_half(&half);
	struct priv_request req = {.verb = PRIV_QEMU_SIGNAL};
	req.u.process = (struct priv_process){8, spawned.pid, spawned.start_time, SIGTERM};
	if (getuid() == 0) {
		assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, ERR_DENIED);
		assert_true(proc_is_alive(pidfd));
	}
	req.u.process.slot = 7;
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	guest_await_end(pidfd);
	req.verb = PRIV_REAP;
	struct priv_reply reaped = ask(&half, &req, NULL, 0, NULL);
	assert_int_equal(reaped.err.code, 0);
	assert_int_equal(reaped.wait_status, -1);
	close(pidfd);
	assert_orderly(&half);
	guest_teardown(&guest);
}

/* nobody asks how it ended: it is no zombie after the next request all the same */
static void test_no_zombies(void **state)
{
	struct guest guest;
	struct half half;
	struct priv_request probe = {.verb = PRIV_PROBE};
	int pidfd;

	guest_setup(&guest);
	open_half(&half);
	struct priv_reply spawned = ask(&half, &guest.req, guest.fds, GUEST_FDS, &pidfd);
	assert_int_equal(spawned.err.code, 0);
	struct priv_request req = {.verb = PRIV_QEMU_SIGNAL};
	req.u.process = (struct priv_process){7, spawned.pid, spawned.start_time, SIGKILL};
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	guest_await_end(pidfd);
	close(pidfd);
	assert_int_equal(ask(&half, &probe, NULL, 0, NULL).err.code, 0);
	assert_int_equal(kill(spawned.pid, 0), -1);
	req.verb = PRIV_REAP;
	struct priv_reply reaped = ask(&half, &req, NULL, 0, NULL);
	assert_true(WIFSIGNALED(reaped.wait_status));
	assert_int_equal(WTERMSIG(reaped.wait_status), SIGKILL);
	assert_orderly(&half);
	guest_teardown(&guest);
}

/* a command in the server's network */
static int in_net(const struct half *half, const char *command)
{
	char line[512];
	snprintf(line, sizeof(line), "nsenter -t %d -n sh -c '%s' >/dev/null 2>&1", half->pid,
		 command);
	return system(line);
}

static struct priv_reply ask_network(struct half *half, uint32_t verb, int *ret_fd)
{
	struct priv_request req = {.verb = verb};
	req.u.network = (struct priv_network){7, PRIV_NETWORK_NAT, 24, htonl(0x0a630001)};
	struct priv_reply reply = ask(half, &req, NULL, 0, ret_fd);
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
	struct priv_reply reply = ask(half, &req, NULL, 0, &tap);
	assert_int_equal(reply.err.code, 0);
	assert_int_equal(reply.queues, queues);
	assert_int_equal(reply.n_fds, has_vhost ? 2 * queues : queues);
	assert_int_equal(reply.vhost_sys, has_vhost ? 0 : ENOENT);
	assert_int_equal(in_net(half, "ip -d link show vdi3n3 | grep -q multi_queue"), 0);
	close(tap);
	assert_int_not_equal(in_net(half, "ip link show vdi3n3"), 0);
}

static void test_network(void **state)
{
	struct half half;
	int tap, pidfd;
	char command[512];

	open_half(&half);
	if (!half.own_net || getuid() != 0) {
		print_message("no network of its own to be had\n");
		assert_orderly(&half);
		skip();
	}
	for (int i = 0; i < 2; i++)
		ask_network(&half, PRIV_BRIDGE_ENSURE, NULL);
	assert_int_equal(in_net(&half, "ip -4 addr show vdibr7 | grep -q 10.99.0.1/24"), 0);
	assert_int_equal(in_net(&half, "! command -v nft || nft list ruleset | grep -q vdibr7"), 0);

	/* what is opened to guests: seen to be missing, made, seen to be there */
	const uint32_t verbs[] = {PRIV_NETWORK_LOOK, PRIV_BRIDGE_ENSURE, PRIV_NETWORK_LOOK};
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		struct priv_request opened = {.verb = verbs[i]};
		opened.u.network = (struct priv_network){7, PRIV_NETWORK_NAT, 24, htonl(0x0a630001),
							 .n_openings = 1};
		opened.u.network.openings[0] = (struct netcfg_opening){NETCFG_TCP, 22, 22};
		struct priv_reply seen = ask(&half, &opened, NULL, 0, NULL);
		assert_int_equal(seen.err.code, 0);
		assert_int_equal(seen.missing, i == 0 ? PRIV_MISSING_FIREWALL : 0);
	}

	struct priv_request req = {.verb = PRIV_TAP_CREATE};
	req.u.tap = (struct priv_tap){3, 1, 7};
	struct priv_reply reply = ask(&half, &req, NULL, 0, &tap);
	assert_int_equal(reply.err.code, 0);
	assert_int_equal(in_net(&half, "ip link show vdi3n1 | grep -q vdibr7"), 0);
	assert_int_equal(reply.queues, 1);
	assert_int_equal(in_net(&half, "ip link set vdi3n1 nomaster"), 0);
	req.verb = PRIV_TAP_ATTACH;
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	assert_int_equal(in_net(&half, "ip link show vdi3n1 | grep -q vdibr7"), 0);
	ask_queues(&half, QEMU_QUEUES_MAX);
	req.verb = PRIV_TAP_CREATE;
	req.u.tap.network = 8;
	req.u.tap.nic = 2;
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, ERR_NOT_FOUND);

	snprintf(command, sizeof(command),
		 "mkdir -p %s/networks/7 && echo 52:54:00:00:00:01,10.99.0.5,guest "
		 ">%s/networks/7/hosts && chmod 755 %s && chown -R %d %s",
		 half.runtime_dir, half.runtime_dir, half.runtime_dir, DAEMON_UID,
		 half.runtime_dir);
	assert_int_equal(system(command), 0);
	struct priv_reply dnsmasq = ask_network(&half, PRIV_DNSMASQ_SPAWN, &pidfd);
	for (int i = 0; i < 500 && in_net(&half, "ss -lun | grep -q 10.99.0.1:53") != 0; i++)
		usleep(10000);
	assert_int_equal(in_net(&half, "ss -lun | grep -q vdibr7:67"), 0);
	assert_string_equal(guest_status(dnsmasq.pid, "Uid"), "300000\t300000\t300000\t300000");
	assert_string_equal(guest_status(dnsmasq.pid, "CapEff"), "0000000000003400");
	assert_string_equal(guest_status(dnsmasq.pid, "CapBnd"), "0000000000003400");
	req = (struct priv_request){.verb = PRIV_DNSMASQ_SIGNAL};
	req.u.process = (struct priv_process){7, dnsmasq.pid, dnsmasq.start_time, SIGHUP};
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	usleep(100000);
	assert_true(proc_is_alive(pidfd));
	req.u.process.sig = SIGTERM;
	assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
	guest_await_end(pidfd);
	close(pidfd);

	req = (struct priv_request){.verb = PRIV_TAP_DELETE};
	req.u.tap = (struct priv_tap){3, 1, 7};
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask(&half, &req, NULL, 0, NULL).err.code, 0);
		ask_network(&half, PRIV_BRIDGE_DELETE, NULL);
	}
	assert_int_not_equal(in_net(&half, "ip link show vdibr7"), 0);
	/* down since it was answered; gone when nobody had a wish for a while */
	for (int i = 0; i < 500 && in_net(&half, "ip link show vdi3n1") == 0; i++)
		usleep(10000);
	assert_int_not_equal(in_net(&half, "ip link show vdi3n1"), 0);
	assert_int_not_equal(in_net(&half, "command -v nft && nft list ruleset | grep -q vdibr7"),
			     0);
	close(tap);
	assert_orderly(&half);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe_and_end),
		cmocka_unit_test(test_wrong_sizes),
		cmocka_unit_test(test_filled),
		cmocka_unit_test(test_wrong_fd_counts),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_fd_kinds),
		cmocka_unit_test(test_networks_out_of_range),
		cmocka_unit_test(test_taps_and_rules_out_of_range),
		cmocka_unit_test(test_uplinks_out_of_range),
		cmocka_unit_test(test_strangers_live),
		cmocka_unit_test(test_qemu_outlives_half),
		cmocka_unit_test(test_no_zombies),
		cmocka_unit_test(test_network),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
