#include "netcfg/vlan.h"

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/port.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/frames.h"

static bool have_vlan(void)
{
	netns_run("ip link add probe0 type veth peer name probe1");
	const bool have =
		system("ip link add link probe0 name probe2 type vlan id 2 2>/dev/null") == 0;
	netns_run("ip link del dev probe0");
	return have;
}

static bool have_filtering(void)
{
	return system("ip link add probe0 type bridge vlan_filtering 1 2>/dev/null && "
		      "ip link del dev probe0") == 0;
}

#define VLAN_DEVICES "802.1Q devices (CONFIG_VLAN_8021Q)"

#define SKIP_WITHOUT(have, what)                                                                   \
	do {                                                                                       \
		if (!(have)) {                                                                     \
			print_message("skipped: this kernel has no " what "\n");                   \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static void test_bad_input(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	netns_run("ip link add up0 type veth peer name up1");
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 0, &err), ERR_INVALID);
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 4095, &err), ERR_INVALID);
	assert_err(netcfg_vlan_ensure(netcfg, "up0.5", "up0", 5, &err), ERR_INVALID);
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up/0", 5, &err), ERR_INVALID);
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up7", 5, &err), ERR_NOT_FOUND);
	assert_err(netcfg_vlan_ensure(netcfg, "up1", "up0", 5, &err), ERR_CONFLICT);
	assert_err(netcfg_vlan_delete(netcfg, "up1", &err), ERR_CONFLICT);
	assert_ok(netcfg_vlan_delete(netcfg, "vdivlan1", &err));
}

static void test_refused_where_missing(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there = true;
	const struct netcfg_bridge bridge = {.vlan_filtering = true};
	netns_run("ip link add up0 type veth peer name up1");
	if (!have_vlan()) {
		assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err), ERR_UNSUPPORTED);
		assert_non_null(strstr(err.msg, "802.1Q"));
		assert_ok(netcfg_link_exists(netcfg, "vdivlan1", &there, &err));
		assert_false(there);
	}
	if (!have_filtering()) {
		assert_err(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err), ERR_UNSUPPORTED);
		assert_non_null(strstr(err.msg, "VLAN filtering"));
		const struct netcfg_bridge plain = {.vlan_filtering = false};
		const struct netcfg_port port = {.pvid = 5};
		assert_ok(netcfg_bridge_ensure(netcfg, "vdibr2", &plain, &err));
		assert_err(netcfg_port_attach(netcfg, "up0", "vdibr2", &port, &err),
			   ERR_UNSUPPORTED);
	}
}

static void test_sub_interface(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link, again;
	SKIP_WITHOUT(have_vlan(), VLAN_DEVICES);
	netns_run("ip link add up0 type veth peer name up1; ip link set up0 up");
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &link, &err));
	assert_int_equal(link.vlan, 5);
	assert_true(link.up);
	assert_false(netns_shows("ip addr show vdivlan1", "inet6"));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &again, &err));
	assert_int_equal(again.index, link.index);
	/* another tag, another uplink */
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 4094, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &again, &err));
	assert_int_equal(again.vlan, 4094);
	netns_run("ip link set up1 up");
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up1", 4094, &err));
	assert_ok(netcfg_link_get(netcfg, "up1", &link, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &again, &err));
	assert_int_equal(again.lower, link.index);
	/* by somebody's hand */
	netns_run("ip link set vdivlan1 down");
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up1", 4094, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &again, &err));
	assert_true(again.up);
	assert_ok(netcfg_vlan_delete(netcfg, "vdivlan1", &err));
	assert_err(netcfg_link_get(netcfg, "vdivlan1", &again, &err), ERR_NOT_FOUND);
}

static void test_vlan_of_another_name(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	bool there = true;
	SKIP_WITHOUT(have_vlan(), VLAN_DEVICES);
	netns_run(
		"ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; "
		"ip link add link up0 name office type vlan id 5");
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "up0 has VLAN 5 already, as link office"));
	assert_ok(netcfg_link_exists(netcfg, "vdivlan1", &there, &err));
	assert_false(there);
	/* the same tag on another uplink, or another one, is no matter */
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up1", 5, &err));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan2", "up0", 6, &err));
	assert_ok(netcfg_link_get(netcfg, "office", &link, &err));
	assert_int_equal(link.vlan, 5);
}

static void test_uplink_goes_and_comes(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	bool there = true;
	SKIP_WITHOUT(have_vlan(), VLAN_DEVICES);
	netns_run("ip link add up0 type veth peer name up1");
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "ip link set up0 up"));
	netns_run("ip link set up0 up");
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err));
	/* the kernel itself */
	netns_run("ip link set up0 down");
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &link, &err));
	assert_false(link.up);
	netns_run("ip link set up0 up");
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &link, &err));
	assert_true(link.up);
	netns_run("ip link del dev up0");
	assert_ok(netcfg_link_exists(netcfg, "vdivlan1", &there, &err));
	assert_false(there);
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err), ERR_NOT_FOUND);
	assert_ok(netcfg_vlan_delete(netcfg, "vdivlan1", &err));
}

/* ---- with frames ---- */

#define HEARD_MS 2000 /* for what has to come, on the slowest of machines */

struct wire {
	int a, b, c; /* taps: on the bridge of VLAN 7, of VLAN 8, of the uplink itself */
	int out;     /* what is at the uplink's other end reads and writes */
};

static int tap_on(struct netcfg *netcfg, const char *name, const char *bridge)
{
	struct err err;
	const struct netcfg_tap tap = {.bridge = bridge};
	int fd = -1;
	assert_ok(netcfg_tap_create(netcfg, name, &tap, &fd, &err));
	return fd;
}

/* A tap at the far end of the veth shows frames as they are on the wire, with their tags. */
static struct wire wire_new(struct netcfg *netcfg)
{
	static const char *const bridges[] = {"vdibr1", "vdibr2", "vdibr3", "far"};
	struct err err;
	const struct netcfg_bridge bridge = {.mtu = 1500};
	const struct netcfg_port port = {.isolated = false};
	netns_run("ip link add up0 type veth peer name up1; ip link set up0 up");
	for (size_t i = 0; i < ARRAY_LEN(bridges); i++)
		assert_ok(netcfg_bridge_ensure(netcfg, bridges[i], &bridge, &err));
	assert_ok(netcfg_port_attach(netcfg, "up1", "far", &port, &err));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 7, &err));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan2", "up0", 8, &err));
	assert_ok(netcfg_port_attach(netcfg, "vdivlan1", "vdibr1", &port, &err));
	assert_ok(netcfg_port_attach(netcfg, "vdivlan2", "vdibr2", &port, &err));
	return (struct wire){.a = tap_on(netcfg, "vdi1n0", "vdibr1"),
			     .b = tap_on(netcfg, "vdi2n0", "vdibr2"),
			     .c = tap_on(netcfg, "vdi3n0", "vdibr3"),
			     .out = tap_on(netcfg, "fartap", "far")};
}

static void wire_done(const struct wire *wire)
{
	close(wire->a);
	close(wire->b);
	close(wire->c);
	close(wire->out);
}

static struct frame frame_number(unsigned int number)
{
	return frame_udp(mac_all, mac_a, "10.9.8.1", number, "10.9.8.255", number);
}

static void test_tags_on_the_wire(void **state)
{
	struct frame plain = frame_number(1), tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	SKIP_WITHOUT(have_vlan(), VLAN_DEVICES);
	struct wire wire = wire_new(*state);
	assert_true(frame_passes_soon(wire.a, &plain, wire.out, &tagged));
	/* a number each, so that no frame is taken for another */
	for (unsigned int tag = 7; tag <= 8; tag++) {
		const int own = tag == 7 ? wire.a : wire.b, other = tag == 7 ? wire.b : wire.a;
		plain = frame_number(tag);
		tagged = frame_tagged(&plain, ETH_P_8021Q, tag);
		frame_send(own, &plain);
		assert_true(frame_heard(wire.out, &tagged, HEARD_MS));
		assert_false(frame_heard(other, &plain, 30));
		plain = frame_number(tag + 10);
		tagged = frame_tagged(&plain, ETH_P_8021Q, tag);
		frame_send(wire.out, &tagged);
		assert_true(frame_heard(own, &plain, HEARD_MS));
		assert_false(frame_heard(other, &plain, 30));
	}
	/* untagged, and of a VLAN that nobody has */
	plain = frame_number(30);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 9);
	frame_send(wire.out, &plain);
	frame_send(wire.out, &tagged);
	assert_false(frame_heard(wire.a, &plain, 30));
	assert_false(frame_heard(wire.b, &plain, 30));
	wire_done(&wire);
}

/* One network without a VLAN on the uplink and one with: both have what is theirs. */
static void test_uplink_that_is_a_port(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_port port = {.isolated = false};
	struct frame plain = frame_number(1), tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	SKIP_WITHOUT(have_vlan(), VLAN_DEVICES);
	struct wire wire = wire_new(netcfg);
	assert_ok(netcfg_port_attach(netcfg, "up0", "vdibr3", &port, &err));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 7, &err));
	assert_true(frame_passes_soon(wire.a, &plain, wire.out, &tagged));
	assert_false(frame_heard(wire.c, &plain, 30));
	plain = frame_number(2);
	assert_true(frame_passes_soon(wire.c, &plain, wire.out, &plain));
	assert_false(frame_heard(wire.a, &plain, 30));
	plain = frame_number(3);
	frame_send(wire.out, &plain);
	assert_true(frame_heard(wire.c, &plain, HEARD_MS));
	assert_false(frame_heard(wire.a, &plain, 30));
	plain = frame_number(4);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	frame_send(wire.out, &tagged);
	assert_true(frame_heard(wire.a, &plain, HEARD_MS));
	assert_false(frame_heard(wire.c, &plain, 30));
	/* and once more when it is no port any longer */
	assert_ok(netcfg_port_detach(netcfg, "up0", &err));
	plain = frame_number(5);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	assert_true(frame_passes_soon(wire.out, &tagged, wire.a, &plain));
	wire_done(&wire);
}

/* Two guests in two VLANs of one bridge do not meet; on a trunk they are told apart. */
static void test_filtering(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	SKIP_WITHOUT(have_filtering(), "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
	const struct netcfg_bridge bridge = {.vlan_filtering = true};
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.pvid = 5}};
	int a, b, trunk;
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, &a, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi2n0", &tap, &b, &err));
	tap.port.trunk = true;
	assert_ok(netcfg_tap_create(netcfg, "vdi3n0", &tap, &trunk, &err));
	tap.port.pvid = 6;
	assert_ok(netcfg_tap_attach(netcfg, "vdi3n0", &tap, &err));
	struct frame plain = frame_number(1), tagged = frame_tagged(&plain, ETH_P_8021Q, 5);
	assert_true(frame_passes_soon(a, &plain, b, &plain));
	assert_true(frame_heard(trunk, &tagged, HEARD_MS));

	/* b into another: it hears nothing of what it was in before */
	tap.port = (struct netcfg_port){.pvid = 6};
	assert_ok(netcfg_tap_attach(netcfg, "vdi2n0", &tap, &err));
	plain = frame_number(2);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 5);
	frame_send(a, &plain);
	assert_true(frame_heard(trunk, &tagged, HEARD_MS));
	assert_false(frame_heard(b, &plain, 30));
	plain = frame_number(3);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 6);
	frame_send(b, &plain);
	assert_true(frame_heard(trunk, &tagged, HEARD_MS));
	assert_false(frame_heard(a, &plain, 30));

	/* from the trunk to whom it is for; without a tag to nobody */
	plain = frame_number(4);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 6);
	frame_send(trunk, &tagged);
	assert_true(frame_heard(b, &plain, HEARD_MS));
	assert_false(frame_heard(a, &plain, 30));
	plain = frame_number(5);
	frame_send(trunk, &plain);
	assert_false(frame_heard(b, &plain, 30));
	assert_false(frame_heard(a, &plain, 30));

	/* a guest that tags its frames itself does not get into another's VLAN */
	plain = frame_number(6);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 6);
	frame_send(a, &tagged);
	assert_false(frame_heard(b, &plain, 30));
	assert_false(frame_heard(trunk, &tagged, 30));
	close(a);
	close(b);
	close(trunk);
}

/* The ends of the range, and a trunk that is made a guest's port. */
static void test_filtering_leaves_one_vlan(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	static const uint16_t pvids[] = {1, 4094, 2};
	SKIP_WITHOUT(have_filtering(), "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
	const struct netcfg_bridge bridge = {.vlan_filtering = true};
	struct netcfg_port port = {.trunk = true};
	netns_run("ip link add up0 type veth peer name up1");
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	for (port.pvid = 1; port.pvid <= 3; port.pvid++)
		assert_ok(netcfg_port_attach(netcfg, "up0", "vdibr1", &port, &err));
	_cleanup_free_ char *trunk =
		netns_output("bridge -c=never -compressvlans vlan show dev up0");
	assert_non_null(strstr(trunk, "2-3"));
	assert_null(strstr(trunk, "PVID"));
	port.trunk = false;
	for (size_t i = 0; i < ARRAY_LEN(pvids); i++) {
		char want[64];
		port.pvid = pvids[i];
		assert_ok(netcfg_port_attach(netcfg, "up0", "vdibr1", &port, &err));
		_cleanup_free_ char *text = netns_output("bridge -j vlan show dev up0");
		snprintf(want, sizeof(want), "\"vlans\":[{\"vlan\":%u,", port.pvid);
		assert_non_null(strstr(text, want));
		assert_non_null(strstr(text, "\"PVID\",\"Egress Untagged\"]}]"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_bad_input),
		netns_test(test_refused_where_missing),
		netns_test(test_sub_interface),
		netns_test(test_vlan_of_another_name),
		netns_test(test_uplink_goes_and_comes),
		netns_test(test_tags_on_the_wire),
		netns_test(test_uplink_that_is_a_port),
		netns_test(test_filtering),
		netns_test(test_filtering_leaves_one_vlan),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
