#include "netcfg/rate.h"

#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/frames.h"

#define BIG 1400

static void net_make(struct netcfg *netcfg, int *ret_a, int *ret_b)
{
	struct err err;
	const struct netcfg_bridge bridge = {.n_addresses = 0};
	const struct netcfg_tap tap = {.bridge = "vdibr1"};
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, ret_a, &err));
	assert_ok(netcfg_tap_create(netcfg, "vdi2n0", &tap, ret_b, &err));
}

static bool has(struct netcfg *netcfg, const char *name, const struct netcfg_rates *rates)
{
	struct err err;
	bool ret = false;
	assert_ok(netcfg_rates_has(netcfg, name, rates, &ret, &err));
	return ret;
}

static void expect(struct netcfg *netcfg, const char *name, const struct netcfg_rates *want)
{
	struct err err;
	struct netcfg_rates now;
	assert_ok(netcfg_rates_get(netcfg, name, &now, &err));
	assert_int_equal(now.to_guest.bits_per_s, want->to_guest.bits_per_s);
	assert_int_equal(now.from_guest.bits_per_s, want->from_guest.bits_per_s);
	/* the kernel counts in 64 ns */
	assert_in_range(now.to_guest.burst + 1 + want->to_guest.bits_per_s / 8 / 10000000,
			want->to_guest.burst, UINT32_MAX);
	assert_in_range(now.to_guest.burst, 0, want->to_guest.burst);
	assert_in_range(now.from_guest.burst, 0, want->from_guest.burst);
	assert_true(has(netcfg, name, want));
}

static void test_set_change_remove(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	int a, b;
	struct netcfg_rates rates = {{10000000, 20000}, {5000000, 30000}};
	net_make(netcfg, &a, &b);
	expect(netcfg, "vdi1n0", &(struct netcfg_rates){0});
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	expect(netcfg, "vdi1n0", &rates);
	expect(netcfg, "vdi2n0", &(struct netcfg_rates){0});
	assert_true(netns_shows("tc qdisc show dev vdi1n0", "rate 10Mbit"));
	assert_true(netns_shows("tc qdisc show dev ifb-vdi1n0", "rate 5Mbit"));
	for (int i = 0; i < 4; i++) {
		struct netcfg_rates other = rates;
		struct netcfg_rate *one = i & 1 ? &other.to_guest : &other.from_guest;
		if (i & 2)
			one->burst += 2000;
		else
			one->bits_per_s += 8000;
		assert_false(has(netcfg, "vdi1n0", &other));
	}
	_cleanup_free_ char *before = netns_output("tc qdisc; ip -o link | cut -d: -f1,2");
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	_cleanup_free_ char *after = netns_output("tc qdisc; ip -o link | cut -d: -f1,2");
	assert_string_equal(before, after);

	rates.to_guest.bits_per_s = 40000000000;
	rates.to_guest.burst = 10000000;
	rates.from_guest.bits_per_s = 0;
	rates.from_guest.burst = 0;
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	expect(netcfg, "vdi1n0", &rates);
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_false(netns_shows("ip link", "ifb-"));
	assert_ok(netcfg_rates_remove(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_rates_remove(netcfg, "vdi1n0", &err));
	expect(netcfg, "vdi1n0", &(struct netcfg_rates){0});
	assert_false(netns_shows("tc qdisc show dev vdi1n0", "tbf"));

	/* a link that is gone leaves an ifb device, which goes all the same */
	rates.from_guest = (struct netcfg_rate){8000, 1600};
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	close(a);
	assert_true(netns_shows("ip link", "ifb-vdi1n0"));
	assert_ok(netcfg_rates_remove(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_false(netns_shows("ip link", "ifb-"));
	assert_err(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err), ERR_NOT_FOUND);
	assert_err(netcfg_rates_get(netcfg, "vdi1n0", &rates, &err), ERR_NOT_FOUND);
	close(b);
}

/*
 * How many frames of BIG bytes arrive of a flood that takes @ms.
 * @ret_ms: how long it took indeed, on a machine that does other things as well; or NULL
 */
static unsigned int flood(int from, int to, int ms, int64_t *ret_ms)
{
	struct frame frame = frame_ether(mac_b, mac_a, 0x88b5); /* for experiments */
	uint8_t buf[4096];
	unsigned int heard = 0;
	frame.n = BIG;
	/* what a flood before has left is none of this one's */
	while (read(to, buf, sizeof(buf)) > 0)
		;
	const int64_t begin = frame_now_ms();
	while (frame_now_ms() < begin + ms) {
		for (int i = 0; i < 10; i++)
			frame_send(from, &frame);
		for (ssize_t n = 0; (n = read(to, buf, sizeof(buf))) > 0;)
			heard += n >= BIG;
	}
	if (ret_ms)
		*ret_ms = frame_now_ms() - begin + 1;
	return heard;
}

/* What the rate allows in that time, and what waits may follow. */
static uint64_t allowed(const struct netcfg_rate *rate, int64_t ms)
{
	return rate->burst + rate->bits_per_s / 8 * ((uint64_t)ms + 60) / 1000;
}

/* Not more than that; how much less is the machine's business, but it goes on after the burst. */
static void check_held(const struct netcfg_rate *rate, int from, int to)
{
	int64_t ms = 0;
	const uint64_t heard = BIG * (uint64_t)flood(from, to, 400, &ms), most = allowed(rate, ms);
	print_message("limited: %llu of at most %llu bytes in %lld ms\n", (unsigned long long)heard,
		      (unsigned long long)most, (long long)ms);
	assert_in_range(heard, 2 * rate->burst, most);
}

/* What passes without a limit is over what the limit would allow. */
static void check_free(const struct netcfg_rate *rate, int from, int to)
{
	int64_t ms = 0;
	const uint64_t heard = BIG * (uint64_t)flood(from, to, 200, &ms);
	assert_true(heard > allowed(rate, ms));
}

static void test_a_flood_is_held_to_the_rate(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	int a, b;
	const struct netcfg_rate rate = {8000000, 20000};
	const struct netcfg_rates from = {.from_guest = rate}, to = {.to_guest = rate};
	net_make(netcfg, &a, &b);
	check_free(&rate, a, b);
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &from, &err));
	check_held(&rate, a, b);
	/* counted where it was dropped */
	assert_false(netns_shows("tc -s qdisc show dev ifb-vdi1n0", "dropped 0,"));
	assert_ok(netcfg_rates_remove(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_rates_ensure(netcfg, "vdi2n0", &to, &err));
	check_held(&rate, a, b);
	assert_false(netns_shows("tc -s qdisc show dev vdi2n0", "dropped 0,"));
	/* and again at full speed, live */
	assert_ok(netcfg_rates_remove(netcfg, "vdi2n0", &err));
	check_free(&rate, a, b);
	close(a);
	close(b);
}

/* A limit that comes back before its device was swept away has it back. */
static void test_removed_and_set_again(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link before, after;
	int a, b;
	const struct netcfg_rates rates = {{0}, {80000000, 20000}};
	net_make(netcfg, &a, &b);
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	assert_ok(netcfg_link_get(netcfg, "ifb-vdi1n0", &before, &err));
	assert_ok(netcfg_rates_remove(netcfg, "vdi1n0", &err));
	expect(netcfg, "vdi1n0", &(struct netcfg_rates){0});
	assert_true(flood(a, b, 20, NULL) > 0);
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	assert_ok(netcfg_links_sweep(netcfg, &err));
	assert_ok(netcfg_link_get(netcfg, "ifb-vdi1n0", &after, &err));
	assert_int_equal(after.index, before.index);
	expect(netcfg, "vdi1n0", &rates);
	assert_true(flood(a, b, 50, NULL) > 20);
	close(a);
	close(b);
}

/* An ifb device that somebody deleted would leave a redirection that leads nowhere. */
static void test_mended(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	int a, b;
	const struct netcfg_rates rates = {{8000000, 20000}, {80000000, 20000}};
	net_make(netcfg, &a, &b);
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	netns_run("ip link del ifb-vdi1n0");
	expect(netcfg, "vdi1n0", &(struct netcfg_rates){.to_guest = rates.to_guest});
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	expect(netcfg, "vdi1n0", &rates);
	assert_true(flood(a, b, 50, NULL) > 20);
	netns_run("tc qdisc del dev vdi1n0 ingress");
	netns_run("tc qdisc del dev vdi1n0 root");
	expect(netcfg, "vdi1n0", &(struct netcfg_rates){0});
	assert_ok(netcfg_rates_ensure(netcfg, "vdi1n0", &rates, &err));
	expect(netcfg, "vdi1n0", &rates);
	close(a);
	close(b);
}

static void test_bad_input(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_rates rates = {{7999, 0}, {0, 0}};
	assert_err(netcfg_rates_ensure(netcfg, "lo", &rates, &err), ERR_INVALID);
	rates.to_guest.bits_per_s = NETCFG_RATE_MAX + 1;
	assert_err(netcfg_rates_ensure(netcfg, "lo", &rates, &err), ERR_INVALID);
	rates.to_guest = (struct netcfg_rate){8000, 100};
	assert_err(netcfg_rates_ensure(netcfg, "lo", &rates, &err), ERR_INVALID);
	assert_err(netcfg_rates_remove(netcfg, "a b", &err), ERR_INVALID);
	/* two long names have each an ifb device of its own; a stranger's is left alone */
	assert_ok(netcfg_veth_ensure(netcfg, "abcdefghijklmn1", "abcdefghijklmn2", &err));
	rates.to_guest = (struct netcfg_rate){0};
	rates.from_guest = (struct netcfg_rate){8000000, 0};
	assert_ok(netcfg_rates_ensure(netcfg, "abcdefghijklmn1", &rates, &err));
	assert_ok(netcfg_rates_ensure(netcfg, "abcdefghijklmn2", &rates, &err));
	rates.from_guest.burst = 65536;
	expect(netcfg, "abcdefghijklmn1", &rates);
	expect(netcfg, "abcdefghijklmn2", &rates);
	assert_ok(netcfg_veth_ensure(netcfg, "one", "two", &err));
	netns_run("ip link add ifb-one type bridge");
	assert_err(netcfg_rates_ensure(netcfg, "one", &rates, &err), ERR_CONFLICT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_set_change_remove),
		netns_test(test_a_flood_is_held_to_the_rate),
		netns_test(test_removed_and_set_again),
		netns_test(test_mended),
		netns_test(test_bad_input),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
