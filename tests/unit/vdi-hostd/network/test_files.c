/* What dnsmasq is given to read, and what it writes. */
#include "bench.h"

#include <signal.h>
#include <sys/stat.h>

static void test_hosts_file(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	uint32_t net = bench->row.address & ~0xffu;
	int hups = bench->fake.hups;
	bench->nics[0] = (struct nic){"one", "52:54:00:00:00:01", net + 2};
	bench->nics[1] = (struct nic){"two", "52:54:00:00:00:02", net + 9};
	bench->n_nics = 2;
	assert_int_equal(networks_hosts_changed(bench->networks, bench->row.id, &bench->err), 0);
	bench_until(bench, bench->fake.hups == hups + 1);
	_cleanup_free_ char *text = bench_read(bench, "hosts");
	char want[128];
	snprintf(want, sizeof(want),
		 "52:54:00:00:00:01,10.%u.%u.2,one\n52:54:00:00:00:02,10.%u.%u.9,two\n",
		 net >> 16 & 0xff, net >> 8 & 0xff, net >> 16 & 0xff, net >> 8 & 0xff);
	assert_string_equal(text, want);
	assert_false(bench_file_exists(bench, "hosts.new"));
	assert_int_equal(networks_hosts_changed(bench->networks, "nothing", &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);

	/* a folder that cannot be written says so, and the old file stays whole */
	char path[128];
	snprintf(path, sizeof(path), "%s/networks/1/hosts.new", bench->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), -1);
	_cleanup_free_ char *still = bench_read(bench, "hosts");
	assert_string_equal(still, want);
	rmdir(path);
}

static void test_leases(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	const struct db_network *row = networks_find(bench->networks, "lan", NULL);
	json_t *leases = networks_leases(bench->networks, row, &bench->err);
	assert_int_equal(json_array_size(leases), 0);
	json_decref(leases);
	bench_write_leases(bench,
			   "4102444800 52:54:00:00:00:01 10.99.7.2 one 01:52:54:00:00:00:01\n"
			   "4102444800 52:54:00:00:00:02 10.99.7.3 * *\n"
			   "4102444800 52:54:00:00:00:03 10.99.7.4 \xff\xfe *\n"
			   "1 52:54:00:00:00:04 10.99.7.5 expired *\n"
			   "4102444800 52:54:00:00:00:05 10.99.7 short *\n\n");
	leases = networks_leases(bench->networks, row, &bench->err);
	assert_int_equal(json_array_size(leases), 3);
	json_t *one = json_array_get(leases, 0);
	assert_string_equal(json_string_value(json_object_get(one, "hostname")), "one");
	assert_string_equal(json_string_value(json_object_get(one, "mac")), "52:54:00:00:00:01");
	assert_string_equal(json_string_value(json_object_get(one, "ip")), "10.99.7.2");
	assert_string_equal(json_string_value(json_object_get(one, "expires_at")),
			    "2100-01-01T00:00:00.000Z");
	assert_true(json_is_null(json_object_get(json_array_get(leases, 1), "hostname")));
	assert_true(json_is_null(json_object_get(json_array_get(leases, 2), "hostname")));
	json_decref(leases);
}

/* An address that a desktop of before had must not be kept from the one that has it now. */
static void test_stale_leases_are_forgotten(void **state)
{
	struct bench *bench = *state;
	bench_create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/24");
	pid_t first = bench->fake.spawned;
	bench->nics[0] = (struct nic){"one", "52:54:00:00:00:01", 0x0a630702};
	bench->nics[1] = (struct nic){"two", "52:54:00:00:00:02", 0x0a630703};
	bench->n_nics = 2;
	bench_write_leases(bench, "4102444800 52:54:00:00:00:99 10.99.7.2 old *\n"
				  "4102444800 52:54:00:00:00:02 10.99.7.3 two *\n");
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	bench_until(bench, bench->fake.spawns == 2 && bench_is_state(bench, "active"));
	assert_int_not_equal(first, bench->fake.spawned);
	_cleanup_free_ char *text = bench_read(bench, "leases");
	assert_string_equal(text, "4102444800 52:54:00:00:00:02 10.99.7.3 two *\n");
	/* and now a change is a matter of SIGHUP again */
	int hups = bench->fake.hups;
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	bench_until(bench, bench->fake.hups == hups + 1);
	assert_int_equal(bench->fake.spawns, 2);
}

static void test_dnsmasq_is_started_again(void **state)
{
	struct bench *bench = *state;
	bench_create_ok(bench, "lan");
	kill(bench->fake.spawned, SIGKILL);
	bench_until(bench, bench_is_state(bench, "degraded"));
	bench_until(bench, bench->fake.spawns == 2 && bench_is_state(bench, "active"));
	/* the bridge is looked after as well */
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE), 2);
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.dnsmasq_pid, bench->fake.spawned);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(test_hosts_file),
		with_bench(test_leases),
		with_bench(test_stale_leases_are_forgotten),
		with_bench(test_dnsmasq_is_started_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
