/* Networks are made, deleted, and repaired. */
#include "bench.h"

#include <signal.h>

#include "base/proc.h"

static const struct network_create lan = {.name = "lan", .kind = DB_NETWORK_NAT};

static void test_create(void **state)
{
	struct bench *bench = *state;
	bench_create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/24");
	assert_int_equal(bench->err.code, 0);
	assert_true(bench->has_row);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE), 1);
	assert_int_equal(bench->fake.spawns, 1);
	assert_int_equal(bench->fake.network.kind, PRIV_NETWORK_NAT);
	assert_int_equal(bench->fake.network.prefix, 24);
	assert_int_equal(bench->fake.network.slot, 1);
	assert_int_equal(ntohl(bench->fake.network.address), 0x0a630701);
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.intent, DB_INTENT_NONE);
	assert_int_equal(bench->row.dnsmasq_pid, bench->fake.spawned);
	assert_true(bench_file_exists(bench, "hosts"));
	json_t *json = networks_to_json(bench->networks, &bench->row);
	assert_string_equal(json_string_value(json_object_get(json, "state")), "active");
	assert_string_equal(json_string_value(json_object_get(json, "kind")), "nat");
	assert_string_equal(json_string_value(json_object_get(json, "cidr")), "10.99.7.0/24");
	assert_string_equal(json_string_value(json_object_get(json, "gateway")), "10.99.7.1");
	assert_string_equal(json_string_value(json_object_get(json, "bridge")), "vdibr1");
	json_decref(json);
	assert_non_null(networks_find(bench->networks, bench->row.id, NULL));
}

static void test_kind_user_has_no_kernel_part(void **state)
{
	struct bench *bench = *state;
	bench->fake.rootless = true;
	bench_create(bench, "lan", DB_NETWORK_USER, NULL);
	assert_int_equal(bench->err.code, 0);
	json_t *json = networks_to_json(bench->networks, &bench->row);
	assert_true(json_is_null(json_object_get(json, "cidr")));
	assert_true(json_is_null(json_object_get(json, "bridge")));
	json_decref(json);
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	bench_assert_state(bench, "active");
	bench_delete(bench, "lan", NULL);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(bench->fake.n_asked, 0);
	assert_false(bench_stored_row(bench));
}

static void test_create_is_undone(void **state)
{
	struct bench *bench = *state;
	const enum priv_verb verbs[] = {PRIV_BRIDGE_ENSURE, PRIV_DNSMASQ_SPAWN};
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		size_t deletes = fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE);
		bench->fake.fail = verbs[i];
		bench_create(bench, "lan", DB_NETWORK_NAT, NULL);
		assert_int_equal(bench->err.code, ERR_IO);
		assert_false(bench->has_row);
		assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE), deletes + 1);
		assert_null(networks_find(bench->networks, "lan", NULL));
		assert_false(bench_stored_row(bench));
		assert_false(bench_file_exists(bench, ""));
	}
	/* one that ends as it starts, such as when its port is taken */
	bench->fake.fail = 0;
	bench->fake.dies = true;
	bench_create(bench, "lan", DB_NETWORK_NAT, NULL);
	assert_int_equal(bench->err.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(bench->err.msg, "dnsmasq"));
	assert_false(bench_stored_row(bench));
	bench->fake.dies = false;
	bench_create_ok(bench, "lan");
}

static void test_delete(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	pid_t pid = bench->fake.spawned;
	bench_delete(bench, "lan", "desk-1");
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "desk-1"));
	assert_int_equal(bench->fake.kills, 0);
	bench_delete(bench, "nothing", NULL);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	bench_delete(bench, bench->row.id, NULL);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE), 1);
	assert_false(bench_stored_row(bench));
	assert_false(bench_file_exists(bench, ""));
	uint64_t start;
	assert_int_equal(proc_start_time(pid, &start, &bench->err), -1);
}

static void test_delete_that_fails_goes_on_later(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	bench->fake.fail = PRIV_BRIDGE_DELETE;
	bench_delete(bench, "lan", NULL);
	assert_int_equal(bench->err.code, ERR_IO);
	bench_assert_state(bench, "degraded");
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.intent, DB_INTENT_DELETE);
	uint32_t ip;
	assert_int_equal(networks_pick_address(bench->networks,
					       networks_find(bench->networks, "lan", NULL), NULL,
					       &ip, &bench->err),
			 -1);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench->fake.fail = 0;
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_false(bench_stored_row(bench));
	assert_null(networks_find(bench->networks, "lan", NULL));
}

static void test_one_change_at_a_time(void **state)
{
	struct bench *bench = *state;
	networks_create(bench->networks, &lan, bench_answer, bench);
	bench_delete(bench, "lan", NULL);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench_until(bench, bench->answers == 2);
	assert_int_equal(bench->err.code, 0);
}

static void test_repair_is_tried_again(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	bench->fake.fail = PRIV_BRIDGE_ENSURE;
	kill(bench->fake.spawned, SIGKILL);
	bench_until(bench, fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE) == 3);
	bench_assert_state(bench, "degraded");
	bench->fake.fail = 0;
	bench_until(bench, bench_is_state(bench, "active"));
	/* one that is wanted no more is not put back */
	kill(bench->fake.spawned, SIGKILL);
	bench_until(bench, bench_is_state(bench, "degraded"));
	bench_delete(bench, "lan", NULL);
	assert_int_equal(bench->err.code, 0);
	int spawns = bench->fake.spawns;
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->fake.spawns, spawns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(test_create),
		with_bench(test_kind_user_has_no_kernel_part),
		with_bench(test_create_is_undone),
		with_bench(test_delete),
		with_bench(test_delete_that_fails_goes_on_later),
		with_bench(test_one_change_at_a_time),
		with_bench(test_repair_is_tried_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
