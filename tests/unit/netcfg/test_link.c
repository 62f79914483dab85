#include "netcfg/link.h"

#include "netcfg/bridge.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/netns.h"

/* a bridge with one address and nothing special */
static int put(struct netcfg *netcfg, const char *name, struct in_addr address, unsigned int prefix,
	       struct err *err)
{
	const struct netcfg_bridge bridge = {.addresses = {netcfg_addr_v4(address, prefix)},
					     .n_addresses = 1};
	return netcfg_bridge_ensure(netcfg, name, &bridge, err);
}

static void test_bridge_is_made_as_asked(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link, again;
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err));
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &link, &err));
	assert_string_equal(link.kind, "bridge");
	assert_true(link.up);
	assert_int_equal(link.mac[0], 0x02);
	assert_true(netns_shows("ip -d link show vdibr1", "stp_state 0"));
	assert_true(netns_shows("ip -d link show vdibr1", "forward_delay 0 "));
	assert_true(netns_shows("ip -4 addr show vdibr1", "inet 10.9.8.1/24 brd 10.9.8.255"));
	assert_false(netns_shows("ip addr show vdibr1", "inet6"));

	/* once more: nothing changes */
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err));
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &again, &err));
	assert_memory_equal(&link, &again, offsetof(struct netcfg_link, counters));
}

static void test_bridge_is_mended(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err));
	netns_run("ip link set vdibr1 down");
	netns_run("ip link set vdibr1 address 02:00:00:00:00:99");
	netns_run("ip link set vdibr1 type bridge stp_state 1");
	netns_run("ip addr add 10.9.8.7/24 dev vdibr1");
	netns_run("ip addr add 192.168.77.1/24 dev vdibr1");
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err));
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &link, &err));
	assert_true(link.up);
	assert_int_not_equal(link.mac[5], 0x99);
	assert_true(netns_shows("ip -d link show vdibr1", "stp_state 0"));
	assert_true(netns_shows("ip -4 addr show vdibr1", "inet 10.9.8.1/24"));
	assert_false(netns_shows("ip -4 addr show vdibr1", "10.9.8.7"));
	assert_false(netns_shows("ip -4 addr show vdibr1", "192.168.77.1"));

	/* the wanted address as a secondary one goes with its primary and has to come back */
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.2"), 24, &err));
	netns_run("ip addr add 10.9.8.3/24 dev vdibr1");
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.3"), 24, &err));
	assert_true(netns_shows("ip -4 addr show vdibr1", "inet 10.9.8.3/24"));
	assert_false(netns_shows("ip -4 addr show vdibr1", "10.9.8.2/"));
}

static void test_whose_mac(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	static const uint8_t of_its_name[6], other[6] = {0x02, 0x76, 192, 0, 2, 1};
	const struct netcfg_bridge bridge = {.mac = {0x02, 0x76, 192, 0, 2, 1}};
	bool has = false;
	/* none that is wrong */
	assert_ok(netcfg_bridge_has_mac(netcfg, "vdibr1", of_its_name, &has, &err));
	assert_true(has);
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err));
	assert_ok(netcfg_bridge_has_mac(netcfg, "vdibr1", of_its_name, &has, &err));
	assert_true(has);
	assert_ok(netcfg_bridge_has_mac(netcfg, "vdibr1", other, &has, &err));
	assert_false(has);
	netns_run("ip link set vdibr1 address 02:00:00:00:00:99");
	assert_ok(netcfg_bridge_has_mac(netcfg, "vdibr1", of_its_name, &has, &err));
	assert_false(has);
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_bridge_has_mac(netcfg, "vdibr1", other, &has, &err));
	assert_true(has);
	assert_err(netcfg_bridge_has_mac(netcfg, "BR0", other, &has, &err), ERR_INVALID);
}

static void test_bridge_is_deleted(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there = true;
	assert_ok(netcfg_bridge_delete(netcfg, "vdibr1", &err));
	assert_ok(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err));
	assert_ok(netcfg_bridge_delete(netcfg, "vdibr1", &err));
	assert_ok(netcfg_link_exists(netcfg, "vdibr1", &there, &err));
	assert_false(there);
	assert_ok(netcfg_bridge_delete(netcfg, "vdibr1", &err));
}

static void test_strangers_are_left_alone(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	int fd = -7;
	netns_run("ip link add vdibr1 type veth peer name other");
	assert_err(put(netcfg, "vdibr1", netns_ip("10.9.8.1"), 24, &err), ERR_CONFLICT);
	assert_err(netcfg_bridge_delete(netcfg, "vdibr1", &err), ERR_CONFLICT);
	assert_err(netcfg_tap_delete(netcfg, "vdibr1", &err), ERR_CONFLICT);
	assert_err(netcfg_tap_create(netcfg, "vdi1n0", &(struct netcfg_tap){.bridge = "vdibr1"},
				     &fd, &err),
		   ERR_CONFLICT);
	assert_ok(put(netcfg, "vdibr2", netns_ip("10.9.7.1"), 24, &err));
	assert_err(netcfg_tap_create(netcfg, "other", &(struct netcfg_tap){.bridge = "vdibr2"}, &fd,
				     &err),
		   ERR_CONFLICT);
	assert_int_equal(fd, -7);
	netns_run("ip link show vdibr1");
	netns_run("ip link show other");
}

static void test_bad_names_and_addresses(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there;
	int fd = -7;
	struct in_addr ip = netns_ip("10.9.8.1");
	const char *const bad[] = {"", "vdibr6553512345x", "br 0", "../br0", "BR0"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_err(put(netcfg, bad[i], ip, 24, &err), ERR_INVALID);
		assert_err(netcfg_bridge_delete(netcfg, bad[i], &err), ERR_INVALID);
		assert_err(netcfg_tap_create(netcfg, bad[i],
					     &(struct netcfg_tap){.bridge = "vdibr1"}, &fd, &err),
			   ERR_INVALID);
		assert_err(netcfg_tap_create(netcfg, "vdi1n0",
					     &(struct netcfg_tap){.bridge = bad[i]}, &fd, &err),
			   ERR_INVALID);
		assert_err(netcfg_tap_delete(netcfg, bad[i], &err), ERR_INVALID);
		if (strcmp(bad[i], "BR0") != 0) /* as an administrator may call one */
			assert_err(netcfg_link_exists(netcfg, bad[i], &there, &err), ERR_INVALID);
	}
	assert_err(put(netcfg, "vdibr1", ip, 7, &err), ERR_INVALID);
	assert_err(put(netcfg, "vdibr1", ip, 31, &err), ERR_INVALID);
	assert_err(put(netcfg, "vdibr1", ip, 255, &err), ERR_INVALID);
	assert_err(put(netcfg, "vdibr1", netns_ip("10.9.8.0"), 24, &err), ERR_INVALID);
	assert_err(put(netcfg, "vdibr1", netns_ip("10.9.8.255"), 24, &err), ERR_INVALID);
	assert_err(netcfg_link_get(netcfg, "vdibr1", &(struct netcfg_link){0}, &err),
		   ERR_NOT_FOUND);
	assert_int_equal(fd, -7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_bridge_is_made_as_asked),
		netns_test(test_bridge_is_mended),
		netns_test(test_whose_mac),
		netns_test(test_bridge_is_deleted),
		netns_test(test_strangers_are_left_alone),
		netns_test(test_bad_names_and_addresses),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
