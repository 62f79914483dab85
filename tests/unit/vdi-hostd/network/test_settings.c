/* What may be asked of a network, and what row comes of it. */
#include "bench.h"

#include "vdi-hostd/network/private.h"

/* The row that comes of it, or the error in @bench. */
static int fill(struct bench *bench, const struct network_create *create, struct db_network *ret)
{
	struct network_create named = *create;
	named.name = create->name ? create->name : "b";
	memset(ret, 0, sizeof(*ret));
	bench->err = (struct err){0};
	return settings_fill(bench->networks, &named, ret, &bench->err);
}

/* What is refused, of one parameter. */
static void refused(struct bench *bench, const struct network_create *create, const char *field)
{
	struct db_network row;
	if (fill(bench, create, &row) == 0)
		fail_msg("%s is not refused: cidr %s range %s gateway %s cidr6 %s", field,
			 create->cidr, create->range, create->gateway, create->cidr6);
	assert_int_equal(bench->err.code, ERR_INVALID);
	assert_string_equal(bench->err.field, field);
	assert_true(bench->err.msg[0]);
}

static void test_bad_ranges(void **state)
{
	struct bench *bench = *state;
	static const char *const bad[] = {
		"", "10.98.0.0", "10.98.0.0/", "10.98.0.0/33", "10.98.0.0/2x", "10.98.0.0/-1",
		"10.98.0/24", "x/24", "/24", "fd00::/64", "10.98.0.0/24/24", " 10.98.0.0/24",
		/* inside of one */
		"10.98.0.1/24", "10.98.0.64/25",
		/* too small to have hosts, and larger than one network is */
		"10.98.0.0/30", "10.98.0.0/31", "10.98.0.0/32", "10.98.0.0/15", "10.98.0.0/8",
		"0.0.0.0/0",
		/* nobody's */
		"127.1.0.0/24", "0.0.0.0/16", "224.1.1.0/24", "255.255.255.0/24"};
	struct db_network row;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bench, &(struct network_create){.cidr = bad[i]}, "cidr");
	/* the smallest and the largest */
	assert_int_equal(fill(bench, &(struct network_create){.cidr = "10.98.0.248/29"}, &row), 0);
	assert_int_equal(row.address, 0x0a6200f9);
	assert_int_equal(row.prefix, 29);
	assert_int_equal(fill(bench, &(struct network_create){.cidr = "10.98.0.0/16"}, &row), 0);
	assert_int_equal(row.prefix, 16);
}

static void test_bad_parts_of_a_range(void **state)
{
	struct bench *bench = *state;
	static const char *const gateways[] = {
		"",          "x",       "10.98.0.0",    "10.98.0.255", "10.98.1.1",
		"127.0.0.1", "0.0.0.0", "10.98.0.1/24", "224.0.0.1",   "fd00::1"};
	static const char *const ranges[] = {"",
					     "-",
					     "10.98.0.9",
					     "10.98.0.9-",
					     "-10.98.0.9",
					     "x-y",
					     "10.98.0.9-10.98.0.8",
					     "10.98.0.0-10.98.0.9",
					     "10.98.0.9-10.98.0.255",
					     "10.98.0.9-10.98.1.9",
					     "10.97.0.9-10.98.0.9",
					     "10.98.0.9-10.98.0.10-10.98.0.11",
					     "1000000000000000.98.0.9-10.98.0.10"};
	struct db_network row;
	for (size_t i = 0; i < ARRAY_LEN(gateways); i++)
		refused(bench,
			&(struct network_create){.cidr = "10.98.0.0/24", .gateway = gateways[i]},
			"gateway");
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		refused(bench, &(struct network_create){.cidr = "10.98.0.0/24", .range = ranges[i]},
			"range");
	const struct network_create good = {
		.cidr = "10.98.0.0/24", .gateway = "10.98.0.254", .range = "10.98.0.9-10.98.0.9"};
	assert_int_equal(fill(bench, &good, &row), 0);
	assert_int_equal(row.address, 0x0a6200fe);
	assert_int_equal(row.range_first, 0x0a620009);
	assert_int_equal(row.range_last, 0x0a620009);
}

static void test_ipv6(void **state)
{
	struct bench *bench = *state;
	static const char *const bad[] = {"",           "x",         "fd00::/48", "fd00::/65",
					  "fd00::1/64", "fe80::/64", "ff02::/64", "::/64",
					  "10.0.0.0/8", "fd00::",    "Auto"};
	struct db_network row, other;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bench, &(struct network_create){.cidr6 = bad[i]}, "cidr6");
	refused(bench, &(struct network_create){.cidr6 = "auto", .mtu = 1279}, "mtu");
	assert_int_equal(fill(bench,
			      &(struct network_create){.cidr6 = "fd00:1:2:3::/64", .mtu = 1280},
			      &row),
			 0);
	assert_string_equal(row.address6, "fd00:1:2:3::1");
	assert_int_equal(fill(bench, &(struct network_create){.cidr6 = "2001:db8::/64"}, &row), 0);
	/* random ones are of RFC 4193, and two */
	assert_int_equal(fill(bench, &(struct network_create){.cidr6 = "auto"}, &row), 0);
	assert_int_equal(fill(bench, &(struct network_create){.cidr6 = "auto"}, &other), 0);
	assert_memory_equal(row.address6, "fd", 2);
	assert_string_not_equal(row.address6, other.address6);
}

static void test_overlaps(void **state)
{
	struct bench *bench = *state;
	static const struct network_create others[] = {{.cidr = "10.99.7.0/24"},
						       {.cidr = "10.99.7.128/25"},
						       {.cidr = "10.99.7.0/29"},
						       {.cidr = "10.99.0.0/16"},
						       {.cidr6 = "fd00:99::/64"}};
	struct db_network row;
	bench_make(bench, &(struct network_create){
				  .name = "lan", .cidr = "10.99.7.0/24", .cidr6 = "fd00:99::/64"});
	assert_int_equal(bench->err.code, 0);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		assert_int_equal(fill(bench, &others[i], &row), -1);
		assert_int_equal(bench->err.code, ERR_CONFLICT);
		assert_non_null(strstr(bench->err.msg, "'lan'"));
	}
	assert_int_equal(
		fill(bench,
		     &(struct network_create){.cidr = "10.99.8.0/24", .cidr6 = "fd00:99:0:1::/64"},
		     &row),
		0);
	assert_int_equal(row.slot, 2);
	assert_int_equal(fill(bench, &(struct network_create){.name = "lan"}, &row), -1);
	assert_int_equal(bench->err.code, ERR_EXISTS);
	assert_null(networks_find(bench->networks, "b", NULL));
}

static void test_vxlan(void **state)
{
	struct bench *bench = *state;
	json_t *peers = json_pack("[s, s]", "192.0.2.2", "192.0.2.3");
	json_t *own = json_pack("[s]", "192.0.2.1"), *none = json_array();
	json_t *bad = json_pack("[s]", "x"), *many = json_array();
	struct db_network row;
	for (int i = 0; i <= PRIV_PEERS_MAX; i++)
		json_array_append_new(many, json_string("192.0.2.2"));
	const struct network_create good = {
		.vni = 77, .underlay = "192.0.2.1", .peers = peers, .vxlan_port = 0};
	struct network_create one = {.peers = peers};
	refused(bench, &one, "vni");
	refused(bench, &(struct network_create){.underlay = "192.0.2.1"}, "vni");
	refused(bench, &(struct network_create){.vni = 77, .peers = peers}, "underlay");
	refused(bench, &(struct network_create){.vni = 77, .underlay = "192.0.2.1"}, "peers");
	one = good;
	one.underlay = "x";
	refused(bench, &one, "underlay");
	json_t *const lists[] = {own, none, bad, many};
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		one = good;
		one.peers = lists[i];
		refused(bench, &one, "peers");
	}
	assert_int_equal(fill(bench, &good, &row), 0);
	assert_string_equal(row.peers, "192.0.2.2,192.0.2.3");
	assert_int_equal(row.vxlan_port, 4789);
	/* as many as there may be, of as many characters */
	json_array_clear(many);
	for (int i = 0; i < PRIV_PEERS_MAX; i++)
		json_array_append_new(many, json_string("192.100.200.222"));
	one = good;
	one.peers = many;
	assert_int_equal(fill(bench, &one, &row), 0);
	assert_int_equal(strlen(row.peers), DB_NETWORK_PEERS_MAX);
	json_decref(peers);
	json_decref(own);
	json_decref(none);
	json_decref(bad);
	json_decref(many);
}

/* Each kind refuses what is not its own. */
static void test_kinds(void **state)
{
	struct bench *bench = *state;
	const struct db_openings openings = {.opening = {{DB_PROTOCOL_TCP, 22, 22}}, .n = 1};
	const struct {
		struct network_create create;
		const char *field;
	} rows[] = {
		{{.kind = DB_NETWORK_NAT, .uplink = "up0"}, "uplink"},
		{{.kind = DB_NETWORK_ISOLATED, .uplink = "up0"}, "uplink"},
		{{.kind = DB_NETWORK_ROUTED, .vlan = 7}, "vlan"},
		{{.kind = DB_NETWORK_USER, .cidr = "10.98.0.0/24"}, "cidr"},
		{{.kind = DB_NETWORK_USER, .cidr6 = "auto"}, "cidr6"},
		{{.kind = DB_NETWORK_USER, .range = "10.98.0.9-10.98.0.10"}, "range"},
		{{.kind = DB_NETWORK_USER, .gateway = "10.98.0.1"}, "gateway"},
		{{.kind = DB_NETWORK_USER, .vni = 5}, "vni"},
		{{.kind = DB_NETWORK_USER, .uplink = "up0"}, "uplink"},
		{{.kind = DB_NETWORK_USER, .openings = &openings}, "openings"},
		{{.kind = DB_NETWORK_BRIDGED}, "uplink"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "nothing0"}, "uplink"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "lo"}, "uplink"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "vdibr1"}, "uplink"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "a/b"}, "uplink"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "sixteen-letters0"}, "uplink"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "up0", .cidr = "10.98.0.0/24"}, "cidr"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "up0", .cidr6 = "auto"}, "cidr6"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "up0", .gateway = "10.9.8.1"}, "gateway"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "up0", .vni = 5}, "vni"},
		{{.kind = DB_NETWORK_BRIDGED, .uplink = "up0", .openings = &openings}, "openings"},
	};
	struct db_network row;
	bench_run("ip link add up0 type veth peer name up1");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		refused(bench, &rows[i].create, rows[i].field);
	struct network_create good = {.kind = DB_NETWORK_ISOLATED, .openings = &openings};
	assert_int_equal(fill(bench, &good, &row), 0);
	assert_memory_equal(&row.openings, &openings, sizeof(openings));
	good = (struct network_create){.kind = DB_NETWORK_BRIDGED, .uplink = "up0"};
	assert_int_equal(fill(bench, &good, &row), 0);
	assert_true(row.confirm_until > str_now_ms());
	good.vlan = 7;
	assert_int_equal(fill(bench, &good, &row), 0);
	assert_int_equal(row.confirm_until, 0);
	bench->fake.rootless = true;
	assert_int_equal(fill(bench, &(struct network_create){.cidr = NULL}, &row), -1);
	assert_int_equal(bench->err.code, ERR_UNSUPPORTED);
	assert_int_equal(fill(bench, &(struct network_create){.kind = DB_NETWORK_USER}, &row), 0);
}

/* An uplink that is a bridge, and one that is a port of one. */
static void test_bridges(void **state)
{
	struct bench *bench = *state;
	struct db_network row;
	struct network_create create = {.kind = DB_NETWORK_BRIDGED, .uplink = "br9"};
	bench_run("ip link add br9 type bridge && ip link add up0 type veth peer name up1 && "
		  "ip link set up0 master br9");
	/* nothing of the host's moves, so nothing has to be confirmed */
	create.confirm_timeout_s = 60;
	assert_int_equal(fill(bench, &create, &row), 0);
	assert_true(row.joined);
	assert_int_equal(row.confirm_until, 0);
	/* how a VLAN of it is had is seen when it is made */
	create.vlan = 7;
	assert_int_equal(fill(bench, &create, &row), 0);
	assert_false(row.joined);
	assert_int_equal(row.confirm_until, 0);
	/* a port of somebody else's is not taken away from it */
	create = (struct network_create){.kind = DB_NETWORK_BRIDGED, .uplink = "up0"};
	assert_int_equal(fill(bench, &create, &row), -1);
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "make that the uplink: br9"));
	create.vlan = 7;
	assert_int_equal(fill(bench, &create, &row), 0);
	assert_false(row.joined);
	/* nor is one of ours an uplink */
	bench_create(bench, "lan", DB_NETWORK_NAT, "10.98.0.0/24");
	create = (struct network_create){.kind = DB_NETWORK_BRIDGED, .uplink = "vdibr1"};
	refused(bench, &create, "uplink");
	assert_non_null(strstr(bench->err.msg, "the bridge of network 'lan'; put desktops on"));
	create.uplink = "vdidn1";
	refused(bench, &create, "uplink");
	/* one bridge for several networks */
	bench_run("ip link set br9 up");
	create =
		(struct network_create){.name = "one", .kind = DB_NETWORK_BRIDGED, .uplink = "br9"};
	bench_make(bench, &create);
	assert_int_equal(bench->err.code, 0);
	assert_true(bench->row.joined);
	create.name = "two";
	assert_int_equal(fill(bench, &create, &row), 0);
	create.vlan = 7;
	bench_make(bench, &create);
	assert_int_equal(bench->err.code, 0);
	create.name = "three";
	assert_int_equal(fill(bench, &create, &row), -1);
	assert_int_equal(bench->err.code, ERR_CONFLICT);
}

/* Nothing is begun for what is refused. */
static void test_nothing_is_asked(void **state)
{
	struct bench *bench = *state;
	bench_create(bench, "b", DB_NETWORK_NAT, "10.98.0.0/30");
	assert_int_equal(bench->err.code, ERR_INVALID);
	assert_int_equal(bench->fake.n_asked, 0);
	assert_null(networks_find(bench->networks, "b", &bench->err));
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	assert_false(bench_stored_row(bench));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench_apart(test_bad_ranges), with_bench_apart(test_bad_parts_of_a_range),
		with_bench_apart(test_ipv6),       with_bench_apart(test_overlaps),
		with_bench_apart(test_vxlan),      with_bench_apart(test_kinds),
		with_bench_apart(test_bridges),    with_bench_apart(test_nothing_is_asked),
	};
	bench_require_namespaces();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
