/* What a daemon before left is gone on with. */
#include "bench.h"

#include <signal.h>

#include "base/proc.h"

static const struct network_create lan = {.name = "lan", .kind = DB_NETWORK_NAT};

static void on_reconciled(void *data)
{
}

static void test_restart_adopts(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	pid_t pid = bench->fake.spawned;
	bench_stop_daemon(bench);
	int hups = bench->fake.hups;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	bench_assert_state(bench, "active");
	assert_int_equal(bench->fake.spawns, 1);
	bench_until(bench, bench->fake.hups == hups + 1);
	bench_delete(bench, "lan", NULL);
	uint64_t start;
	assert_int_equal(proc_start_time(pid, &start, &bench->err), -1);
}

static void test_restart_after_reboot(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	assert_true(bench_stored_row(bench));
	/* the same pid is a stranger in another boot: this test itself */
	bench->row.dnsmasq_pid = getpid();
	assert_int_equal(proc_start_time(getpid(), &bench->row.dnsmasq_start_time, &bench->err), 0);
	snprintf(bench->row.boot_id, sizeof(bench->row.boot_id),
		 "00000000-0000-4000-8000-000000000000");
	kill(bench->fake.spawned, SIGKILL);
	uint64_t start;
	while (proc_start_time(bench->fake.spawned, &start, &bench->err) == 0)
		usleep(500);
	bench_store_row(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->fake.spawns, 2);
	bench_assert_state(bench, "active");
}

static void test_restart_with_a_dnsmasq_that_no_row_names(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	assert_true(bench_stored_row(bench));
	bench->row.dnsmasq_pid = 0;
	bench_store_row(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->fake.spawns, 1);
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.dnsmasq_pid, bench->fake.spawned);
}

static void test_restart_undoes_and_completes(void **state)
{
	struct bench *bench = *state;
	const enum db_intent intents[] = {DB_INTENT_CREATE, DB_INTENT_DELETE};
	for (size_t i = 0; i < ARRAY_LEN(intents); i++) {
		size_t deletes = fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE);
		bench_create_ok(bench, "lan");
		pid_t pid = bench->fake.spawned;
		assert_true(bench_stored_row(bench));
		bench->row.intent = intents[i];
		if (i == 0)
			bench->row.dnsmasq_pid = 0; /* not recorded yet */
		bench_store_row(bench);
		bench_reconcile(bench);
		assert_false(bench_stored_row(bench));
		assert_false(bench_file_exists(bench, ""));
		assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE), deletes + 1);
		uint64_t start;
		assert_int_equal(proc_start_time(pid, &start, &bench->err), -1);
	}
}

/* The daemon is told to end while the other half takes its time. */
static void test_stop_in_the_middle(void **state)
{
	struct bench *bench = *state;
	const enum priv_verb verbs[] = {PRIV_BRIDGE_ENSURE, PRIV_DNSMASQ_SPAWN};
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		int before = bench->answers;
		bench->fake.silent = verbs[i];
		networks_create(bench->networks, &lan, bench_answer, bench);
		size_t asked = fake_priv_count(&bench->fake, verbs[i]);
		bench_until(bench, fake_priv_count(&bench->fake, verbs[i]) == asked + 1);
		uint64_t begun = uv_hrtime();
		bench_stop_daemon(bench);
		/* which is silent for good: who waits for it waits for a plan's deadline */
		assert_true(uv_hrtime() - begun < 10000000000u);
		assert_int_equal(bench->answers, before + 1);
		assert_int_equal(bench->err.code, ERR_CANCELLED);
		bench->fake.silent = 0;
		fake_priv_done(&bench->fake);
		bench_start_daemon(bench);
		assert_true(bench_stored_row(bench));
		assert_int_equal(bench->row.intent, DB_INTENT_CREATE);
		bench_reconcile(bench);
		assert_false(bench_stored_row(bench));
	}
	/* and while it deletes, repairs, or undoes */
	bench_create_ok(bench, "lan");
	bench->fake.silent = PRIV_BRIDGE_DELETE;
	networks_delete(bench->networks, "lan", bench_in_use_by, NULL, bench_answer, bench);
	bench_until(bench, fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE) == 3);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	networks_reconcile(bench->networks, on_reconciled, bench);
	bench_until(bench, fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE) == 4);
	bench_stop_daemon(bench);
	fake_priv_done(&bench->fake);
	bench->fake.silent = 0;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_false(bench_stored_row(bench));
	bench->fake.silent = PRIV_BRIDGE_DELETE;
	bench->fake.fail = PRIV_DNSMASQ_SPAWN;
	networks_create(bench->networks, &lan, bench_answer, bench);
	bench_until(bench, fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE) == 6);
	bench_stop_daemon(bench);
	assert_int_equal(bench->err.code, ERR_IO);
}

/* What has a bridge as its uplink takes over nothing, and has nothing to put back; also after the
 * bridge went and a plain link came by its name. */
static void test_joined_to_a_bridge(void **state)
{
	struct bench *bench = *state;
	const struct network_create office = {
		.name = "lan", .kind = DB_NETWORK_BRIDGED, .uplink = "br0"};
	bench_run("ip link add br0 type bridge && ip link set br0 up");
	bench_make(bench, &office);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(bench->fake.network.joined, 1);
	assert_string_equal(bench->fake.network.uplink, "br0");
	bench_run("ip link delete br0 && ip link add br0 type veth peer name br1");
	bench_stop_daemon(bench);
	bench->fake.network.joined = 0;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->fake.network.joined, 1);
	bench_delete(bench, "lan", NULL);
	assert_int_equal(bench->err.code, 0);
	/* an interrupted create */
	bench_run("ip link delete br0 && ip link add br0 type bridge && ip link set br0 up");
	bench_make(bench, &office);
	assert_true(bench_stored_row(bench));
	bench->row.intent = DB_INTENT_CREATE;
	bench_store_row(bench);
	const size_t deleted = fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE);
	bench_reconcile(bench);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE), deleted + 1);
	assert_false(bench_stored_row(bench));
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_UPLINK_ENSLAVE), 0);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_UPLINK_RELEASE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(test_restart_adopts),
		with_bench(test_restart_after_reboot),
		with_bench(test_restart_with_a_dnsmasq_that_no_row_names),
		with_bench(test_restart_undoes_and_completes),
		with_bench(test_stop_in_the_middle),
		with_bench_apart(test_joined_to_a_bridge),
	};
	bench_require_namespaces();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
