/* Ranges and addresses are given once. */
#include "bench.h"

#include <sched.h>

static void test_addresses(void **state)
{
	struct bench *bench = *state;
	uint32_t ip;
	bench_create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/29");
	const struct db_network *row = networks_find(bench->networks, "lan", NULL);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(
			networks_pick_address(bench->networks, row, NULL, &ip, &bench->err), 0);
		assert_int_equal(ip, 0x0a630702 + i);
		bench->nics[bench->n_nics++] = (struct nic){"n", "52:54:00:00:00:01", ip};
	}
	assert_int_equal(networks_pick_address(bench->networks, row, NULL, &ip, &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_LIMIT);
	/* one that is leased still is the last choice */
	bench->n_nics = 1;
	bench_write_leases(bench, "0 52:54:00:00:00:77 10.99.7.3 gone *\n"
				  "1000 52:54:00:00:00:78 10.99.7.4 long-ago *\n"
				  "rubbish\nduid 00:01\n");
	assert_int_equal(networks_pick_address(bench->networks, row, NULL, &ip, &bench->err), 0);
	assert_int_equal(ip, 0x0a630704);
	bench->n_nics = 0;
	bench->nics[bench->n_nics++] = (struct nic){"n", "52:54:00:00:00:01", 0x0a630702};
	for (uint32_t at = 4; at < 7; at++)
		bench->nics[bench->n_nics++] =
			(struct nic){"n", "52:54:00:00:00:01", 0x0a630700 + at};
	assert_int_equal(networks_pick_address(bench->networks, row, NULL, &ip, &bench->err), 0);
	assert_int_equal(ip, 0x0a630703);
}

static void test_ranges_are_apart(void **state)
{
	struct bench *bench = *state;
	uint32_t addresses[3];
	for (int i = 0; i < 3; i++) {
		char name[8];
		snprintf(name, sizeof(name), "lan%d", i);
		bench_create_ok(bench, name);
		assert_int_equal(bench->row.slot, i + 1);
		addresses[i] = bench->row.address;
		assert_int_equal(addresses[i] >> 24, 10);
		assert_int_equal(addresses[i] & 0xff, 1);
	}
	assert_int_not_equal(addresses[0], addresses[1]);
	assert_int_not_equal(addresses[1], addresses[2]);
	/* a slot and a range that are free again are used again */
	bench_delete(bench, "lan1", NULL);
	bench_create_ok(bench, "again");
	assert_int_equal(bench->row.slot, 2);
	assert_int_equal(bench->row.address, addresses[1]);
}

static void test_ranges_of_the_host_are_avoided(void **state)
{
	struct bench *bench = *state;
	if (unshare(CLONE_NEWNET) < 0)
		skip();
	assert_int_equal(system("ip link set lo up && ip link add eth0 type bridge &&"
				" ip addr add 10.80.0.7/24 dev eth0 && ip link set eth0 up &&"
				" ip route add blackhole 10.80.1.0/24"),
			 0);
	bench_create_ok(bench, "lan");
	assert_int_equal(bench->row.address, 0x0a500201);
	bench_create(bench, "b", DB_NETWORK_NAT, "10.80.0.0/25");
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "eth0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(test_addresses),
		with_bench(test_ranges_are_apart),
		with_bench(test_ranges_of_the_host_are_avoided),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
