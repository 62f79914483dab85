#include "netcfg/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "tests/unit/netcfg/netns.h"

static const struct netcfg_tap plain = {.bridge = "vdibr1"};

static void put_bridge(struct netcfg *netcfg)
{
	const struct netcfg_bridge bridge = {
		.addresses = {netcfg_addr_v4(netns_ip("10.9.8.1"), 24)}, .n_addresses = 1};
	struct err err;
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
}

static void test_tap_is_on_its_bridge(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link bridge, tap;
	int fd = -1;
	put_bridge(netcfg);
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &plain, &fd, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &tap, &err));
	assert_true(tap.up);
	assert_true(tap.carrier);
	assert_int_equal(tap.master, bridge.index);
	assert_string_equal(tap.kind, "tun");
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	struct ifreq req = {0};
	assert_int_equal(ioctl(fd, TUNGETIFF, &req), 0);
	assert_string_equal(req.ifr_name, "vdi1n0");
	assert_int_equal(req.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_PERSIST),
			 IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);

	/* the bridge keeps its MAC, and the tap goes with its descriptor */
	struct netcfg_link after;
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &after, &err));
	assert_memory_equal(bridge.mac, after.mac, 6);
	bool there = true;
	close(fd);
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_false(there);
}

static void test_tap_without_bridge(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there = true;
	int fd = -7;
	assert_err(netcfg_tap_create(netcfg, "vdi1n0", &plain, &fd, &err), ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "vdibr1"));
	assert_int_equal(fd, -7);
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_false(there);
}

static void test_tap_is_replaced(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link first, second;
	int old = -1, fd = -1;
	put_bridge(netcfg);

	netns_run("ip tuntap add vdi1n0 mode tap");
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &first, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &plain, &old, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &second, &err));
	assert_int_not_equal(first.index, second.index);

	/* one that is held: its holder finds it gone */
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &plain, &fd, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &first, &err));
	assert_int_not_equal(first.index, second.index);
	char byte;
	assert_int_equal(read(old, &byte, 1), -1);
	assert_int_equal(errno, EBADFD);
	close(old);
	bool there = false;
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_true(there);
	close(fd);
}

static void test_tap_is_deleted_while_held(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there = true;
	int fd = -1;
	assert_ok(netcfg_tap_delete(netcfg, "vdi1n0", &err));
	put_bridge(netcfg);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &plain, &fd, &err));
	assert_ok(netcfg_tap_delete(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_false(there);
	assert_ok(netcfg_tap_delete(netcfg, "vdi1n0", &err));
	close(fd);
}

static void test_bridge_goes_from_under_its_taps(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link tap;
	int fd = -1;
	put_bridge(netcfg);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &plain, &fd, &err));
	assert_ok(netcfg_bridge_delete(netcfg, "vdibr1", &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &tap, &err));
	assert_int_equal(tap.master, 0);
	close(fd);
}

static void test_tap_is_attached_again(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link tap, bridge;
	int fd = -1;
	put_bridge(netcfg);
	assert_err(netcfg_tap_attach(netcfg, "vdi1n0", &plain, &err), ERR_NOT_FOUND);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &plain, &fd, &err));
	assert_ok(netcfg_tap_attach(netcfg, "vdi1n0", &plain, &err));
	assert_ok(netcfg_bridge_delete(netcfg, "vdibr1", &err));
	assert_err(netcfg_tap_attach(netcfg, "vdi1n0", &plain, &err), ERR_NOT_FOUND);
	put_bridge(netcfg);
	assert_err(netcfg_tap_attach(netcfg, "vdibr1", &plain, &err), ERR_CONFLICT);
	assert_err(
		netcfg_tap_attach(netcfg, "vdi1n0", &(struct netcfg_tap){.bridge = "vdi1n0"}, &err),
		ERR_CONFLICT);
	assert_ok(netcfg_tap_attach(netcfg, "vdi1n0", &plain, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &tap, &err));
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &bridge, &err));
	assert_int_equal(tap.master, bridge.index);
	assert_true(tap.up);
	close(fd);
}

/* ---- a tap that somebody deleted ---- */

static bool has_tap(int fd)
{
	struct ifreq req = {0};
	return ioctl(fd, TUNGETIFF, &req) == 0;
}

/* A broadcast of the host's comes out of the tap, behind a header of virtio's. */
static void assert_hears(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	char frame[2048];
	ssize_t n = -1;
	const struct sockaddr_in nobody = {
		.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = netns_ip("10.9.8.99")};
	_cleanup_close_ int question = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		sendto(question, "?", 1, 0, (const struct sockaddr *)&nobody, sizeof(nobody)), 1);
	for (int i = 0; i < 50; i++) {
		if (poll(&ready, 1, 100) == 1)
			n = read(fd, frame, sizeof(frame));
		if (n < 0)
			fail_msg("nothing comes out of the tap: %s", strerror(errno));
		const char *ethernet = frame + sizeof(struct virtio_net_hdr_mrg_rxbuf);
		if (memcmp(ethernet, "\xff\xff\xff\xff\xff\xff", 6) == 0 &&
		    memcmp(ethernet + 12, "\x08\x06", 2) == 0)
			return;
	}
	fail_msg("the host's question did not come out of the tap");
}

static void test_deleted_tap_is_renewed(void **state)
{
	const struct netcfg_tap wish = {.bridge = "vdibr1", .mtu = 1400};
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link bridge, tap;
	int fd = -1;
	put_bridge(netcfg);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &wish, &fd, &err));
	netns_run("ip link delete vdi1n0");
	assert_false(has_tap(fd));

	assert_ok(netcfg_tap_renew(netcfg, "vdi1n0", &wish, &fd, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &tap, &err));
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &bridge, &err));
	assert_int_equal(tap.master, bridge.index);
	assert_int_equal(tap.mtu, 1400);
	assert_true(tap.up);
	assert_hears(fd);

	/* it goes with its descriptor, as the first would have */
	bool there = true;
	close(fd);
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_false(there);
}

static void test_tap_with_queues_is_renewed(void **state)
{
	const struct netcfg_tap wish = {.bridge = "vdibr1", .queues = 3};
	struct netcfg *netcfg = *state;
	struct err err;
	int fds[3];
	put_bridge(netcfg);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &wish, fds, &err));
	netns_run("ip link delete vdi1n0");
	assert_ok(netcfg_tap_renew(netcfg, "vdi1n0", &wish, fds, &err));
	for (int i = 0; i < 3; i++)
		assert_true(has_tap(fds[i]));
	assert_true(netns_shows("ip -d link show vdi1n0", "multi_queue"));
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void test_renewing_fails_whole(void **state)
{
	const struct netcfg_tap wish = {.bridge = "vdibr1", .queues = 2};
	struct netcfg *netcfg = *state;
	struct err err;
	int fds[2], other = -1;
	bool there = true;
	put_bridge(netcfg);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &wish, fds, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi2n0", &plain, &other, &err));
	netns_run("ip link delete vdi1n0");

	/* without a bridge; with a descriptor that is another tap's; with one of no tap */
	const struct netcfg_tap astray = {.bridge = "vdibr2", .queues = 2};
	assert_err(netcfg_tap_renew(netcfg, "vdi1n0", &astray, fds, &err), ERR_NOT_FOUND);
	assert_err(netcfg_tap_renew(netcfg, "vdi1n0", &wish, (int[]){fds[0], other}, &err),
		   ERR_BUSY);
	assert_true(has_tap(other));
	assert_int_equal(netcfg_tap_renew(netcfg, "vdi1n0", &wish, (int[]){fds[0], -1}, &err), -1);
	assert_int_equal(netcfg_tap_renew(netcfg, "vdibr1", &wish, fds, &err), -1);
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_false(there);
	assert_false(has_tap(fds[0]));

	/* and the next try finds them as they were */
	assert_ok(netcfg_tap_renew(netcfg, "vdi1n0", &wish, fds, &err));
	assert_true(has_tap(fds[0]) && has_tap(fds[1]));
	close(fds[0]);
	close(fds[1]);
	close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_tap_is_on_its_bridge),
		netns_test(test_tap_without_bridge),
		netns_test(test_tap_is_replaced),
		netns_test(test_tap_is_deleted_while_held),
		netns_test(test_bridge_goes_from_under_its_taps),
		netns_test(test_tap_is_attached_again),
		netns_test(test_deleted_tap_is_renewed),
		netns_test(test_tap_with_queues_is_renewed),
		netns_test(test_renewing_fails_whole),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
