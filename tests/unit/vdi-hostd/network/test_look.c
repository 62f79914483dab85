/*
 * A look tells each kind of difference, and only those that there are. Links are real ones, in a
 * network namespace; what only the privileged half sees is the fake one's.
 */
#include "bench.h"

#include <signal.h>

#include "vdi-hostd/network/private.h"

#define MAC "52:54:00:00:00:01"
#define BRIDGE                                                                                     \
	"ip link add vdibr1 address 02:00:00:00:00:07 type bridge && "                             \
	"ip link set vdibr1 mtu 1400 up && "                                                       \
	"ip addr add 10.99.7.1/24 dev vdibr1 && ip addr add fd00:99::1/64 dev vdibr1 nodad"
/* in a tap's place */
#define TAP                                                                                        \
	"ip link add vdi1n0 type veth peer name peer0 && ip link set peer0 up && "                 \
	"ip link set vdi1n0 mtu 1400 master vdibr1 up"

struct seen {
	json_t *json;
	struct err err;
	int answers;
};

static void on_seen(void *data, json_t *json, const struct err *err)
{
	struct seen *seen = data;
	seen->answers++;
	json_decref(seen->json);
	seen->json = json;
	seen->err = err ? *err : (struct err){0};
}

static json_t *look(struct bench *bench)
{
	struct seen seen = {.json = NULL};
	networks_look(bench->networks, "lan", on_seen, &seen);
	bench_until(bench, seen.answers == 1);
	if (!seen.json)
		fail_msg("%s", seen.err.msg);
	return seen.json;
}

/* The differences, one a line, are these. */
static void assert_differences(struct bench *bench, const char *wanted)
{
	json_t *json = look(bench), *list = json_object_get(json, "differences"), *one;
	char text[1024] = "";
	size_t i;
	json_array_foreach(list, i, one)
	{
		const size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "%s%s", i ? "\n" : "",
			 json_string_value(one));
	}
	json_decref(json);
	assert_string_equal(text, wanted);
}

static void make(struct bench *bench, const struct network_create *create)
{
	bench_make(bench, create);
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
}

static void on_forward(void *data, const struct db_forward *row, const struct err *err)
{
	bench_answer(data, NULL, err);
}

/* All is as wished: a network of both families, a desktop on it that runs, a port that leads there.
 */
static void make_lan(struct bench *bench)
{
	make(bench,
	     &(struct network_create){
		     .name = "lan", .cidr = "10.99.7.0/24", .cidr6 = "fd00:99::/64", .mtu = 1400});
	bench_run(BRIDGE);
	bench_run(TAP);
	bench->nics[0] = (struct nic){"ada", MAC, 0x0a630702};
	bench->n_nics = bench->n_taps = 1;
	const struct network_forward forward = {.network_id = bench->row.id,
						.mac = MAC,
						.protocol = DB_PROTOCOL_TCP,
						.host_port = 8080,
						.port = 80,
						.count = 1};
	networks_forward_add(bench->networks, &forward, on_forward, bench);
	bench_until(bench, bench->answers == 2);
	assert_int_equal(bench->err.code, 0);
	assert_differences(bench, "");
}

static void test_links(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *hand, *differences, *back;
	} rows[] = {
		{"ip link delete vdibr1",
		 "bridge vdibr1 is gone\ntap vdi1n0 is no port of bridge vdibr1",
		 BRIDGE " && ip link set vdi1n0 master vdibr1"},
		/* whose IPv6 address goes with it */
		{"ip link set vdibr1 down",
		 "bridge vdibr1 is down\nbridge vdibr1 lacks its address fd00:99::1/64",
		 "ip link set vdibr1 up && ip addr add fd00:99::1/64 dev vdibr1 nodad"},
		{"ip link set vdibr1 mtu 1300", "bridge vdibr1 has an MTU of 1300, not 1400",
		 "ip link set vdibr1 mtu 1400"},
		{"ip addr add 10.123.0.1/24 dev vdibr1",
		 "bridge vdibr1 has the address 10.123.0.1/24, which is not its own",
		 "ip addr del 10.123.0.1/24 dev vdibr1"},
		{"ip addr add fd00:77::1/64 dev vdibr1 nodad",
		 "bridge vdibr1 has the address fd00:77::1/64, which is not its own",
		 "ip addr del fd00:77::1/64 dev vdibr1"},
		{"ip addr del 10.99.7.1/24 dev vdibr1",
		 "bridge vdibr1 lacks its address 10.99.7.1/24",
		 "ip addr add 10.99.7.1/24 dev vdibr1"},
		{"ip addr del fd00:99::1/64 dev vdibr1",
		 "bridge vdibr1 lacks its address fd00:99::1/64",
		 "ip addr add fd00:99::1/64 dev vdibr1 nodad"},
		/* the same address, of another range */
		{"ip addr del 10.99.7.1/24 dev vdibr1 && ip addr add 10.99.7.1/16 dev vdibr1",
		 "bridge vdibr1 has the address 10.99.7.1/16, which is not its own\n"
		 "bridge vdibr1 lacks its address 10.99.7.1/24",
		 "ip addr del 10.99.7.1/16 dev vdibr1 && ip addr add 10.99.7.1/24 dev vdibr1"},
		{"ip link set vdi1n0 nomaster", "tap vdi1n0 is no port of bridge vdibr1",
		 "ip link set vdi1n0 master vdibr1"},
		{"ip link add br9 type bridge && ip link set vdi1n0 master br9",
		 "tap vdi1n0 is no port of bridge vdibr1",
		 "ip link set vdi1n0 master vdibr1 && ip link delete br9"},
		{"ip link set vdi1n0 down", "tap vdi1n0 is down", "ip link set vdi1n0 up"},
		{"bridge link set dev vdi1n0 isolated on", "tap vdi1n0 is isolated from others",
		 "bridge link set dev vdi1n0 isolated off"},
		{"ip link set vdi1n0 mtu 1300", "tap vdi1n0 has an MTU of 1300, not 1400",
		 "ip link set vdi1n0 mtu 1400"},
		{"ip link delete vdi1n0", "tap vdi1n0 is gone", TAP},
		{"ip link delete vdibr1 && ip link add vdibr1 type veth peer name peer1 && "
		 "ip link set vdibr1 mtu 1400 up && ip link set peer1 up && "
		 "ip addr add 10.99.7.1/24 dev vdibr1 && "
		 "ip addr add fd00:99::1/64 dev vdibr1 nodad",
		 "link vdibr1 is no bridge\ntap vdi1n0 is no port of bridge vdibr1",
		 "ip link delete vdibr1 && " BRIDGE " && ip link set vdi1n0 master vdibr1"},
	};
	make_lan(bench);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bench_run(rows[i].hand);
		assert_differences(bench, rows[i].differences);
		bench_run(rows[i].back);
		assert_differences(bench, "");
	}
}

/* A desktop that is stopped has no tap any more before its QEMU is gone. */
static void test_tap_that_ends(void **state)
{
	struct bench *bench = *state;
	make_lan(bench);
	bench_run("ip link delete vdi1n0");
	assert_differences(bench, "tap vdi1n0 is gone");
	bench->nics[0].ending = true;
	assert_differences(bench, "");
	/* while it is there it is what it is */
	bench_run(TAP);
	bench_run("ip link set vdi1n0 nomaster");
	assert_differences(bench, "tap vdi1n0 is no port of bridge vdibr1");
}

static void test_isolated_ports(void **state)
{
	struct bench *bench = *state;
	make(bench, &(struct network_create){
			    .name = "lan", .cidr = "10.99.7.0/24", .isolate_ports = true});
	bench_run("ip link add vdibr1 type bridge && ip link set vdibr1 up && "
		  "ip addr add 10.99.7.1/24 dev vdibr1");
	bench_run(TAP);
	bench->nics[0] = (struct nic){"ada", MAC, 0x0a630702};
	bench->n_nics = bench->n_taps = 1;
	assert_differences(bench, "tap vdi1n0 is not isolated from others");
	/* without an MTU wished for, whatever there is will do */
	bench_run("bridge link set dev vdi1n0 isolated on && ip link set vdibr1 mtu 1280");
	assert_differences(bench, "");
}

static void test_what_the_other_half_sees(void **state)
{
	struct bench *bench = *state;
	static const struct {
		enum priv_verb verb;
		const char *differences;
	} rows[] = {
		{PRIV_NETWORK_LOOK,
		 "the firewall's rules of the network are gone, or not as they should be\n"
		 "bridge vdibr1 has the MAC 02:00:00:00:00:07, which is not its own"},
		{PRIV_TAP_LOOK,
		 "tap vdi1n0 is not guarded against false addresses as it should be"},
		{PRIV_FORWARD_LOOK, "IPv4: port 8080 of the host does not lead to its desktop\n"
				    "IPv6: port 8080 of the host does not lead to its desktop"},
	};
	make_lan(bench);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bench->fake.misses = rows[i].verb;
		assert_differences(bench, rows[i].differences);
		bench->fake.misses = 0;
		/* one that cannot be answered is none that is fine */
		bench->fake.fail = rows[i].verb;
		bench->fake.once = true;
		assert_differences(bench, "the firewall cannot be seen: told to fail");
		assert_differences(bench, "");
	}
	/* of one family */
	for (size_t i = 0; i < bench->fake.n_forwards; i++)
		if (bench->fake.forwards[i].guest.family == AF_INET6)
			bench->fake.forwards[i].guest_port++;
	assert_differences(bench, "IPv6: port 8080 of the host does not lead to its desktop");
	/* whoever looks takes nothing for put back that is not */
	assert_differences(bench, "IPv6: port 8080 of the host does not lead to its desktop");
}

static void test_dnsmasq(void **state)
{
	struct bench *bench = *state;
	make_lan(bench);
	bench->fake.fail = PRIV_DNSMASQ_SPAWN;
	kill(bench->fake.spawned, SIGKILL);
	bench_until(bench, bench_is_state(bench, "degraded"));
	assert_differences(bench, "dnsmasq does not run");
	bench->fake.fail = 0;
	bench_until(bench, bench_is_state(bench, "active"));
	assert_differences(bench, "");
}

#define FDB(verb, peer) "bridge fdb " verb " 00:00:00:00:00:00 dev vdivx1 dst " peer

static void test_vxlan(void **state)
{
	struct bench *bench = *state;
	json_t *peers = json_pack("[s, s, s]", "192.0.2.22", "10.0.2.3", "110.0.2.3");
	make(bench, &(struct network_create){.name = "lan",
					     .kind = DB_NETWORK_ISOLATED,
					     .cidr = "10.99.7.0/24",
					     .vni = 77,
					     .underlay = "192.0.2.1",
					     .peers = peers});
	json_decref(peers);
	bench_run("ip link add vdibr1 type bridge && ip link set vdibr1 up && "
		  "ip addr add 10.99.7.1/24 dev vdibr1");
	assert_differences(bench, "VXLAN vdivx1 is gone");
	bench_run("ip link add vdivx1 type vxlan id 77 local 192.0.2.1 dstport 4789 nolearning && "
		  "ip link set vdivx1 master vdibr1 up && " FDB("append", "192.0.2.22") " && " FDB(
			  "append", "10.0.2.3") " && " FDB("append", "110.0.2.3"));
	assert_differences(bench, "");
	/* of two, one is the end of the other; then one the begin */
	bench_run(FDB("del", "10.0.2.3"));
	assert_differences(bench, "VXLAN vdivx1 lacks the peer 10.0.2.3");
	bench_run(FDB("append", "10.0.2.3") " && " FDB("append", "192.0.2.2"));
	assert_differences(bench, "VXLAN vdivx1 has the peer 192.0.2.2, which is none");
	bench_run(FDB("del", "192.0.2.2") " && ip link set vdivx1 nomaster");
	assert_differences(bench, "VXLAN vdivx1 is no port of bridge vdibr1");
}

static void test_uplink(void **state)
{
	struct bench *bench = *state;
	bench_run("ip link add up0 type veth peer name up1 && ip link set up0 up && "
		  "ip link set up1 up");
	make(bench, &(struct network_create){.name = "lan",
					     .kind = DB_NETWORK_BRIDGED,
					     .uplink = "up0",
					     .confirm_timeout_s = 3600});
	bench_run("ip link add vdibr1 type bridge && ip link set vdibr1 up && "
		  "ip link set up0 master vdibr1");
	assert_differences(bench, "");
	/* addresses there are the host's business */
	bench_run("ip addr add 10.123.0.1/24 dev vdibr1");
	assert_differences(bench, "");
	bench_run("ip link set up0 down");
	assert_differences(bench, "uplink up0 is down");
	bench_run("ip link set up0 up nomaster");
	assert_differences(bench, "uplink up0 is no port of bridge vdibr1");
	bench_run("ip link delete up0");
	assert_differences(bench, "uplink up0 is gone");
}

/* A bridge that is the uplink stays what it is, and what leads to it is looked at. */
static void test_uplink_that_is_a_bridge(void **state)
{
	struct bench *bench = *state;
	bench_run("ip link add br0 type bridge && ip link set br0 up");
	make(bench,
	     &(struct network_create){.name = "lan", .kind = DB_NETWORK_BRIDGED, .uplink = "br0"});
	bench_run("ip link add vdibr1 type bridge && ip link set vdibr1 up && "
		  "ip link add vdiup1 type veth peer name vdidn1 && "
		  "ip link set vdiup1 master vdibr1 up && ip link set vdidn1 master br0 up");
	assert_differences(bench, "");
	bench_run("ip link set vdiup1 nomaster");
	assert_differences(bench, "veth vdiup1 is no port of bridge vdibr1");
	bench_run("ip link set vdiup1 master vdibr1 && ip link set vdidn1 master vdibr1");
	assert_differences(bench, "veth vdidn1 is no port of bridge br0");
	bench_run("ip link set vdidn1 master br0 down");
	assert_differences(bench, "veth vdidn1 is down");
	bench_run("ip link set vdidn1 up && ip link set br0 down");
	assert_differences(bench, "uplink br0 is down");
	bench_run("ip link set br0 up && ip link set vdibr1 mtu 1400 && ip link set vdiup1 mtu "
		  "1500");
	assert_differences(bench, "veths vdiup1 and vdidn1 do not have the MTU of their bridges");
	bench_run("ip link set vdibr1 mtu 1500 && ip link set br0 mtu 1400");
	assert_differences(bench, "veths vdiup1 and vdidn1 do not have the MTU of their bridges");
	bench_run("ip link set vdidn1 mtu 1400");
	assert_differences(bench, "");
	bench_run("ip link delete vdidn1");
	assert_differences(bench, "veth vdiup1 is gone");
	bench_run("ip link add vdiup1 type veth peer name odd1 && ip link set vdiup1 master vdibr1 "
		  "up && ip link add vdidn1 mtu 1400 type veth peer name odd2 && "
		  "ip link set vdidn1 master br0 up");
	assert_differences(bench, "veths vdiup1 and vdidn1 are not each other's ends");
	bench_run("ip link delete br0");
	assert_differences(bench, "uplink br0 is gone");
}

static void test_what_is_shown(void **state)
{
	struct bench *bench = *state;
	make_lan(bench);
	json_t *json = look(bench), *actual = json_object_get(json, "actual"), *port;
	assert_string_equal(json_string_value(json_object_get(json, "name")), "lan");
	assert_true(json_is_true(json_object_get(actual, "exists")));
	assert_true(json_is_true(json_object_get(actual, "up")));
	assert_int_equal(json_integer_value(json_object_get(actual, "mtu")), 1400);
	assert_string_equal(json_string_value(json_object_get(actual, "mac")), "02:00:00:00:00:07");
	assert_int_equal(json_array_size(json_object_get(actual, "ports")), 1);
	port = json_array_get(json_object_get(actual, "ports"), 0);
	assert_string_equal(json_string_value(json_object_get(port, "name")), "vdi1n0");
	assert_true(json_is_false(json_object_get(port, "isolated")));
	assert_true(
		json_is_integer(json_object_get(json_object_get(port, "counters"), "rx_bytes")));
	json_decref(json);
	bench_run("ip link delete vdibr1");
	json = look(bench);
	assert_true(json_is_false(json_object_get(json_object_get(json, "actual"), "exists")));
	json_decref(json);
	/* one of kind user has nothing in the kernel */
	bench_delete(bench, "lan", NULL);
	make(bench, &(struct network_create){.name = "lan", .kind = DB_NETWORK_USER});
	bench->n_nics = bench->n_taps = 0;
	assert_differences(bench, "");
}

/* Several look at once; the network goes before one of them is answered. */
static void test_it_goes_meanwhile(void **state)
{
	struct bench *bench = *state;
	struct seen one = {.json = NULL}, two = {.json = NULL}, none = {.json = NULL};
	make_lan(bench);
	networks_look(bench->networks, "lan", on_seen, &one);
	networks_look(bench->networks, "lan", on_seen, &two);
	bench_until(bench, one.answers == 1 && two.answers == 1);
	assert_true(json_equal(json_object_get(one.json, "differences"),
			       json_object_get(two.json, "differences")));
	bench->fake.silent = PRIV_NETWORK_LOOK;
	networks_look(bench->networks, "lan", on_seen, &one);
	networks_look(bench->networks, "lan", on_seen, &two);
	bench->n_nics = bench->n_taps = 0;
	bench_delete(bench, "lan", NULL);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(one.answers, 2);
	assert_int_equal(one.err.code, ERR_NOT_FOUND);
	assert_int_equal(two.answers, 2);
	assert_int_equal(two.err.code, ERR_NOT_FOUND);
	networks_look(bench->networks, "lan", on_seen, &none);
	assert_int_equal(none.err.code, ERR_NOT_FOUND);
	assert_null(one.json);
	assert_null(two.json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench_apart(test_links),
		with_bench_apart(test_tap_that_ends),
		with_bench_apart(test_isolated_ports),
		with_bench_apart(test_what_the_other_half_sees),
		with_bench_apart(test_dnsmasq),
		with_bench_apart(test_vxlan),
		with_bench_apart(test_uplink),
		with_bench_apart(test_uplink_that_is_a_bridge),
		with_bench_apart(test_what_is_shown),
		with_bench_apart(test_it_goes_meanwhile),
	};
	bench_require_namespaces();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
