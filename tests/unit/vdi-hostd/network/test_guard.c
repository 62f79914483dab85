/* Source guard: who has it, what the kernel is told, and what is heard of DHCP servers. */
#include "bench.h"

#include <arpa/inet.h>

#include "vdi-hostd/db/event.h"
#include "vdi-hostd/network/private.h"

static const struct network_update stays = {
	.mtu = -1, .dns = -1, .isolate_ports = -1, .source_guard = -1};
static const struct netcfg_lease a_lease = {
	.mac = {0x52, 0x54, 0, 0, 0, 1}, .address = {0x0700320a}, .seconds = 600};

static void create(struct bench *bench, enum network_guard guard)
{
	const struct network_create office = {.name = "lan",
					      .kind = DB_NETWORK_BRIDGED,
					      .uplink = "up0",
					      .vlan = 7,
					      .source_guard = guard};
	bench_make(bench, &office);
}

static void update(struct bench *bench, bool guard)
{
	struct network_update wish = stays;
	int before = bench->answers;
	wish.source_guard = guard;
	networks_update(bench->networks, "lan", &wish, bench_answer, bench);
	bench_until(bench, bench->answers > before);
}

static void assert_refused(const struct bench *bench, enum err_code code, const char *why)
{
	assert_false(bench->has_row);
	assert_string_equal(err_code_name(bench->err.code), err_code_name(code));
	if (!strstr(bench->err.msg, why))
		fail_msg("%s", bench->err.msg);
}

/* as told to the kernel, written down, and shown */
static void assert_guarded(struct bench *bench, bool guarded)
{
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(bench->fake.network.hears_dhcp, guarded);
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.source_guard, guarded);
	json_t *json = networks_to_json(bench->networks, &bench->row);
	assert_int_equal(json_is_true(json_object_get(json, "source_guard")), guarded);
	json_decref(json);
}

static void assert_nic(const struct bench *bench, bool guarded, uint32_t ip)
{
	assert_int_equal(bench->fake.tap.any_address, !guarded);
	assert_int_equal(bench->fake.tap.any_prefix6, guarded);
	assert_int_equal(ntohl(bench->fake.tap.address), ip);
}

static int find_event(void *data, const struct db_event *event)
{
	if (strstr(event->data, "\"unguarded\"") && strstr(event->data, "nft_log"))
		++*(int *)data;
	return 0;
}

static int count_events(struct bench *bench)
{
	struct err err;
	int n = 0;
	assert_int_equal(db_event_since(bench->db, 0, 1000, find_event, &n, &err), 0);
	return n;
}

static void test_new_ones_have_it(void **state)
{
	struct bench *bench = *state;
	create(bench, NETWORK_GUARD_DEFAULT);
	assert_guarded(bench, true);
	bench_delete(bench, "lan", NULL);
	create(bench, NETWORK_GUARD_ON);
	assert_guarded(bench, true);
	bench_delete(bench, "lan", NULL);
	create(bench, NETWORK_GUARD_OFF);
	assert_guarded(bench, false);
	assert_int_equal(count_events(bench), 0);
}

static void test_other_kinds(void **state)
{
	struct bench *bench = *state;
	struct network_create other = {.name = "other", .source_guard = NETWORK_GUARD_ON};
	static const enum db_network_kind kinds[] = {DB_NETWORK_NAT, DB_NETWORK_ISOLATED,
						     DB_NETWORK_ROUTED, DB_NETWORK_USER};
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		other.kind = kinds[i];
		bench_make(bench, &other);
		assert_refused(bench, ERR_INVALID, "only a bridged network");
		assert_string_equal(bench->err.field, "source_guard");
	}
	bench_create_ok(bench, "lan");
	assert_false(bench->row.source_guard);
	json_t *json = networks_to_json(bench->networks, &bench->row);
	assert_true(json_is_null(json_object_get(json, "source_guard")));
	json_decref(json);
	update(bench, true);
	assert_string_equal(bench->err.field, "source_guard");
}

static void test_kernel_that_cannot(void **state)
{
	struct bench *bench = *state;
	bench_stop_daemon(bench);
	bench->features = ~(uint32_t)PRIV_HAS_NFT_LOG;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_DHCP_LISTEN), 0);
	create(bench, NETWORK_GUARD_ON);
	assert_refused(bench, ERR_UNSUPPORTED, "nft_log");
	create(bench, NETWORK_GUARD_DEFAULT);
	assert_guarded(bench, false);
	assert_int_equal(count_events(bench), 1);
	update(bench, true);
	assert_refused(bench, ERR_UNSUPPORTED, "nft_log");
	update(bench, false);
	assert_guarded(bench, false);
}

static void test_live(void **state)
{
	struct bench *bench = *state;
	bench->nics[0] = (struct nic){"ada", "52:54:00:00:00:01", 0x0a320007};
	bench->n_nics = bench->n_taps = 1;
	create(bench, NETWORK_GUARD_OFF);
	update(bench, true);
	assert_guarded(bench, true);
	assert_nic(bench, true, 0x0a320007);
	bench->nics[0].ip = 0; /* not heard of yet */
	update(bench, false);
	assert_guarded(bench, false);
	assert_nic(bench, false, 0);
	update(bench, true);
	assert_nic(bench, true, 0);
	/* what is known is nothing to be told where all of them pass */
	bench->nics[0].ip = 0x0a320007;
	update(bench, false);
	assert_nic(bench, false, 0);
	/* something else changes */
	update(bench, true);
	struct network_update wish = stays;
	int before = bench->answers;
	wish.mtu = 1400;
	networks_update(bench->networks, "lan", &wish, bench_answer, bench);
	bench_until(bench, bench->answers > before);
	assert_guarded(bench, true);
	/* and it is the next daemon's as well */
	bench_stop_daemon(bench);
	bench->fake.network.hears_dhcp = bench->fake.tap.any_prefix6 = 0;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->fake.network.hears_dhcp, 1);
	assert_nic(bench, true, 0x0a320007);
}

static void test_taken_back(void **state)
{
	struct bench *bench = *state;
	static const enum priv_verb verbs[] = {PRIV_BRIDGE_ENSURE, PRIV_TAP_ATTACH};
	bench->nics[0] = (struct nic){"ada", "52:54:00:00:00:01", 0x0a320007};
	bench->n_nics = bench->n_taps = 1;
	create(bench, NETWORK_GUARD_OFF);
	bench->fake.once = true;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		bench->fake.tap = (struct priv_tap){0};
		bench->fake.fail = verbs[i];
		update(bench, true);
		assert_int_equal(bench->err.code, ERR_IO);
		assert_false(networks_find(bench->networks, "lan", NULL)->source_guard);
		bench_until(bench, bench->fake.tap.any_address && bench_is_state(bench, "active"));
		assert_int_equal(bench->fake.network.hears_dhcp, 0);
		assert_nic(bench, false, 0);
	}
}

static void test_heard(void **state)
{
	struct bench *bench = *state;
	bench_reconcile(bench);
	bench_until(bench, bench->fake.say >= 0);
	fake_priv_say(&bench->fake, &a_lease);
	bench_until(bench, bench->leases == 1);
	assert_memory_equal(&bench->heard, &a_lease, sizeof(a_lease));
	/* what was lost is no end of it */
	fake_priv_say(&bench->fake, NULL);
	fake_priv_say(&bench->fake, &a_lease);
	bench_until(bench, bench->leases == 2);
	create(bench, NETWORK_GUARD_ON);
	assert_guarded(bench, true);
}

static void test_deaf(void **state)
{
	struct bench *bench = *state;
	bench_reconcile(bench);
	bench_until(bench, bench->fake.say >= 0);
	create(bench, NETWORK_GUARD_DEFAULT);
	assert_guarded(bench, true);
	mem_closep(&bench->fake.say);
	bench_until(bench, hearing_check(bench->networks, NULL) < 0);
	/* what is guarded stays so, and may be changed */
	update(bench, true);
	assert_guarded(bench, true);
	update(bench, false);
	assert_guarded(bench, false);
	update(bench, true);
	assert_refused(bench, ERR_IO, "is not heard: the socket is broken");
}

static void test_nobody_may_listen(void **state)
{
	struct bench *bench = *state;
	bench->fake.fail = PRIV_DHCP_LISTEN;
	bench_reconcile(bench);
	bench_until(bench, hearing_check(bench->networks, NULL) < 0);
	create(bench, NETWORK_GUARD_ON);
	assert_refused(bench, ERR_IO, "is not heard: told to fail");
	create(bench, NETWORK_GUARD_DEFAULT);
	assert_guarded(bench, false);
}

/* An answer that never comes is none that says no, and nothing is left at the daemon's end. */
static void test_not_answered_yet(void **state)
{
	struct bench *bench = *state;
	bench->fake.silent = PRIV_DHCP_LISTEN;
	bench_reconcile(bench);
	create(bench, NETWORK_GUARD_ON);
	assert_guarded(bench, true);
	bench_stop_daemon(bench);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_DHCP_LISTEN), 1);
}

static int setup(void **state)
{
	if (bench_setup_apart(state) < 0)
		return -1;
	bench_run("ip link add up0 type veth peer name up1");
	return 0;
}

#define with_uplink(test) cmocka_unit_test_setup_teardown(test, setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_uplink(test_new_ones_have_it),
		with_uplink(test_other_kinds),
		with_uplink(test_kernel_that_cannot),
		with_uplink(test_live),
		with_uplink(test_taken_back),
		with_uplink(test_heard),
		with_uplink(test_deaf),
		with_uplink(test_nobody_may_listen),
		with_uplink(test_not_answered_yet),
	};
	bench_require_namespaces();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
