/* Networks' rules and port forwards with real connections: guests, the host, and one outside. */
#include "netcfg/forward.h"

#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/nic.h"
#include "netcfg/port.h"
#include "tests/unit/netcfg/guests.h"

#define HOST4    "192.0.2.1"
#define HOST6    "fd00:2::1"
#define OUTSIDE4 "192.0.2.2"
#define OUTSIDE6 "fd00:2::2"
#define BRIDGE4  "10.9.8.1"
#define BRIDGE6  "fd00:9::1"
#define ONE4     "10.9.8.10"
#define ONE6     "fd00:9::a"

struct world {
	struct netcfg *netcfg;
	struct guest one, two, outside;
	int web; /* TCP 80 of guest one */
	int far; /* TCP 80 outside */
	int own; /* TCP 53 and 22 of the host */
	int ssh;
};

static struct netcfg_firewall network(enum netcfg_firewall_kind kind)
{
	struct netcfg_firewall ret = {.bridge = "vdibr1", .kind = kind, .n_addresses = 2};
	ret.addresses[0] = netns_addr(BRIDGE4 "/24");
	ret.addresses[1] = netns_addr(BRIDGE6 "/64");
	return ret;
}

static struct world world_new(struct netcfg *netcfg, enum netcfg_firewall_kind kind)
{
	struct err err;
	struct world world = {.netcfg = netcfg};
	const struct netcfg_firewall rules = network(kind);
	struct netcfg_bridge bridge = {.n_addresses = 2};
	const struct netcfg_port port = {.isolated = false};
	memcpy(bridge.addresses, rules.addresses, sizeof(bridge.addresses));
	/* no second of waiting for twins before a link-local address may be used */
	netns_run(
		"ip link set lo up; for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do "
		"[ ! -e $f ] || echo 0 > $f; done; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad");
	assert_ok(netcfg_firewall_ensure(netcfg, &rules, &err));
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	world.one = guest_new("one");
	world.two = guest_new("two");
	world.outside = guest_new("outside");
	guest_link(&world.one, "vdi1n0", "52:54:00:00:00:0a", ONE4 "/24", ONE6 "/64");
	guest_link(&world.two, "vdi2n0", "52:54:00:00:00:0b", "10.9.8.11/24", "fd00:9::b/64");
	guest_link(&world.outside, "up0", "52:54:00:00:00:0c", OUTSIDE4 "/24", OUTSIDE6 "/64");
	assert_ok(netcfg_port_attach(netcfg, "vdi1n0", "vdibr1", &port, &err));
	assert_ok(netcfg_port_attach(netcfg, "vdi2n0", "vdibr1", &port, &err));
	netns_run("ip addr add " HOST4 "/24 dev up0; ip addr add " HOST6 "/64 dev up0 nodad");
	guest_run(&world.outside,
		  "ip route add 10.9.8.0/24 via " HOST4 "; ip route add fd00:9::/64 via " HOST6);
	for (int i = 0; kind != NETCFG_FIREWALL_ISOLATED && i < 2; i++)
		guest_run(i ? &world.one : &world.two, "ip route add default via " BRIDGE4
						       "; ip route add default via " BRIDGE6);
	world.web = guest_serves(&world.one, SOCK_STREAM, 80);
	world.far = guest_serves(&world.outside, SOCK_STREAM, 80);
	world.own = guest_serves(NULL, SOCK_STREAM, 53);
	world.ssh = guest_serves(NULL, SOCK_STREAM, 22);
	return world;
}

static void world_done(struct world *world)
{
	close(world->web);
	close(world->far);
	close(world->own);
	close(world->ssh);
	guest_done(&world->one);
	guest_done(&world->two);
	guest_done(&world->outside);
}

/* Who does @listener see, when @from asks for it? */
#define SEEN_AS(listener, from, address, port, who)                                                \
	do {                                                                                       \
		char peer_[INET6_ADDRSTRLEN];                                                      \
		assert_true(guest_reaches_soon(from, address, port));                              \
		guest_accepts(listener, peer_);                                                    \
		assert_string_equal(peer_, who);                                                   \
	} while (0)

static void host_is_closed(struct world *world)
{
	assert_true(guest_reaches_soon(&world->one, BRIDGE4, 53));
	assert_true(guest_reaches_soon(&world->one, BRIDGE6, 53));
	assert_false(guest_reaches(&world->one, BRIDGE4, 22));
	assert_false(guest_reaches(&world->one, BRIDGE6, 22));
	assert_false(guest_reaches(&world->one, HOST4, 22));
	assert_false(guest_reaches(&world->one, HOST4, 53));
	guest_run(&world->one, "busybox ping -qc1 -W1 " BRIDGE4 " >/dev/null");
	guest_run(&world->one, "busybox ping -qc1 -W1 " BRIDGE6 " >/dev/null");
	/* the host itself may ask guests, and those outside are none of our business */
	assert_true(guest_reaches_soon(NULL, ONE4, 80));
	assert_true(guest_reaches_soon(NULL, ONE6, 80));
	assert_true(guest_reaches_soon(&world->outside, HOST4, 22));
	/* guests among themselves */
	assert_true(guest_reaches_soon(&world->two, ONE4, 80));
	assert_true(guest_reaches_soon(&world->two, ONE6, 80));
	char peer[INET6_ADDRSTRLEN];
	do
		guest_accepts(world->web, peer);
	while (peer[0]);
}

static void test_nat(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	host_is_closed(&world);
	SEEN_AS(world.far, &world.one, OUTSIDE4, 80, HOST4);
	SEEN_AS(world.far, &world.one, OUTSIDE6, 80, HOST6);
	assert_false(guest_reaches(&world.outside, ONE4, 80));
	assert_false(guest_reaches(&world.outside, ONE6, 80));
	/* another's address gets nowhere */
	guest_run(&world.one, "ip addr add 10.77.0.1/32 dev lo; ip route replace " OUTSIDE4
			      " via " BRIDGE4 " src 10.77.0.1");
	assert_false(guest_reaches(&world.one, OUTSIDE4, 80));
	world_done(&world);
}

static void test_routed(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_ROUTED);
	host_is_closed(&world);
	SEEN_AS(world.far, &world.one, OUTSIDE4, 80, ONE4);
	SEEN_AS(world.far, &world.one, OUTSIDE6, 80, ONE6);
	SEEN_AS(world.web, &world.outside, ONE4, 80, OUTSIDE4);
	SEEN_AS(world.web, &world.outside, ONE6, 80, OUTSIDE6);
	/* nobody outside may claim to be one of them */
	guest_run(&world.outside, "ip addr add 10.9.8.77/32 dev lo; ip route replace 10.9.8.0/24 "
				  "via " HOST4 " src 10.9.8.77");
	assert_false(guest_reaches(&world.outside, ONE4, 80));
	world_done(&world);
}

static void test_isolated(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_ISOLATED);
	netns_run("echo 1 >/proc/sys/net/ipv4/ip_forward; "
		  "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
	guest_run(&world.one,
		  "ip route add default via " BRIDGE4 "; ip route add default via " BRIDGE6);
	host_is_closed(&world);
	assert_false(guest_reaches(&world.one, OUTSIDE4, 80));
	assert_false(guest_reaches(&world.one, OUTSIDE6, 80));
	assert_false(guest_reaches(&world.outside, ONE4, 80));
	assert_false(guest_reaches(&world.outside, ONE6, 80));
	world_done(&world);
}

/* Bridged: what others forward over that bridge goes on, and the host is as it was. */
static void test_bridged(void **state)
{
	struct err err;
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	struct netcfg_firewall rules = network(NETCFG_FIREWALL_BRIDGED);
	bool has = false;
	rules.n_addresses = 0;
	assert_ok(netcfg_firewall_ensure(world.netcfg, &rules, &err));
	assert_ok(netcfg_firewall_has(world.netcfg, &rules, &has, &err));
	assert_true(has);
	assert_true(guest_reaches_soon(&world.one, BRIDGE4, 22));
	assert_true(guest_reaches_soon(&world.outside, ONE4, 80));
	assert_true(guest_reaches_soon(&world.one, OUTSIDE4, 80));
	world_done(&world);
}

/* Does what one end of a connection says arrive at the other? */
static bool says(int from, int to)
{
	struct pollfd ready = {.fd = to, .events = POLLIN};
	char word[8];
	return send(from, "word", 4, MSG_NOSIGNAL) == 4 && poll(&ready, 1, GUEST_WAIT_MS) == 1 &&
	       recv(to, word, sizeof(word), 0) == 4;
}

static void test_openings(void **state)
{
	struct err err;
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	struct netcfg_firewall rules = network(NETCFG_FIREWALL_NAT);
	rules.openings[0] = (struct netcfg_opening){NETCFG_TCP, 20, 22};
	rules.n_openings = 1;
	assert_ok(netcfg_firewall_ensure(world.netcfg, &rules, &err));
	assert_true(guest_reaches_soon(&world.one, BRIDGE4, 22));
	assert_true(guest_reaches_soon(&world.one, BRIDGE6, 22));
	assert_false(guest_reaches(&world.one, BRIDGE4, 23));
	/* closed, also for what went through it; what the host asks for goes on */
	char peer[INET6_ADDRSTRLEN];
	guest_accepts(world.ssh, peer);
	guest_accepts(world.ssh, peer);
	_cleanup_close_ int open = guest_connects(&world.one, BRIDGE4, 22);
	_cleanup_close_ int served = accept(world.ssh, NULL, NULL);
	_cleanup_close_ int asks = guest_connects(NULL, ONE4, 80);
	_cleanup_close_ int answers = accept(world.web, NULL, NULL);
	assert_true(says(open, served));
	rules.n_openings = 0;
	assert_ok(netcfg_firewall_ensure(world.netcfg, &rules, &err));
	assert_false(guest_reaches(&world.one, BRIDGE4, 22));
	assert_false(says(open, served));
	assert_true(says(answers, asks));
	rules.n_openings = 1;
	rules.openings[0].protocol = NETCFG_ICMP;
	assert_err(netcfg_firewall_ensure(world.netcfg, &rules, &err), ERR_INVALID);
	rules.openings[0] = (struct netcfg_opening){NETCFG_TCP, 22, 20};
	assert_err(netcfg_firewall_ensure(world.netcfg, &rules, &err), ERR_INVALID);
	world_done(&world);
}

/* ---- port forwards ---- */

static struct netcfg_forward forward(enum netcfg_protocol protocol, const char *host,
				     unsigned int port, const char *guest, unsigned int guest_port)
{
	struct netcfg_forward ret = {.protocol = protocol,
				     .port_first = (uint16_t)port,
				     .port_last = (uint16_t)port,
				     .guest = netns_addr(guest),
				     .guest_port = (uint16_t)guest_port};
	if (host)
		ret.host = netns_addr(host);
	return ret;
}

static void forwards_work(struct world *world, const char *seen_outside)
{
	struct err err;
	const struct netcfg_forward all[] = {
		forward(NETCFG_TCP, HOST4, 8080, ONE4, 80),
		forward(NETCFG_TCP, NULL, 8081, ONE4, 80),
		forward(NETCFG_TCP, HOST6, 8080, ONE6, 80),
		forward(NETCFG_TCP, NULL, 8081, ONE6, 80),
		forward(NETCFG_UDP, NULL, 8080, ONE4, 81),
	};
	bool has = true;
	_cleanup_close_ int udp = guest_serves(&world->one, SOCK_DGRAM, 81);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_ok(netcfg_forward_has(world->netcfg, &all[i], &has, &err));
		assert_false(has);
		assert_ok(netcfg_forward_ensure(world->netcfg, &all[i], &err));
		assert_ok(netcfg_forward_ensure(world->netcfg, &all[i], &err));
		assert_ok(netcfg_forward_has(world->netcfg, &all[i], &has, &err));
		assert_true(has);
	}
	SEEN_AS(world->web, &world->outside, HOST4, 8080, seen_outside);
	SEEN_AS(world->web, &world->outside, HOST4, 8081, seen_outside);
	assert_true(guest_reaches_soon(&world->outside, HOST6, 8080));
	assert_true(guest_reaches_soon(&world->outside, HOST6, 8081));
	assert_true(guest_exchanges(&world->outside, HOST4, 8080, udp));
	assert_false(guest_reaches(&world->outside, HOST4, 8082));
	/* the host itself */
	assert_true(guest_reaches_soon(NULL, HOST4, 8080));
	assert_true(guest_reaches_soon(NULL, HOST6, 8081));
	assert_false(guest_reaches(NULL, "127.0.0.1", 8081));
	/* from the same network, where the answer has to come by the host */
	char peer[INET6_ADDRSTRLEN];
	do
		guest_accepts(world->web, peer);
	while (peer[0]);
	SEEN_AS(world->web, &world->two, BRIDGE4, 8081, BRIDGE4);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_ok(netcfg_forward_delete(world->netcfg, &all[i], &err));
		assert_ok(netcfg_forward_delete(world->netcfg, &all[i], &err));
		assert_ok(netcfg_forward_has(world->netcfg, &all[i], &has, &err));
		assert_false(has);
	}
	assert_false(guest_reaches(&world->outside, HOST4, 8080));
	assert_false(guest_reaches(&world->outside, HOST6, 8081));
}

static void test_forwards_into_nat(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	forwards_work(&world, OUTSIDE4);
	world_done(&world);
}

/* Where frames between ports pass the host's IP filters as well, all of it holds just so. */
static void test_with_br_netfilter(void **state)
{
	struct err err;
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	const struct netcfg_forward web = forward(NETCFG_TCP, NULL, 8080, ONE4, 80);
	if (access("/proc/sys/net/bridge/bridge-nf-call-iptables", F_OK) < 0)
		print_message("skipped: this kernel has no br_netfilter\n");
	else
		netns_run("for f in ip ip6; do "
			  "echo 1 > /proc/sys/net/bridge/bridge-nf-call-${f}tables; done");
	host_is_closed(&world);
	assert_ok(netcfg_forward_ensure(world.netcfg, &web, &err));
	assert_true(guest_reaches_soon(&world.two, BRIDGE4, 8080));
	assert_true(guest_reaches_soon(&world.outside, HOST4, 8080));
	assert_false(guest_reaches(&world.outside, ONE4, 80));
	world_done(&world);
}

/* A guest that knows no way out still answers: it is asked by the host. */
static void test_forwards_into_isolated(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_ISOLATED);
	forwards_work(&world, BRIDGE4);
	world_done(&world);
}

static void test_ranges_and_conflicts(void **state)
{
	struct err err;
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	struct netcfg_forward range = forward(NETCFG_TCP, HOST4, 8000, ONE4, 70);
	struct netcfg_forward other = forward(NETCFG_TCP, HOST4, 8015, "10.9.8.11", 80);
	bool has = true;
	range.port_last = 8019;
	assert_ok(netcfg_forward_ensure(world.netcfg, &range, &err));
	assert_true(guest_reaches_soon(&world.outside, HOST4, 8010));
	assert_false(guest_reaches(&world.outside, HOST4, 8011));
	assert_err(netcfg_forward_ensure(world.netcfg, &other, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "8015"));
	assert_ok(netcfg_forward_delete(world.netcfg, &other, &err));
	assert_ok(netcfg_forward_has(world.netcfg, &range, &has, &err));
	assert_true(has);
	/* one of them lost to another hand is put back */
	netns_run("nft delete element inet vdi-hostd redirect4 '{ " HOST4 " . tcp . 8010 }'");
	assert_ok(netcfg_forward_has(world.netcfg, &range, &has, &err));
	assert_false(has);
	assert_ok(netcfg_forward_ensure(world.netcfg, &range, &err));
	assert_true(guest_reaches_soon(&world.outside, HOST4, 8010));
	/* the network may be made again around them */
	const struct netcfg_firewall rules = network(NETCFG_FIREWALL_NAT);
	assert_ok(netcfg_firewall_ensure(world.netcfg, &rules, &err));
	assert_true(guest_reaches_soon(&world.outside, HOST4, 8010));
	assert_ok(netcfg_forward_delete(world.netcfg, &range, &err));
	assert_ok(netcfg_firewall_delete(world.netcfg, "vdibr1", &err));
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
	world_done(&world);
}

static void test_bad_forwards(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_forward good = forward(NETCFG_TCP, HOST4, 8000, ONE4, 80);
	struct netcfg_forward bad[] = {good, good, good, good, good, good};
	bad[0].protocol = NETCFG_ICMP;
	bad[1].port_first = 0;
	bad[2].port_last = 7999;
	bad[3].port_last = 8000 + NETCFG_FORWARD_PORTS_MAX;
	bad[4].guest = netns_addr(ONE6);
	bad[5].guest_port = 0;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_err(netcfg_forward_ensure(netcfg, &bad[i], &err), ERR_INVALID);
	struct netcfg_forward over = good;
	over.guest_port = 65535;
	over.port_last++;
	assert_err(netcfg_forward_ensure(netcfg, &over, &err), ERR_INVALID);
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

/* ---- living with others ---- */

static void test_beside_docker(void **state)
{
	struct err err;
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	const struct netcfg_forward web = forward(NETCFG_TCP, HOST4, 8080, ONE4, 80);
	assert_ok(netcfg_forward_ensure(world.netcfg, &web, &err));
	const char *const docker =
		"nft 'table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook "
		"forward priority 0; policy drop; jump DOCKER-USER; }; }'";
	netns_run(docker);
	/* no table can overrule another's drop: as documented, the administrator lets it pass */
	assert_false(guest_reaches(&world.one, OUTSIDE4, 80));
	netns_run("nft 'add rule ip filter DOCKER-USER iifname \"vdibr*\" accept; "
		  "add rule ip filter DOCKER-USER oifname \"vdibr*\" accept'");
	assert_true(guest_reaches_soon(&world.one, OUTSIDE4, 80));
	assert_true(guest_reaches_soon(&world.outside, HOST4, 8080));
	/* ours still guards */
	assert_false(guest_reaches(&world.outside, ONE4, 80));
	assert_false(guest_reaches(&world.one, BRIDGE4, 22));
	/* and is not touched when the others' are made anew */
	_cleanup_free_ char *before = netns_output("nft -s list table inet vdi-hostd");
	netns_run("nft flush table ip filter; nft delete table ip filter");
	netns_run(docker);
	netns_run("nft delete table ip filter");
	_cleanup_free_ char *after = netns_output("nft -s list table inet vdi-hostd");
	assert_string_equal(before, after);
	assert_true(guest_reaches_soon(&world.one, OUTSIDE4, 80));
	world_done(&world);
}

/* ---- one that means harm ---- */

/* The host counts by MACs, and knows by the NICs whose they are. */
static uint64_t dropped(struct world *world, const char *tap, enum netcfg_drop why)
{
	struct err err;
	struct netcfg_nic_drops drops;
	assert_ok(netcfg_nic_drops(world->netcfg, tap, &drops, &err));
	return drops.packets[why];
}

static void nics_make(struct world *world)
{
	struct err err;
	struct netcfg_nic nics[] = {{.tap = "vdi1n0", .any_address = true},
				    {.tap = "vdi2n0", .any_address = true}};
	for (size_t i = 0; i < 2; i++)
		memcpy(nics[i].mac, (uint8_t[]){0x52, 0x54, 0, 0, 0, (uint8_t)(0xa + i)}, 6);
	assert_ok(netcfg_nics_ensure(world->netcfg, nics, 2, &err));
}

/* A datagram to each of these ports: a connection each to whoever counts them. */
static void flood(const struct guest *guest, const char *address, unsigned int first,
		  unsigned int n)
{
	_cleanup_close_ int fd = guest_socket(guest, AF_INET, SOCK_DGRAM);
	for (unsigned int i = 0; i < n; i++) {
		struct sockaddr_storage there;
		const socklen_t size = endpoint_of(address, first + i, &there);
		/* what an answer said of an earlier one is told here */
		if (sendto(fd, "x", 1, 0, (struct sockaddr *)&there, size) < 0)
			errno = 0;
	}
}

static unsigned int connections(void)
{
	_cleanup_free_ char *text = netns_output("cat /proc/sys/net/netfilter/nf_conntrack_count");
	return (unsigned int)atoi(text);
}

static void test_flood_of_connections(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	nics_make(&world);
	int open = guest_connects(&world.one, OUTSIDE4, 80);
	assert_true(open >= 0);
	flood(&world.one, OUTSIDE4, 1, 5000);
	assert_in_range(dropped(&world, "vdi1n0", NETCFG_DROP_FLOOD_HOST), 1, 3000);
	/* the others' go on and begin, and its own */
	assert_int_equal(write(open, "more", 4), 4);
	for (int i = 0; i < 5; i++)
		assert_true(guest_reaches_soon(&world.two, OUTSIDE4, 80));
	assert_int_equal(dropped(&world, "vdi2n0", NETCFG_DROP_FLOOD_HOST), 0);
	assert_true(guest_reaches_soon(&world.one, OUTSIDE4, 80));
	/* slowly it gets no further: as if time had gone by, twice */
	for (unsigned int i = 0; i < 3; i++) {
		netns_run("nft flush set inet vdi-hostd begins");
		flood(&world.one, OUTSIDE4, 10000 + 5000 * i, 1900);
	}
	assert_in_range(connections(), 4000, 4096 + 200);
	assert_false(guest_reaches(&world.one, OUTSIDE4, 80));
	assert_true(guest_reaches_soon(&world.two, OUTSIDE4, 80));
	close(open);
	/* its counters go with it */
	struct err err;
	const char *const tap = "vdi1n0";
	assert_ok(netcfg_nics_delete(world.netcfg, &tap, 1, &err));
	assert_int_equal(dropped(&world, tap, NETCFG_DROP_FLOOD_HOST), 0);
	assert_false(netns_shows("nft list set inet vdi-hostd drops", "elements"));
	world_done(&world);
}

/* Also from one port, which is one connection: dnsmasq has to remember each of them. */
static void test_flood_of_questions(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_ISOLATED);
	nics_make(&world);
	_cleanup_close_ int names = guest_serves(NULL, SOCK_DGRAM, 53);
	assert_true(guest_exchanges(&world.one, BRIDGE4, 53, names));
	_cleanup_close_ int fd = guest_socket(&world.one, AF_INET, SOCK_DGRAM);
	struct sockaddr_storage there;
	const socklen_t size = endpoint_of(BRIDGE4, 53, &there);
	struct pollfd last = {.fd = names, .events = POLLIN};
	char word[8];
	unsigned int heard = 0;
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(sendto(fd, "ask", 3, 0, (struct sockaddr *)&there, size), 3);
		while (recv(names, word, sizeof(word), 0) > 0)
			heard++;
	}
	/* what was still on its way */
	while (poll(&last, 1, GUEST_WAIT_MS) == 1 && recv(names, word, sizeof(word), 0) > 0)
		heard++;
	assert_int_equal(dropped(&world, "vdi1n0", NETCFG_DROP_FLOOD_HOST), 3000 - heard);
	assert_in_range(heard, 900, 2900);
	assert_true(guest_exchanges(&world.two, BRIDGE4, 53, names));
	world_done(&world);
}

/* A connection that comes to its end. The kernel sees that it has within a tick of its clock. */
static void ask_over_tcp(struct world *world, const struct guest *guest, const char *address)
{
	char peer[INET6_ADDRSTRLEN];
	assert_true(guest_reaches_soon(guest, address, 53));
	guest_accepts(world->own, peer);
	poll(NULL, 0, 100);
}

/* A process of dnsmasq for each, and no more than 20: nobody has them all. */
static void test_names_over_tcp(void **state)
{
	enum { N = 4, MORE = 8 };
	static const char *const host[] = {BRIDGE4, BRIDGE6};
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	int held[N], ends[N];
	nics_make(&world);
	for (int i = 0; i < MORE; i++)
		ask_over_tcp(&world, &world.one, host[i % 2]);
	assert_int_equal(dropped(&world, "vdi1n0", NETCFG_DROP_FLOOD_HOST), 0);
	for (int i = 0; i < N; i++) {
		held[i] = guest_connects(&world.one, host[i % 2], 53);
		ends[i] = accept(world.own, NULL, NULL);
		assert_true(held[i] >= 0 && ends[i] >= 0);
	}
	for (int i = 0; i < MORE; i++)
		assert_false(guest_reaches(&world.one, host[i % 2], 53));
	assert_true(dropped(&world, "vdi1n0", NETCFG_DROP_FLOOD_HOST) >= MORE);
	/* those that it has go on, and so do others, and what it does elsewhere */
	for (int i = 0; i < N; i++)
		assert_int_equal(write(held[i], "more", 4), 4);
	for (int i = 0; i < MORE; i++)
		ask_over_tcp(&world, &world.two, host[i % 2]);
	assert_int_equal(dropped(&world, "vdi2n0", NETCFG_DROP_FLOOD_HOST), 0);
	assert_true(guest_reaches_soon(&world.one, OUTSIDE4, 80));
	/* one that is over makes room for another */
	close(held[0]);
	close(ends[0]);
	assert_true(guest_reaches_soon(&world.one, BRIDGE4, 53));
	for (int i = 1; i < N; i++) {
		close(held[i]);
		close(ends[i]);
	}
	world_done(&world);
}

/* By way of the host, which would pass it on: around isolated ports, or to nobody at all. */
static void test_detour(void **state)
{
	struct world world = world_new(*state, NETCFG_FIREWALL_NAT);
	nics_make(&world);
	assert_true(guest_reaches_soon(&world.two, ONE4, 80));
	assert_true(guest_reaches_soon(&world.two, ONE6, 80));
	guest_run(&world.two,
		  "for i in all eth0; do echo 0 >/proc/sys/net/ipv4/conf/$i/accept_redirects; "
		  "echo 0 >/proc/sys/net/ipv6/conf/$i/accept_redirects; done; "
		  "ip route add " ONE4 "/32 via " BRIDGE4 "; ip route add " ONE6 "/128 via " BRIDGE6
		  "; ip route add 10.9.8.128/25 via " BRIDGE4
		  "; ip route add fd00:9::8000:0/97 via " BRIDGE6);
	assert_false(guest_reaches(&world.two, ONE4, 80));
	assert_false(guest_reaches(&world.two, ONE6, 80));
	assert_true(dropped(&world, "vdi2n0", NETCFG_DROP_DETOUR) >= 2);
	/* the host does not even look for them */
	flood(&world.two, "10.9.8.200", 1, 3);
	assert_false(guest_reaches(&world.two, "fd00:9::8000:1", 80));
	assert_false(netns_shows("ip neigh show", "10.9.8.200"));
	assert_false(netns_shows("ip -6 neigh show nud incomplete", "8000:1"));
	assert_false(netns_shows("ip -6 neigh show nud failed", "8000:1"));
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_nat),
		netns_test(test_routed),
		netns_test(test_isolated),
		netns_test(test_bridged),
		netns_test(test_openings),
		netns_test(test_forwards_into_nat),
		netns_test(test_forwards_into_isolated),
		netns_test(test_with_br_netfilter),
		netns_test(test_ranges_and_conflicts),
		netns_test(test_bad_forwards),
		netns_test(test_beside_docker),
		netns_test(test_flood_of_connections),
		netns_test(test_flood_of_questions),
		netns_test(test_names_over_tcp),
		netns_test(test_detour),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
