/* Networks that are there are changed: what is refused, what is made so, what is taken back. */
#include "bench.h"

#include "vdi-hostd/network/private.h"

#define STAYS                                                                                      \
	{                                                                                          \
		.mtu = -1, .dns = -1, .isolate_ports = -1, .source_guard = -1                      \
	}

static const struct network_create lan = {
	.name = "lan", .cidr = "10.99.7.0/24", .cidr6 = "fd00:99::/64", .mtu = 1400};

static const struct db_openings ssh = {.opening = {{DB_PROTOCOL_TCP, 22, 22}}, .n = 1};
static const struct db_openings two = {
	.opening = {{DB_PROTOCOL_UDP, 514, 514}, {DB_PROTOCOL_TCP, 8000, 8010}}, .n = 2};

static void make(struct bench *bench, const struct network_create *create)
{
	bench_make(bench, create);
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
}

static void update(struct bench *bench, const struct network_update *update)
{
	int before = bench->answers;
	networks_update(bench->networks, "lan", update, bench_answer, bench);
	bench_until(bench, bench->answers > before);
}

static void update_ok(struct bench *bench, const struct network_update *wish)
{
	update(bench, wish);
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
	assert_true(bench->has_row);
}

/* @what: the field, or a part of the message */
static void refused(struct bench *bench, const struct network_update *wish, enum err_code code,
		    const char *what)
{
	const size_t asked = bench->fake.n_asked;
	update(bench, wish);
	if (bench->err.code != code)
		fail_msg("%s: %s", err_code_name(bench->err.code), bench->err.msg);
	if (strcmp(bench->err.field, what) != 0 && !strstr(bench->err.msg, what))
		fail_msg("%s: %s", bench->err.field, bench->err.msg);
	assert_int_equal(bench->fake.n_asked, asked);
}

static void test_settings(void **state)
{
	struct bench *bench = *state;
	make(bench, &lan);
	const pid_t first = bench->fake.spawned;
	struct network_update wish = STAYS;
	wish.mtu = 1300;
	wish.dns = 0;
	wish.isolate_ports = 1;
	wish.range = "10.99.7.100-10.99.7.199";
	bench->nics[0] = (struct nic){"ada", "52:54:00:00:00:01", 0x0a630702};
	bench->n_nics = bench->n_taps = 1;
	update_ok(bench, &wish);
	assert_int_equal(bench->fake.network.mtu, 1300);
	assert_true(bench->fake.network.no_dns);
	/* who runs is told at once, and dnsmasq starts anew with other options */
	assert_int_equal(bench->fake.tap.isolated, 1);
	assert_int_equal(bench->fake.tap.mtu, 1300);
	assert_int_not_equal(bench->fake.spawned, first);
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.mtu, 1300);
	assert_int_equal(bench->row.range_first, 0x0a630764);
	assert_false(bench->row.dns);
	assert_true(bench->row.isolate_ports);
	assert_false(bench->row.dnsmasq_stale);
	/* what is not said stays */
	wish = (struct network_update)STAYS;
	wish.dns = 1;
	update_ok(bench, &wish);
	assert_int_equal(bench->row.mtu, 1300);
	assert_true(bench->row.isolate_ports);
	assert_int_equal(bench->row.range_last, 0x0a6307c7);
}

static void test_openings(void **state)
{
	struct bench *bench = *state;
	struct network_create create = lan;
	create.openings = &ssh;
	make(bench, &create);
	assert_int_equal(bench->fake.network.n_openings, 1);
	assert_int_equal(bench->fake.network.openings[0].protocol, NETCFG_TCP);
	assert_int_equal(bench->fake.network.openings[0].port_last, 22);
	struct network_update wish = STAYS;
	wish.openings = &two;
	update_ok(bench, &wish);
	assert_int_equal(bench->fake.network.n_openings, 2);
	assert_int_equal(bench->fake.network.openings[0].protocol, NETCFG_UDP);
	assert_int_equal(bench->fake.network.openings[1].port_first, 8000);
	assert_int_equal(bench->fake.network.openings[1].port_last, 8010);
	json_t *json = networks_to_json(bench->networks, &bench->row);
	_cleanup_free_ char *text = json_dumps(json_object_get(json, "openings"), JSON_SORT_KEYS);
	json_decref(json);
	assert_string_equal(text, "[{\"ports\": \"514\", \"protocol\": \"udp\"}, "
				  "{\"ports\": \"8000-8010\", \"protocol\": \"tcp\"}]");
	/* they are none of dnsmasq's business, stay when something else changes, and are kept */
	assert_int_equal(bench->fake.spawns, 1);
	wish = (struct network_update)STAYS;
	wish.mtu = 1500;
	update_ok(bench, &wish);
	assert_int_equal(bench->fake.network.n_openings, 2);
	bench_stop_daemon(bench);
	bench->fake.network.n_openings = 0;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->fake.network.n_openings, 2);
	/* and none */
	wish = (struct network_update)STAYS;
	wish.openings = &(struct db_openings){.n = 0};
	update_ok(bench, &wish);
	assert_int_equal(bench->fake.network.n_openings, 0);
	assert_int_equal(bench->row.openings.n, 0);
}

static void test_ranges(void **state)
{
	struct bench *bench = *state;
	make(bench, &lan);
	make(bench, &(struct network_create){.name = "other", .cidr = "10.99.8.0/24"});
	bench->nics[0] = (struct nic){"ada", "52:54:00:00:00:01", 0x0a630782};
	bench->n_nics = 1;
	static const struct {
		const char *cidr;
		enum err_code code;
		const char *what;
	} bad[] = {
		{"10.99.7.0/30", ERR_INVALID, "cidr"},
		{"10.99.7.1/24", ERR_INVALID, "cidr"},
		{"x", ERR_INVALID, "cidr"},
		/* the gateway is elsewhere, or no host's address there */
		{"10.98.0.0/24", ERR_INVALID, "gateway"},
		{"10.99.7.128/25", ERR_INVALID, "gateway"},
		/* so is a desktop */
		{"10.99.7.0/25", ERR_CONFLICT, "'ada'"},
		{"10.99.7.0/29", ERR_CONFLICT, "'ada'"},
		/* somebody else's */
		{"10.99.0.0/16", ERR_CONFLICT, "'other'"},
		{"10.99.6.0/23", 0, ""},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct network_update wish = STAYS;
		wish.cidr = bad[i].cidr;
		if (bad[i].code)
			refused(bench, &wish, bad[i].code, bad[i].what);
		else
			update_ok(bench, &wish);
	}
	assert_int_equal(bench->fake.network.prefix, 23);
	assert_int_equal(ntohl(bench->fake.network.address), 0x0a630701);
	struct network_update wish = STAYS;
	wish.range = "10.99.5.9-10.99.6.9";
	refused(bench, &wish, ERR_INVALID, "range");
	wish.range = "10.99.6.9-10.99.6.20";
	update_ok(bench, &wish);
	/* both at once: the new range holds what the old one does not */
	wish.cidr = "10.99.7.0/24";
	refused(bench, &wish, ERR_INVALID, "range");
	wish.range = "10.99.7.9-10.99.7.20";
	update_ok(bench, &wish);
	assert_int_equal(bench->row.prefix, 24);
}

static void test_refusals(void **state)
{
	struct bench *bench = *state;
	json_t *peers = json_pack("[s]", "192.0.2.2");
	make(bench, &lan);
	struct network_update wish = STAYS;
	wish.peers = peers;
	refused(bench, &wish, ERR_INVALID, "peers");
	wish = (struct network_update)STAYS;
	wish.mtu = 1279; /* it has IPv6 */
	refused(bench, &wish, ERR_INVALID, "mtu");
	bench_delete(bench, "lan", NULL);

	make(bench, &(struct network_create){.name = "lan", .kind = DB_NETWORK_USER});
	wish.mtu = 1400;
	refused(bench, &wish, ERR_UNSUPPORTED, "QEMU's own");
	bench_delete(bench, "lan", NULL);

	bench_run("ip link add up0 type veth peer name up1");
	make(bench, &(struct network_create){
			    .name = "lan", .kind = DB_NETWORK_BRIDGED, .uplink = "up0", .vlan = 7});
	wish = (struct network_update)STAYS;
	wish.cidr = "10.98.0.0/24";
	refused(bench, &wish, ERR_INVALID, "cidr");
	wish = (struct network_update)STAYS;
	wish.dns = 1;
	refused(bench, &wish, ERR_INVALID, "dns");
	wish = (struct network_update)STAYS;
	wish.openings = &ssh;
	refused(bench, &wish, ERR_INVALID, "openings");
	/* to none is no change */
	wish.openings = &(struct db_openings){.n = 0};
	update_ok(bench, &wish);

	networks_update(bench->networks, "nothing", &wish, bench_answer, bench);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	json_decref(peers);
}

static void test_one_at_a_time(void **state)
{
	struct bench *bench = *state;
	make(bench, &lan);
	struct network_update wish = STAYS;
	wish.mtu = 1300;
	const int before = bench->answers;
	networks_update(bench->networks, "lan", &wish, bench_answer, bench);
	bench_assert_state(bench, "changing");
	networks_update(bench->networks, "lan", &wish, bench_answer, bench);
	assert_int_equal(bench->answers, before + 1);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench_until(bench, bench->answers == before + 2);
	assert_int_equal(bench->err.code, 0);
}

static void on_forward(void *data, const struct db_forward *row, const struct err *err)
{
	bench_answer(data, NULL, err);
}

static bool is_as_before(const struct db_network *row)
{
	return row->mtu == 1400 && row->prefix == 24 && row->openings.n == 0;
}

/* Whatever step fails, the old wish is back in the database, and the network is repaired to it. */
static void test_taken_back(void **state)
{
	struct bench *bench = *state;
	const enum priv_verb verbs[] = {PRIV_BRIDGE_ENSURE,  PRIV_GROUP_ENSURE,
					PRIV_TAP_ATTACH,     PRIV_FORWARD_DELETE,
					PRIV_FORWARD_ENSURE, PRIV_DNSMASQ_SPAWN};
	json_t *groups = json_pack("[s]", "closed");
	struct network_update wish = STAYS;
	wish.mtu = 1300;
	wish.openings = &two;
	wish.cidr = "10.99.0.0/16"; /* which moves the IPv6 address of each desktop */
	make(bench, &lan);
	bench->nics[0] = (struct nic){"ada", "52:54:00:00:00:01", 0x0a630702};
	bench->n_nics = bench->n_taps = 1;
	const struct network_forward forward = {.network_id = bench->row.id,
						.mac = bench->nics[0].mac,
						.protocol = DB_PROTOCOL_TCP,
						.host_port = 8080,
						.port = 80,
						.count = 1};
	networks_set_firewall(bench->networks, "lan", groups, bench_answer, bench);
	bench_until(bench, bench->answers == 2);
	networks_forward_add(bench->networks, &forward, on_forward, bench);
	bench_until(bench, bench->answers == 3);
	assert_int_equal(bench->err.code, 0);
	bench->fake.once = true;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		bench->fake.fail = verbs[i];
		update(bench, &wish);
		assert_int_equal(bench->err.code, ERR_IO);
		assert_false(bench->has_row);
		assert_true(is_as_before(networks_find(bench->networks, "lan", NULL)));
		assert_true(bench_stored_row(bench) && is_as_before(&bench->row));
		bench_until(bench,
			    bench->fake.network.mtu == 1400 && bench_is_state(bench, "active"));
		assert_int_equal(bench->fake.network.prefix, 24);
		assert_int_equal(bench->fake.network.n_openings, 0);
		assert_int_equal(bench->fake.tap.mtu, 1400);
		assert_string_equal(fake_priv_forward(&bench->fake, AF_INET, 8080), "10.99.7.2");
		assert_string_equal(fake_priv_forward(&bench->fake, AF_INET6, 8080), "fd00:99::2");
	}
	update_ok(bench, &wish);
	assert_string_equal(fake_priv_forward(&bench->fake, AF_INET, 8080), "10.99.7.2");
	assert_string_equal(fake_priv_forward(&bench->fake, AF_INET6, 8080), "fd00:99::702");
	json_decref(groups);
}

/* The daemon ends in the middle: the wish is written down, and the next one makes it so. */
static void test_gone_on_with(void **state)
{
	struct bench *bench = *state;
	struct network_update wish = STAYS;
	wish.openings = &two;
	make(bench, &lan);
	bench->fake.silent = PRIV_BRIDGE_ENSURE;
	networks_update(bench->networks, "lan", &wish, bench_answer, bench);
	bench_until(bench, fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE) == 2);
	bench_stop_daemon(bench);
	assert_int_equal(bench->err.code, ERR_CANCELLED);
	fake_priv_done(&bench->fake);
	bench->fake.silent = 0;
	bench->fake.network.n_openings = 0;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->fake.network.n_openings, 2);
	bench_assert_state(bench, "active");
}

static void confirm(struct bench *bench)
{
	int before = bench->answers;
	networks_confirm(bench->networks, "lan", bench_answer, bench);
	bench_until(bench, bench->answers > before);
}

static void test_confirm(void **state)
{
	struct bench *bench = *state;
	const struct network_create office = {.name = "lan",
					      .kind = DB_NETWORK_BRIDGED,
					      .uplink = "up0",
					      .confirm_timeout_s = 3600};
	bench_run("ip link add up0 type veth peer name up1 && ip link set up0 up");
	make(bench, &office);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_UPLINK_ENSLAVE), 1);
	bench_assert_state(bench, "unconfirmed");
	/* twice at once: one question */
	networks_confirm(bench->networks, "lan", bench_answer, bench);
	networks_confirm(bench->networks, "lan", bench_answer, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench_until(bench, bench->answers == 3);
	assert_int_equal(bench->err.code, 0);
	bench_assert_state(bench, "active");
	assert_true(bench_stored_row(bench));
	assert_int_equal(bench->row.confirm_until, 0);
	/* once more is no question at all */
	confirm(bench);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_UPLINK_CONFIRM), 1);
	bench_delete(bench, "lan", NULL);
	confirm(bench);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	/* one whose guard has put the uplink back is taken back */
	make(bench, &office);
	bench->fake.fail = PRIV_UPLINK_CONFIRM;
	confirm(bench);
	assert_int_equal(bench->err.code, ERR_IO);
	bench_until(bench, !networks_find(bench->networks, "lan", NULL));
	assert_false(bench_stored_row(bench));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench_apart(test_settings),      with_bench_apart(test_openings),
		with_bench_apart(test_ranges),        with_bench_apart(test_refusals),
		with_bench_apart(test_one_at_a_time), with_bench_apart(test_taken_back),
		with_bench_apart(test_gone_on_with),  with_bench_apart(test_confirm),
	};
	bench_require_namespaces();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
