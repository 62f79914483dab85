#include "netcfg/tap.h"

#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "tests/unit/netcfg/netns.h"

#define GROUP "0x76646967" /* NETCFG_LINK_GROUP_DISCARDED */

static const struct netcfg_rates both = {{8000000, 20000}, {4000000, 20000}};

static void bridge_make(struct netcfg *netcfg)
{
	struct err err;
	const struct netcfg_bridge bridge = {.n_addresses = 0};
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
}

static int tap_make(struct netcfg *netcfg, const char *name, const struct netcfg_rates *rates)
{
	struct err err;
	const struct netcfg_tap tap = {.bridge = "vdibr1", .rates = *rates};
	int fd = -1;
	assert_ok(netcfg_tap_create(netcfg, name, &tap, &fd, &err));
	assert_true(fd >= 0);
	return fd;
}

static bool is_there(struct netcfg *netcfg, const char *name)
{
	struct err err;
	bool there;
	assert_ok(netcfg_link_exists(netcfg, name, &there, &err));
	return there;
}

static bool is_up(struct netcfg *netcfg, const char *name)
{
	struct err err;
	struct netcfg_link link;
	assert_ok(netcfg_link_get(netcfg, name, &link, &err));
	return link.up;
}

static void test_made_with_its_limits(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_rates now;
	bridge_make(netcfg);
	int fd = tap_make(netcfg, "vdi1n0", &both);
	assert_ok(netcfg_rates_get(netcfg, "vdi1n0", &now, &err));
	assert_int_equal(now.to_guest.bits_per_s, both.to_guest.bits_per_s);
	assert_int_equal(now.from_guest.bits_per_s, both.from_guest.bits_per_s);
	/* attached anew it has what it is told then */
	const struct netcfg_tap plain = {.bridge = "vdibr1"};
	assert_ok(netcfg_tap_attach(netcfg, "vdi1n0", &plain, &err));
	assert_ok(netcfg_rates_get(netcfg, "vdi1n0", &now, &err));
	assert_int_equal(now.to_guest.bits_per_s, 0);
	assert_int_equal(now.from_guest.bits_per_s, 0);
	close(fd);
	/* a device that an earlier tap left behind serves again, or goes */
	fd = tap_make(netcfg, "vdi1n0", &both);
	close(fd);
	assert_true(is_there(netcfg, "ifb-vdi1n0"));
	fd = tap_make(netcfg, "vdi1n0", &both);
	assert_ok(netcfg_rates_get(netcfg, "vdi1n0", &now, &err));
	assert_int_equal(now.from_guest.bits_per_s, both.from_guest.bits_per_s);
	close(fd);
	fd = tap_make(netcfg, "vdi1n0", &(struct netcfg_rates){0});
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_false(is_there(netcfg, "ifb-vdi1n0"));
	assert_true(is_up(netcfg, "vdi1n0"));
	close(fd);
	struct netcfg_tap bad = {.bridge = "vdibr1", .rates = {{1, 0}, {0, 0}}};
	assert_err(netcfg_tap_create(netcfg, "vdi1n0", &bad, &fd, &err), ERR_INVALID);
}

/* What fails half way leaves neither tap nor device. */
static void test_failed_leaves_nothing(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_tap tap = {.bridge = "vdibr1", .rates = both};
	int fd = -1;
	bridge_make(netcfg);
	close(tap_make(netcfg, "vdi1n0", &both));
	/* as large as the bridge's frames a tap's cannot be */
	netns_run("ip link set dev vdibr1 mtu 65535");
	assert_int_equal(netcfg_tap_create(netcfg, "vdi1n0", &tap, &fd, &err), -1);
	assert_int_equal(fd, -1);
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_false(is_there(netcfg, "vdi1n0"));
	assert_false(is_there(netcfg, "ifb-vdi1n0"));
}

static void test_discarded_and_swept(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridge_make(netcfg);
	const int a = tap_make(netcfg, "vdi1n0", &both), b = tap_make(netcfg, "vdi2n0", &both),
		  c = tap_make(netcfg, "vdi3n0", &both);
	assert_ok(netcfg_links_sweep(netcfg, &err)); /* whoever was here before */
	assert_false(netcfg_links_await_sweep(netcfg));
	assert_ok(netcfg_tap_discard(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_tap_discard(netcfg, "vdi1n0", &err));
	assert_true(netcfg_links_await_sweep(netcfg));
	assert_false(is_up(netcfg, "vdi1n0"));
	assert_false(is_up(netcfg, "ifb-vdi1n0"));
	/* of this only the device is left by then; of another, nothing ever was */
	close(b);
	assert_ok(netcfg_tap_discard(netcfg, "vdi2n0", &err));
	assert_ok(netcfg_tap_discard(netcfg, "vdi9n0", &err));
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_false(netcfg_links_await_sweep(netcfg));
	assert_false(is_there(netcfg, "vdi1n0"));
	assert_false(is_there(netcfg, "ifb-vdi1n0"));
	assert_false(is_there(netcfg, "ifb-vdi2n0"));
	assert_true(is_up(netcfg, "vdi3n0"));
	assert_true(is_up(netcfg, "ifb-vdi3n0"));
	assert_ok(netcfg_tap_delete(netcfg, "vdi3n0", &err));
	assert_ok(netcfg_tap_delete(netcfg, "vdi3n0", &err));
	assert_false(is_there(netcfg, "vdi3n0"));
	assert_false(is_there(netcfg, "ifb-vdi3n0"));
	close(a);
	close(c);
}

/* The kernel knows what is to go: who comes after a crash sweeps it. */
static void test_swept_by_the_next(void **state)
{
	struct netcfg *netcfg = *state, *first, *next;
	struct err err;
	bridge_make(netcfg);
	assert_ok(netcfg_open(&first, &err));
	const int fd = tap_make(first, "vdi1n0", &both);
	assert_ok(netcfg_tap_discard(first, "vdi1n0", &err));
	netcfg_close(first);
	assert_true(is_there(netcfg, "vdi1n0"));
	assert_ok(netcfg_open(&next, &err));
	assert_true(netcfg_links_await_sweep(next));
	assert_ok(netcfg_links_sweep(next, &err));
	netcfg_close(next);
	assert_false(is_there(netcfg, "vdi1n0"));
	assert_false(is_there(netcfg, "ifb-vdi1n0"));
	close(fd);
}

static void test_back_before_it_was_swept(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_tap tap = {.bridge = "vdibr1", .rates = both};
	bridge_make(netcfg);
	int fd = tap_make(netcfg, "vdi1n0", &both);
	assert_ok(netcfg_tap_discard(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_tap_attach(netcfg, "vdi1n0", &tap, &err));
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_true(is_up(netcfg, "vdi1n0"));
	assert_true(is_up(netcfg, "ifb-vdi1n0"));
	/* and one made anew, under the name of one that still waits to go */
	assert_ok(netcfg_tap_discard(netcfg, "vdi1n0", &err));
	const int again = tap_make(netcfg, "vdi1n0", &both);
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_true(is_up(netcfg, "vdi1n0"));
	assert_true(is_up(netcfg, "ifb-vdi1n0"));
	close(fd);
	close(again);
}

static void test_strangers_stay(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridge_make(netcfg);
	const int fd = tap_make(netcfg, "vdi1n0", &(struct netcfg_rates){0});
	/* one has the name of a tap, one that of its device, one a group of somebody's */
	netns_run("ip link add vdi2n0 type bridge; ip link add ifb-vdi1n0 type bridge;"
		  "ip link add veth0 type veth peer name veth1; ip link set veth0 group 7");
	assert_err(netcfg_tap_discard(netcfg, "vdi2n0", &err), ERR_CONFLICT);
	assert_err(netcfg_tap_delete(netcfg, "a b", &err), ERR_INVALID);
	assert_ok(netcfg_tap_delete(netcfg, "vdi1n0", &err));
	assert_false(is_there(netcfg, "vdi1n0"));
	assert_true(is_there(netcfg, "vdi2n0"));
	assert_true(is_there(netcfg, "ifb-vdi1n0"));
	assert_true(is_there(netcfg, "veth0"));
	close(fd);
}

/* What cannot be deleted keeps the rest, and is told; once it is out of the way all goes. */
static void test_sweep_refused(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bridge_make(netcfg);
	const int fd = tap_make(netcfg, "vdi1n0", &both);
	netns_run("ip link set lo group " GROUP);
	assert_ok(netcfg_tap_discard(netcfg, "vdi1n0", &err));
	assert_err(netcfg_links_sweep(netcfg, &err), ERR_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "put aside"));
	assert_true(is_there(netcfg, "lo"));
	/* no use to try it over and over */
	assert_false(netcfg_links_await_sweep(netcfg));
	netns_run("ip link set lo group 0");
	assert_ok(netcfg_tap_delete(netcfg, "vdi1n0", &err));
	assert_false(is_there(netcfg, "vdi1n0"));
	assert_false(is_there(netcfg, "ifb-vdi1n0"));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_made_with_its_limits),
		netns_test(test_failed_leaves_nothing),
		netns_test(test_discarded_and_swept),
		netns_test(test_swept_by_the_next),
		netns_test(test_back_before_it_was_swept),
		netns_test(test_strangers_stay),
		netns_test(test_sweep_refused),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
