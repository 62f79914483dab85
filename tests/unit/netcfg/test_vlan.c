#include "netcfg/vlan.h"

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/port.h"
#include "tests/unit/netcfg/guests.h"

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
	SKIP_WITHOUT(have_vlan(), "802.1Q devices (CONFIG_VLAN_8021Q)");
	netns_run("ip link add up0 type veth peer name up1; ip link set up0 up");
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &link, &err));
	assert_int_equal(link.vlan, 5);
	assert_true(link.up);
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 5, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &again, &err));
	assert_int_equal(again.index, link.index);
	assert_err(netcfg_vlan_ensure(netcfg, "vdivlan2", "up0", 5, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "vdivlan1"));
	assert_ok(netcfg_vlan_ensure(netcfg, "vdivlan1", "up0", 6, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivlan1", &again, &err));
	assert_int_equal(again.vlan, 6);
	assert_ok(netcfg_vlan_delete(netcfg, "vdivlan1", &err));
}

/* Two guests in two VLANs of one bridge do not meet; on one trunk both are told apart. */
static void test_filtering(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	SKIP_WITHOUT(have_filtering(), "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
	const struct netcfg_bridge bridge = {.vlan_filtering = true};
	struct netcfg_port port = {.pvid = 5};
	struct guest one = guest_new("one"), two = guest_new("two");
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	guest_link(&one, "vdi1n0", "52:54:00:00:00:0a", "10.9.8.10/24", "");
	guest_link(&two, "vdi2n0", "52:54:00:00:00:0b", "10.9.8.11/24", "");
	assert_ok(netcfg_port_attach(netcfg, "vdi1n0", "vdibr1", &port, &err));
	assert_ok(netcfg_port_attach(netcfg, "vdi2n0", "vdibr1", &port, &err));
	int web = guest_serves(&two, SOCK_STREAM, 80);
	assert_true(guest_reaches_soon(&one, "10.9.8.11", 80));
	port.pvid = 6;
	assert_ok(netcfg_port_attach(netcfg, "vdi2n0", "vdibr1", &port, &err));
	assert_false(guest_reaches(&one, "10.9.8.11", 80));
	close(web);
	guest_done(&one);
	guest_done(&two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_bad_input),
		netns_test(test_refused_where_missing),
		netns_test(test_sub_interface),
		netns_test(test_filtering),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
