#include "netcfg/join.h"

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/tap.h"
#include "netcfg/vlan.h"
#include "tests/unit/netcfg/frames.h"

#define HEARD_MS 2000 /* for what has to come, on the slowest of machines */

static const struct netcfg_join join = {
	.bridge = "vdibr1", .other = "br0", .near = "vdiup1", .far = "vdidn1"};

/* The administrator's, with a port whose MAC is lower than any that is made up, and ours. */
static void bridges_make(struct netcfg *netcfg, const char *options)
{
	struct err err;
	const struct netcfg_bridge bridge = {.mtu = 0};
	char command[512];
	snprintf(command, sizeof(command),
		 "ip link add br0 type bridge %s; ip link set br0 up; "
		 "ip link add up0 address 02:00:00:00:00:01 type veth peer name up1; "
		 "ip link set up0 master br0 up; ip link set up1 up",
		 options);
	netns_run(command);
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
}

static struct netcfg_link link_of(struct netcfg *netcfg, const char *name)
{
	struct err err;
	struct netcfg_link link;
	assert_ok(netcfg_link_get(netcfg, name, &link, &err));
	return link;
}

static bool there_is(struct netcfg *netcfg, const char *name)
{
	struct err err;
	bool there;
	assert_ok(netcfg_link_exists(netcfg, name, &there, &err));
	return there;
}

static int tap_on(struct netcfg *netcfg, const char *name, const char *bridge)
{
	struct err err;
	const struct netcfg_tap tap = {.bridge = bridge};
	int fd = -1;
	assert_ok(netcfg_tap_create(netcfg, name, &tap, &fd, &err));
	return fd;
}

static struct frame frame_number(unsigned int number)
{
	return frame_udp(mac_all, mac_a, "10.9.8.1", number, "10.9.8.255", number);
}

/* All that is told of a bridge and of ports, but for what passes with time. */
static char *br0_shown(void)
{
	return netns_output("ip -d link show br0 | sed 's/_timer  *[0-9.]*//g; s/ state [A-Z]*//; "
			    "s/<.*>//'; "
			    "ip -4 addr show br0; bridge link show; bridge vlan show");
}

static void assert_joined(struct netcfg *netcfg)
{
	const struct netcfg_link near = link_of(netcfg, "vdiup1"), far = link_of(netcfg, "vdidn1");
	assert_string_equal(near.master_name, "vdibr1");
	assert_string_equal(far.master_name, "br0");
	assert_true(near.up && far.up && near.carrier && far.carrier);
	assert_int_equal(near.lower, far.index);
	assert_int_equal(far.lower, near.index);
}

static void test_bad_input(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridges_make(netcfg, "");
	struct netcfg_join bad = join;
	bad.vlan = 4095;
	assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_INVALID);
	const char **const names[] = {&bad.bridge, &bad.near, &bad.far, &bad.other};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		bad = join;
		*names[i] = "a/b";
		assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_INVALID);
	}
	bad = join;
	bad.other = bad.bridge;
	assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_INVALID);
	bad = join;
	bad.bridge = "vdibr9";
	assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_NOT_FOUND);
	bad = join;
	bad.other = "br9";
	assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_NOT_FOUND);
	bad.other = "up1";
	assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "up1 is no bridge"));
	/* names that others have */
	netns_run("ip link add vdidn1 type bridge");
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_CONFLICT);
	assert_err(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err), ERR_CONFLICT);
	netns_run("ip link delete vdidn1");
	bad = join;
	bad.vlan = 7;
	assert_err(netcfg_join_ensure(netcfg, &bad, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "br0 filters no VLANs"));
	assert_false(there_is(netcfg, "vdiup1") || there_is(netcfg, "vdidn1"));
	assert_ok(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err));
}

/* Frames pass both ways, and the administrator's bridge stays what it was. */
static void test_joined(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridges_make(netcfg, "");
	netns_run("ip addr add 10.9.8.1/24 dev br0");
	_cleanup_free_ char *before = br0_shown();
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_joined(netcfg);
	assert_false(netns_shows("ip addr show vdiup1", "inet6"));
	assert_false(netns_shows("ip addr show vdidn1", "inet6"));
	assert_true(netns_shows("ip link show br0", "02:00:00:00:00:01"));
	assert_true(netns_shows("ip link show vdidn1", "link/ether fe:"));
	const int near = link_of(netcfg, "vdiup1").index;
	for (int i = 0; i < 2; i++)
		assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_int_equal(link_of(netcfg, "vdiup1").index, near);
	int a = tap_on(netcfg, "vdi1n0", "vdibr1"), b = tap_on(netcfg, "out0", "br0");
	struct frame frame = frame_number(1);
	assert_true(frame_passes_soon(a, &frame, b, &frame));
	frame = frame_number(2);
	assert_true(frame_passes_soon(b, &frame, a, &frame));
	close(a);
	close(b);
	for (int i = 0; i < 2; i++)
		assert_ok(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err));
	assert_false(there_is(netcfg, "vdiup1") || there_is(netcfg, "vdidn1"));
	_cleanup_free_ char *after = br0_shown();
	assert_string_equal(before, after);
}

/* Whatever somebody did: once more, and all is as it should be; there is never a second way. */
static void test_set_right(void **state)
{
	static const char *const hands[] = {
		"ip link delete vdiup1",
		"ip link delete vdidn1",
		"ip link set vdiup1 nomaster",
		"ip link set vdidn1 nomaster",
		"ip link set vdiup1 down; ip link set vdidn1 down",
		"ip link set vdidn1 master br1",
		"ip link set vdidn1 master vdibr1; ip link set vdiup1 master br0",
		"ip link delete vdiup1; ip link add vdiup1 type veth peer name odd",
		"ip link delete vdiup1; ip link add vdidn1 type veth peer name odd",
		"ip link set vdiup1 down; ip link set vdiup1 name odd; ip link set odd up",
		"ip link set vdidn1 down; ip link set vdidn1 name odd; ip link set odd up",
	};
	struct netcfg *netcfg = *state;
	struct err err;
	bridges_make(netcfg, "");
	netns_run("ip link add br1 type bridge; ip link set br1 up");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	for (size_t i = 0; i < ARRAY_LEN(hands); i++) {
		netns_run(hands[i]);
		assert_ok(netcfg_join_ensure(netcfg, &join, &err));
		assert_joined(netcfg);
		assert_false(there_is(netcfg, "odd"));
	}
	/* what the administrator made of his own bridge's port stays */
	netns_run("bridge link set dev vdidn1 isolated on");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_true(link_of(netcfg, "vdidn1").isolated);
}

static void test_other_goes_and_comes(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridges_make(netcfg, "");
	netns_run("ip link set br0 down");
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "ip link set br0 up"));
	assert_false(there_is(netcfg, "vdiup1"));
	netns_run("ip link set br0 up");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	/* one that is down takes its end with it, so that it can be seen that there is work to do
	 */
	netns_run("ip link set br0 down");
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_CONFLICT);
	assert_false(link_of(netcfg, "vdidn1").up);
	netns_run("ip link set br0 up");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_joined(netcfg);
	netns_run("ip link delete br0");
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_NOT_FOUND);
	netns_run("ip link add br0 type bridge; ip link set br0 up");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_joined(netcfg);
	assert_ok(netcfg_bridge_delete(netcfg, "vdibr1", &err));
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_NOT_FOUND);
}

/* A second way would be a loop. */
static void test_another_way(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridges_make(netcfg, "");
	netns_run("ip link add one type veth peer name two; ip link set one master vdibr1; "
		  "ip link set two master br0");
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "ip link delete one"));
	assert_false(there_is(netcfg, "vdiup1") || there_is(netcfg, "vdidn1"));
	/* half of a way is none, nor is one whose other end is somewhere else: a number alone, that
	 * of a port of br0, says nothing of a link in another namespace */
	netns_run("ip link set two nomaster");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	char command[512];
	snprintf(
		command, sizeof(command),
		"ip link delete one; ip netns add join-%d; ip link add one type veth peer name two "
		"index %d netns join-%d; ip link set one master vdibr1; ip netns delete join-%d",
		(int)getpid(), link_of(netcfg, "up0").index, (int)getpid(), (int)getpid());
	netns_run(command);
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_joined(netcfg);
}

/* A bridge follows the smallest of its ports, unless it was told: it must not follow ours. */
static void test_mtu(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridges_make(netcfg, "");
	netns_run("ip link set up1 mtu 9000; ip link set up0 mtu 9000");
	assert_int_equal(link_of(netcfg, "br0").mtu, 9000);
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_int_equal(link_of(netcfg, "br0").mtu, 9000);
	assert_int_equal(link_of(netcfg, "vdidn1").mtu, 9000);
	assert_int_equal(link_of(netcfg, "vdibr1").mtu, 1500);
	assert_int_equal(link_of(netcfg, "vdiup1").mtu, 1500);
	netns_run("ip link set up0 mtu 1400");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_int_equal(link_of(netcfg, "br0").mtu, 1400);
	assert_int_equal(link_of(netcfg, "vdidn1").mtu, 1400);
	assert_int_equal(link_of(netcfg, "vdibr1").mtu, 1500);
	/* the network's own changes; then somebody changes what is ours */
	netns_run("ip link set vdibr1 mtu 1300");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_int_equal(link_of(netcfg, "vdiup1").mtu, 1300);
	netns_run("ip link set vdiup1 mtu 1200");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_int_equal(link_of(netcfg, "vdiup1").mtu, 1300);
	netns_run("ip link set up0 mtu 9000; ip link set br0 mtu 9000");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_int_equal(link_of(netcfg, "vdidn1").mtu, 9000);
	assert_int_equal(link_of(netcfg, "br0").mtu, 9000);
}

/* Does the host hear what is sent to it by that MAC, as one does that learned it before? */
static bool host_hears(int tap, const uint8_t *mac)
{
	static unsigned int number;
	const struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(9)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	assert_int_equal(bind(fd, (const struct sockaddr *)&own, sizeof(own)), 0);
	for (int i = 0; i < 20; i++) {
		struct frame frame = frame_udp(mac, mac_a, "10.9.8.2", ++number, "10.9.8.1", 9);
		frame_send(tap, &frame);
		if (poll(&ready, 1, 100) == 1)
			return true;
	}
	return false;
}

/*
 * A bridge that nobody gave a MAC has the lowest of its ports': ours while it has no other, and one
 * that stays the same. When another one comes, who knows the bridge by ours reaches it all the
 * same.
 */
static void test_mac(void **state)
{
	static const uint8_t of_a_guest[6] = {0xfe, 0xfe, 0xff, 0xff, 0xff, 0xff};
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_bridge bridge = {.mtu = 0};
	netns_run(
		"ip link add br0 type bridge; ip link set br0 up; ip addr add 10.9.8.1/24 dev br0");
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	const struct netcfg_link far = link_of(netcfg, "vdidn1");
	int a = tap_on(netcfg, "vdi1n0", "vdibr1");
	for (int i = 0; i < 2; i++) {
		assert_memory_equal(link_of(netcfg, "br0").mac, far.mac, sizeof(far.mac));
		assert_true(host_hears(a, far.mac));
		netns_run("ip link delete vdidn1");
		assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	}
	/* even the highest that the kernel or libvirt gives to the port of a virtual machine wins
	 */
	netns_run("ip link add vm0 address fe:fe:ff:ff:ff:ff type veth peer name vm1; "
		  "ip link set vm0 master br0 up; ip link set vm1 up");
	assert_memory_equal(link_of(netcfg, "br0").mac, of_a_guest, sizeof(of_a_guest));
	assert_true(host_hears(a, far.mac) && host_hears(a, of_a_guest));
	/* so nothing changes when ours goes and comes */
	assert_ok(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err));
	assert_memory_equal(link_of(netcfg, "br0").mac, of_a_guest, sizeof(of_a_guest));
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_memory_equal(link_of(netcfg, "br0").mac, of_a_guest, sizeof(of_a_guest));
	close(a);
}

/* ---- VLANs ---- */

static bool can(const char *command)
{
	char text[256];
	snprintf(text, sizeof(text), "%s 2>/dev/null && ip link delete probe0", command);
	return system(text) == 0;
}

#define SKIP_UNLESS(can, what)                                                                     \
	do {                                                                                       \
		if (!(can)) {                                                                      \
			print_message("skipped: this kernel has no " what "\n");                   \
			skip();                                                                    \
		}                                                                                  \
	} while (0)
#define CAN_FILTER can("ip link add probe0 type bridge vlan_filtering 1")
#define CAN_VLAN                                                                                   \
	can("ip link add probe1 type bridge && ip link add link probe1 name probe0 type vlan id 2")

static bool in_vlan(struct netcfg *netcfg, unsigned int vlan)
{
	struct err err;
	bool ret;
	assert_ok(netcfg_port_has_pvid(netcfg, "vdidn1", (uint16_t)vlan, &ret, &err));
	return ret;
}

/* The port there is in that VLAN and no other, whatever somebody does; no other port is touched. */
static void test_filtering(void **state)
{
	static const char *const hands[] = {
		"bridge vlan del dev vdidn1 vid 7",
		"bridge vlan add dev vdidn1 vid 9",
		"bridge vlan add dev vdidn1 vid 20-29",
		"bridge vlan add dev vdidn1 vid 1 pvid untagged",
		"bridge vlan add dev vdidn1 vid 7 pvid",
		"ip link set vdidn1 nomaster",
		"ip link set vdidn1 nomaster; ip link set vdidn1 master br0",
	};
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_join wish = join;
	SKIP_UNLESS(CAN_FILTER, "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
	bridges_make(netcfg, "vlan_filtering 1");
	netns_run("bridge vlan add dev up0 vid 7; bridge vlan add dev up0 vid 8-19");
	_cleanup_free_ char *before = br0_shown();
	wish.vlan = 7;
	assert_ok(netcfg_join_ensure(netcfg, &wish, &err));
	assert_joined(netcfg);
	for (size_t i = 0; i < ARRAY_LEN(hands); i++) {
		assert_true(in_vlan(netcfg, 7));
		netns_run(hands[i]);
		assert_false(in_vlan(netcfg, 7));
		assert_ok(netcfg_join_ensure(netcfg, &wish, &err));
		assert_joined(netcfg);
	}
	assert_true(in_vlan(netcfg, 7));
	assert_false(in_vlan(netcfg, 8));
	/* what was in no VLAN is in none, and has what the bridge gives to each */
	assert_ok(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err));
	_cleanup_free_ char *after = br0_shown();
	assert_string_equal(before, after);
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_true(in_vlan(netcfg, 1));
	netns_run("bridge vlan add dev vdidn1 vid 5");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_false(in_vlan(netcfg, 1));
}

static unsigned int pvid_of(struct netcfg *netcfg, const char *name)
{
	struct err err;
	uint16_t pvid;
	assert_ok(netcfg_port_pvid(netcfg, name, &pvid, &err));
	return pvid;
}

/* A bridge that gives its ports no VLAN: its administrator does, and that stays. */
static void test_no_default_vlan(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_join wish = join;
	SKIP_UNLESS(CAN_FILTER, "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
	bridges_make(netcfg, "vlan_filtering 1 vlan_default_pvid 0");
	int a = tap_on(netcfg, "vdi1n0", "vdibr1"), b = tap_on(netcfg, "out0", "br0");
	netns_run("bridge vlan add dev out0 vid 5 pvid untagged");
	assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	assert_joined(netcfg);
	assert_int_equal(pvid_of(netcfg, "vdidn1"), 0);
	struct frame frame = frame_number(1);
	frame_send(a, &frame);
	assert_false(frame_heard(b, &frame, 300));
	/* a member without a say in what comes untagged */
	netns_run("bridge vlan add dev vdidn1 vid 5 untagged; bridge vlan add dev vdidn1 vid 6-9");
	assert_int_equal(pvid_of(netcfg, "vdidn1"), 0);
	netns_run("bridge vlan add dev vdidn1 vid 5 pvid untagged");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pvid_of(netcfg, "vdidn1"), 5);
		assert_ok(netcfg_join_ensure(netcfg, &join, &err));
	}
	frame = frame_number(2);
	assert_true(frame_passes_soon(a, &frame, b, &frame));
	/* a network that has one needs nobody's help */
	assert_ok(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err));
	wish.vlan = 5;
	assert_ok(netcfg_join_ensure(netcfg, &wish, &err));
	assert_int_equal(pvid_of(netcfg, "vdidn1"), 5);
	frame = frame_number(3);
	assert_true(frame_passes_soon(a, &frame, b, &frame));
	close(a);
	close(b);
	assert_ok(netcfg_join_delete(netcfg, "vdiup1", "vdidn1", &err));
	assert_int_equal(pvid_of(netcfg, "vdidn1"), 0);
}

/* What passes is in that VLAN, tagged where the bridge tags it. */
static void test_filtered_frames(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_join wish = join;
	const struct netcfg_bridge far = {.mtu = 0};
	const struct netcfg_port port = {.pvid = 0};
	SKIP_UNLESS(CAN_FILTER, "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
	bridges_make(netcfg, "vlan_filtering 1");
	netns_run("bridge vlan add dev up0 vid 7; bridge vlan add dev up0 vid 8");
	assert_ok(netcfg_bridge_ensure(netcfg, "far", &far, &err));
	assert_ok(netcfg_port_attach(netcfg, "up1", "far", &port, &err));
	wish.vlan = 7;
	assert_ok(netcfg_join_ensure(netcfg, &wish, &err));
	int a = tap_on(netcfg, "vdi1n0", "vdibr1"), wire = tap_on(netcfg, "wire", "far");
	struct frame plain = frame_number(1), tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	assert_true(frame_passes_soon(a, &plain, wire, &tagged));
	plain = frame_number(2);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	frame_send(wire, &tagged);
	assert_true(frame_heard(a, &plain, HEARD_MS));
	/* untagged, and another VLAN's */
	plain = frame_number(3);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 8);
	frame_send(wire, &plain);
	frame_send(wire, &tagged);
	assert_false(frame_heard(a, &plain, 30));
	close(a);
	close(wire);
}

/*
 * On a bridge that filters none, a VLAN is a sub-interface of the bridge: it hears what comes by
 * any port, also what is for one MAC behind it.
 */
static void test_vlan_of_a_bridge(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_bridge far = {.mtu = 0};
	const struct netcfg_port port = {.pvid = 0};
	SKIP_UNLESS(CAN_VLAN, "802.1Q devices (CONFIG_VLAN_8021Q)");
	bridges_make(netcfg, "");
	assert_ok(netcfg_bridge_ensure(netcfg, "far", &far, &err));
	assert_ok(netcfg_port_attach(netcfg, "up1", "far", &port, &err));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivl1", "br0", 7, &err));
	assert_ok(netcfg_port_attach(netcfg, "vdivl1", "vdibr1", &port, &err));
	int a = tap_on(netcfg, "vdi1n0", "vdibr1"), wire = tap_on(netcfg, "wire", "far");
	int b = tap_on(netcfg, "out0", "br0");
	struct frame plain = frame_number(1), tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	assert_true(frame_passes_soon(a, &plain, wire, &tagged));
	plain = frame_udp(mac_a, mac_b, "10.9.8.2", 2, "10.9.8.1", 2);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	assert_true(frame_passes_soon(wire, &tagged, a, &plain));
	plain = frame_udp(mac_a, mac_x, "10.9.8.3", 3, "10.9.8.1", 3);
	tagged = frame_tagged(&plain, ETH_P_8021Q, 7);
	assert_true(frame_passes_soon(b, &tagged, a, &plain));
	frame_send(wire, &plain);
	assert_false(frame_heard(a, &plain, 30));
	/* and it is a way: no second one beside it */
	assert_err(netcfg_join_ensure(netcfg, &join, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "ip link delete vdivl1"));
	close(a);
	close(b);
	close(wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_bad_input),
		netns_test(test_joined),
		netns_test(test_set_right),
		netns_test(test_other_goes_and_comes),
		netns_test(test_another_way),
		netns_test(test_mtu),
		netns_test(test_mac),
		netns_test(test_filtering),
		netns_test(test_no_default_vlan),
		netns_test(test_filtered_frames),
		netns_test(test_vlan_of_a_bridge),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
