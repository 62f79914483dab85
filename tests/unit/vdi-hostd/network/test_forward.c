/* Port forwards of both families: told to the kernel, moved, taken away, also half-way. */
#include "bench.h"

#include <arpa/inet.h>

#include "vdi-hostd/db/forward.h"

#define MAC "52:54:00:00:00:01"

static void make_lan(struct bench *bench, const char *cidr6)
{
	bench_make(bench,
		   &(struct network_create){.name = "lan", .cidr = "10.99.7.0/24", .cidr6 = cidr6});
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
	bench->nics[0] = (struct nic){"ada", MAC, 0x0a630702};
	bench->n_nics = 1;
	bench->fake.once = true;
}

static void on_forward(void *data, const struct db_forward *row, const struct err *err)
{
	bench_answer(data, NULL, err);
}

/* and wait for the answer */
static void add(struct bench *bench, const char *host, int64_t port)
{
	const int before = bench->answers;
	const struct network_forward forward = {.network_id = bench->row.id,
						.mac = MAC,
						.protocol = DB_PROTOCOL_TCP,
						.host_address = host,
						.host_port = port,
						.port = 80,
						.count = 2};
	networks_forward_add(bench->networks, &forward, on_forward, bench);
	bench_until(bench, bench->answers > before);
}

static void add_ok(struct bench *bench, const char *host, int64_t port)
{
	add(bench, host, port);
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
}

static int keep(void *data, const struct db_forward *row)
{
	*(struct db_forward *)data = *row;
	return 0;
}

/* The last one in the database; false: there is none. */
static bool stored(struct bench *bench, struct db_forward *ret)
{
	memset(ret, 0, sizeof(*ret));
	assert_int_equal(db_forward_each(bench->db, keep, ret, &bench->err), 0);
	return ret->id[0] != '\0';
}

static void drop(struct bench *bench)
{
	struct db_forward row;
	const int before = bench->answers;
	assert_true(stored(bench, &row));
	networks_forward_delete(bench->networks, row.id, on_forward, bench);
	bench_until(bench, bench->answers > before);
}

/* In the kernel, and in the row: "" for nowhere. */
static void assert_leads(struct bench *bench, const char *v4, const char *v6)
{
	struct db_forward row;
	char ip[INET_ADDRSTRLEN] = "";
	assert_string_equal(fake_priv_forward(&bench->fake, AF_INET, 8081), v4);
	assert_string_equal(fake_priv_forward(&bench->fake, AF_INET6, 8081), v6);
	if (!stored(bench, &row)) {
		assert_string_equal(v4, "");
		assert_string_equal(v6, "");
		return;
	}
	const struct in_addr in = {htonl(row.to.v4)};
	if (row.to.v4)
		inet_ntop(AF_INET, &in, ip, sizeof(ip));
	assert_string_equal(ip, v4);
	assert_string_equal(row.to.v6, v6);
}

static void count(void *data, const struct db_forward *row)
{
	++*(size_t *)data;
}

static size_t shown(struct bench *bench)
{
	size_t n = 0;
	networks_forward_each(bench->networks, NULL, count, &n);
	return n;
}

static bool leads(const struct bench *bench, int family, const char *where)
{
	return strcmp(fake_priv_forward(&bench->fake, family, 8081), where) == 0;
}

static void test_families(void **state)
{
	struct bench *bench = *state;
	make_lan(bench, "fd00:99::/64");
	add_ok(bench, NULL, 8080);
	assert_leads(bench, "10.99.7.2", "fd00:99::2");
	assert_int_equal(bench->fake.forwards[0].host.family, 0);
	assert_int_equal(bench->fake.forwards[1].host.family, 0);
	assert_int_equal(bench->fake.forwards[1].port_last, 8081);
	drop(bench);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(bench->fake.n_forwards, 0);
	assert_int_equal(shown(bench), 0);
	add_ok(bench, "192.0.2.1", 8080);
	assert_leads(bench, "10.99.7.2", "");
	assert_int_equal(bench->fake.forwards[0].host.family, AF_INET);
	drop(bench);
	add_ok(bench, "2001:DB8::1", 8080);
	assert_leads(bench, "", "fd00:99::2");
	assert_int_equal(bench->fake.forwards[0].host.family, AF_INET6);
	drop(bench);
	assert_int_equal(bench->fake.n_forwards, 0);
}

static void test_without_ipv6(void **state)
{
	struct bench *bench = *state;
	make_lan(bench, NULL);
	add(bench, "2001:db8::1", 8080);
	assert_int_equal(bench->err.code, ERR_INVALID);
	assert_string_equal(bench->err.field, "host_address");
	add_ok(bench, NULL, 8080);
	assert_leads(bench, "10.99.7.2", "");
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_FORWARD_ENSURE), 1);
}

static void test_it_moves_and_goes_with_its_nic(void **state)
{
	struct bench *bench = *state;
	struct db_forward row;
	make_lan(bench, "fd00:99::/64");
	add_ok(bench, NULL, 8080);
	bench->nics[0].ip = 0x0a630709;
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	bench_until(bench, leads(bench, AF_INET6, "fd00:99::9"));
	assert_leads(bench, "10.99.7.9", "fd00:99::9");
	assert_int_equal(bench->fake.n_forwards, 2);
	bench->n_nics = 0;
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	bench_until(bench, !stored(bench, &row));
	assert_leads(bench, "", "");
	assert_int_equal(bench->fake.n_forwards, 0);
	assert_int_equal(shown(bench), 0);
}

/* One made for IPv4 alone, by a daemon of before, leads over IPv6 as well from the next start on.
 */
static void test_after_an_upgrade(void **state)
{
	struct bench *bench = *state;
	struct db_forward row = {.id = "f",
				 .mac = MAC,
				 .protocol = DB_PROTOCOL_TCP,
				 .host_port = 8080,
				 .port = 80,
				 .count = 2,
				 .to = {0x0a630702, ""}};
	make_lan(bench, "fd00:99::/64");
	memcpy(row.network_id, bench->row.id, sizeof(row.network_id));
	assert_int_equal(db_forward_insert(bench->db, &row, &bench->err), 0);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_leads(bench, "10.99.7.2", "fd00:99::2");
}

/* The rules of one family could be made, those of the other not: none of it stays. */
static void test_add_fails(void **state)
{
	struct bench *bench = *state;
	static const int families[] = {AF_INET, AF_INET6};
	struct db_forward row;
	make_lan(bench, "fd00:99::/64");
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		bench->fake.family = families[i];
		bench->fake.fail = PRIV_FORWARD_ENSURE;
		add(bench, NULL, 8080);
		assert_int_equal(bench->err.code, ERR_IO);
		/* to whoever looks it is gone already */
		assert_int_equal(shown(bench), 0);
		bench_until(bench, !stored(bench, &row) && bench_is_state(bench, "active"));
		assert_int_equal(bench->fake.n_forwards, 0);
	}
	/* a step before has failed: not even begun */
	bench->fake.family = 0;
	bench->fake.fail = PRIV_BRIDGE_ENSURE;
	add(bench, NULL, 8080);
	assert_int_equal(bench->err.code, ERR_IO);
	bench_until(bench, !stored(bench, &row) && bench_is_state(bench, "active"));
	add_ok(bench, NULL, 8080);
	assert_leads(bench, "10.99.7.2", "fd00:99::2");
}

/* It could be taken away of one family alone: it is there still, and whole. */
static void test_delete_fails(void **state)
{
	struct bench *bench = *state;
	static const int families[] = {AF_INET, AF_INET6};
	make_lan(bench, "fd00:99::/64");
	add_ok(bench, NULL, 8080);
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		bench->fake.family = families[i];
		bench->fake.fail = PRIV_FORWARD_DELETE;
		drop(bench);
		assert_int_equal(bench->err.code, ERR_IO);
		assert_int_equal(shown(bench), 1);
		bench_until(bench, bench->fake.n_forwards == 2 && bench_is_state(bench, "active"));
		assert_leads(bench, "10.99.7.2", "fd00:99::2");
	}
	drop(bench);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(bench->fake.n_forwards, 0);
	networks_forward_delete(bench->networks, "nothing", on_forward, bench);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
}

/* The daemon ends between the rules of one family and those of the other. */
static void test_restart_in_between(void **state)
{
	struct bench *bench = *state;
	static const enum priv_verb verbs[] = {PRIV_FORWARD_ENSURE, PRIV_FORWARD_DELETE};
	make_lan(bench, "fd00:99::/64");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		const struct network_forward forward = {.network_id = bench->row.id,
							.mac = MAC,
							.protocol = DB_PROTOCOL_TCP,
							.host_port = 8080,
							.port = 80,
							.count = 2};
		struct db_forward row;
		bench->fake.family = AF_INET6;
		bench->fake.silent = verbs[i];
		if (verbs[i] == PRIV_FORWARD_ENSURE)
			networks_forward_add(bench->networks, &forward, on_forward, bench);
		else if (stored(bench, &row))
			networks_forward_delete(bench->networks, row.id, on_forward, bench);
		bench_until(bench, fake_priv_count(&bench->fake, verbs[i]) % 2 == 0 &&
					   fake_priv_count(&bench->fake, verbs[i]) > 0);
		assert_string_equal(fake_priv_forward(&bench->fake, AF_INET, 8080),
				    verbs[i] == PRIV_FORWARD_ENSURE ? "10.99.7.2" : "");
		bench_stop_daemon(bench);
		assert_int_equal(bench->err.code, ERR_CANCELLED);
		fake_priv_done(&bench->fake);
		bench->fake.silent = 0;
		bench_start_daemon(bench);
		bench_reconcile(bench);
		assert_leads(bench, "10.99.7.2", "fd00:99::2");
		assert_int_equal(bench->fake.n_forwards, 2);
	}
}

/* NICs come and go while one is being deleted: what went of it does not come back by that. */
static void test_settled_while_it_goes(void **state)
{
	struct bench *bench = *state;
	struct db_forward row;
	make_lan(bench, "fd00:99::/64");
	add_ok(bench, NULL, 8080);
	assert_true(stored(bench, &row));
	bench->fake.family = AF_INET6;
	bench->fake.silent = PRIV_FORWARD_DELETE;
	networks_forward_delete(bench->networks, row.id, on_forward, bench);
	bench_until(bench, fake_priv_count(&bench->fake, PRIV_FORWARD_DELETE) == 2);
	assert_true(leads(bench, AF_INET, ""));
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	for (int i = 0; i < 20; i++)
		uv_run(&bench->loop, UV_RUN_NOWAIT);
	assert_true(leads(bench, AF_INET, ""));
	bench_stop_daemon(bench);
	fake_priv_done(&bench->fake);
}

static void test_conflicts(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *host;
		int64_t port;
		bool refused;
	} rows[] = {
		{NULL, 8080, false},
		/* two ports each */
		{NULL, 8079, true},
		{NULL, 8081, true},
		{NULL, 8082, false},
		{"192.0.2.1", 8081, true},
		{"2001:db8::1", 8081, true},
		{"192.0.2.1", 9000, false},
		{"2001:db8::1", 9000, false},
		{"192.0.2.2", 9000, false},
		{"2001:db8::2", 9000, false},
		{"2001:db8:0::2", 9001, true},
		{"192.0.2.2", 9001, true},
		{NULL, 9001, true},
	};
	make_lan(bench, "fd00:99::/64");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		add(bench, rows[i].host, rows[i].port);
		assert_int_equal(bench->err.code, rows[i].refused ? ERR_CONFLICT : 0);
		if (rows[i].refused)
			assert_non_null(strstr(bench->err.msg, "'ada'"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench_apart(test_families),
		with_bench_apart(test_without_ipv6),
		with_bench_apart(test_it_moves_and_goes_with_its_nic),
		with_bench_apart(test_after_an_upgrade),
		with_bench_apart(test_add_fails),
		with_bench_apart(test_delete_fails),
		with_bench_apart(test_restart_in_between),
		with_bench_apart(test_settled_while_it_goes),
		with_bench_apart(test_conflicts),
	};
	bench_require_namespaces();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
