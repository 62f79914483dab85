/* What belongs to networks: settings, uplinks, forwards, reservations, firewall groups. */
#include "fixture.h"

#include "vdi-hostd/db/firewall.h"
#include "vdi-hostd/db/forward.h"
#include "vdi-hostd/db/reservation.h"

static int keep_network(void *data, const struct db_network *row)
{
	*(struct db_network *)data = *row;
	return 0;
}

static void settings(void **state)
{
	struct fixture *f = *state;
	struct db_network a = a_network("a", "lan", 1), got;
	memset(&got, 0, sizeof(got));
	a.kind = DB_NETWORK_ROUTED;
	a.range_first = 0xfffffff0;
	a.range_last = 0xfffffff8;
	snprintf(a.address6, sizeof(a.address6), "fd00:1:2:3::1");
	a.mtu = 9000;
	a.vlan = 4094;
	snprintf(a.uplink, sizeof(a.uplink), "enp3s0f0np0-abc");
	a.vni = 16777215;
	snprintf(a.underlay, sizeof(a.underlay), "192.0.2.111");
	a.vxlan_port = 4789;
	memset(a.peers, '1', DB_NETWORK_PEERS_MAX);
	a.source_guard = a.joined = a.dns = a.isolate_ports = a.dnsmasq_stale = true;
	a.openings.n = DB_OPENINGS_MAX;
	for (size_t i = 0; i < DB_OPENINGS_MAX; i++)
		a.openings.opening[i] = (struct db_opening){
			i % 2 ? DB_PROTOCOL_TCP : DB_PROTOCOL_UDP, i ? 65535 : 1, 65535};
	a.confirm_until = 1LL << 50;
	assert_works(f, db_network_insert(f->db, &a, &f->err));
	assert_works(f, db_network_each(f->db, keep_network, &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	a.dns = false;
	a.vlan = 4095;
	assert_fails(f, ERR_CONFLICT, db_network_update(f->db, &a, &f->err));
	a.vlan = 0;
	assert_works(f, db_network_update(f->db, &a, &f->err));
	assert_works(f, db_network_each(f->db, keep_network, &got, &f->err));
	assert_false(got.dns);
	a.kind = (enum db_network_kind)5;
	assert_fails(f, ERR_CONFLICT, db_network_update(f->db, &a, &f->err));
}

static int keep_nic(void *data, const struct db_nic *row)
{
	*(struct db_nic *)data = *row;
	return 0;
}

/* Networks of before go on as they were. */
static void no_guard_after_an_upgrade(void **state)
{
	struct fixture *f = *state;
	struct db_network a = a_network("a", "office", 1);
	struct db_image image = an_image("image", "debian", 1);
	struct db_desktop desktop = a_desktop("d", "one", 1);
	struct db_nic nic = a_nic("d", 0, "a");
	a.source_guard = true;
	nic.learned_ip = 7;
	assert_works(f, db_network_insert(f->db, &a, &f->err));
	assert_works(f, db_image_insert(f->db, &image, &f->err));
	assert_works(f, db_desktop_insert(f->db, &desktop, &f->err));
	assert_works(f, db_nic_insert(f->db, &nic, &f->err));
	fixture_sql(f, "ALTER TABLE network DROP COLUMN source_guard;"
		       "ALTER TABLE nic DROP COLUMN learned_ip;"
		       "ALTER TABLE nic DROP COLUMN learned_until;"
		       "ALTER TABLE nic DROP COLUMN lease_s;"
		       "PRAGMA user_version = 8");
	assert_works(f, db_open(f->path, &f->db, &f->err));
	assert_works(f, db_network_each(f->db, keep_network, &a, &f->err));
	assert_works(f, db_nic_each(f->db, keep_nic, &nic, &f->err));
	assert_false(a.source_guard);
	assert_int_equal(nic.learned_ip, 0);
	assert_int_equal(nic.learned_until, 0);
	assert_int_equal(nic.lease_s, 0);
}

static void damaged_openings(void **state)
{
	struct fixture *f = *state;
	struct db_network a = a_network("a", "lan", 1);
	static const char *const bad[] = {
		"x",         "tcp",       "tcp:",     "tcp:1",          "tcp:1-",
		"tcp:0-1",   "tcp:2-1",   "tcp:-1-5", "icm:1-1",        "tcp:1-65536",
		"tcp:1-1;",  "tcp:1-1,,", ",tcp:1-1", "tcp:1-1udp:2-2", "tcp:99999999999-1",
		"tcp:1-1,x",
	};
	char sql[96], many[DB_OPENINGS_MAX * 8 + 96] = "UPDATE network SET openings = 'tcp:1-1";
	assert_works(f, db_network_insert(f->db, &a, &f->err));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(sql, sizeof(sql), "UPDATE network SET openings = '%s'", bad[i]);
		fixture_sql(f, sql);
		assert_works(f, db_open(f->path, &f->db, &f->err));
		assert_fails(f, ERR_CORRUPT, db_network_each(f->db, keep_network, &a, &f->err));
	}
	for (size_t i = 0; i < DB_OPENINGS_MAX; i++)
		strcat(many, ",tcp:1-1");
	fixture_sql(f, strcat(many, "'"));
	assert_works(f, db_open(f->path, &f->db, &f->err));
	assert_fails(f, ERR_CORRUPT, db_network_each(f->db, keep_network, &a, &f->err));
}

static void uplinks(void **state)
{
	struct fixture *f = *state;
	struct db_network a = a_network("a", "lan", 1);
	_cleanup_free_ char *text = NULL;
	assert_works(f, db_network_insert(f->db, &a, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_network_get_uplink(f->db, "a", &text, &f->err));
	assert_null(text);
	assert_works(f, db_network_set_uplink(f->db, "a", "one", &f->err));
	assert_works(f, db_network_set_uplink(f->db, "a", "two", &f->err));
	assert_works(f, db_network_get_uplink(f->db, "a", &text, &f->err));
	assert_string_equal(text, "two");
	assert_fails(f, ERR_CONFLICT, db_network_set_uplink(f->db, "b", "x", &f->err));
	assert_works(f, db_network_delete(f->db, "a", &f->err));
	char *none = NULL;
	assert_fails(f, ERR_NOT_FOUND, db_network_get_uplink(f->db, "a", &none, &f->err));
}

static int keep_forward(void *data, const struct db_forward *row)
{
	*(struct db_forward *)data = *row;
	return 0;
}

static void forwards(void **state)
{
	struct fixture *f = *state;
	struct db_network net = a_network("n", "lan", 1);
	static struct db_forward a = {
		.id = "a",
		.network_id = "n",
		.mac = "52:54:00:00:00:01",
		.protocol = DB_PROTOCOL_UDP,
		.host = {0xfffffffe, "fd00:aaaa:bbbb:cccc:dddd:eeee:255.255.255.255"},
		.to = {1, "fd00::1"},
		.host_port = 65535,
		.port = 1,
		.count = 1,
		.created_at = 7};
	struct db_forward got;
	memset(&got, 0, sizeof(got));
	assert_fails(f, ERR_CONFLICT, db_forward_insert(f->db, &a, &f->err)); /* no network */
	assert_works(f, db_network_insert(f->db, &net, &f->err));
	assert_works(f, db_forward_insert(f->db, &a, &f->err));
	assert_works(f, db_forward_each(f->db, keep_forward, &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	assert_fails(f, ERR_EXISTS, db_forward_insert(f->db, &a, &f->err));
	struct db_forward b = a;
	snprintf(b.id, sizeof(b.id), "b");
	b.host_port = 65536;
	assert_fails(f, ERR_CONFLICT, db_forward_insert(f->db, &b, &f->err));
	static const struct db_addresses to = {0xfffffffd, "fd00::2"};
	assert_works(f, db_forward_set_to(f->db, "a", &to, &f->err));
	assert_works(f, db_forward_each(f->db, keep_forward, &got, &f->err));
	assert_memory_equal(&got.to, &to, sizeof(to));
	assert_works(f, db_forward_delete(f->db, "a", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_forward_set_to(f->db, "a", &to, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_forward_delete(f->db, "a", &f->err));
	/* they go with their network */
	assert_works(f, db_forward_insert(f->db, &a, &f->err));
	assert_works(f, db_network_delete(f->db, "n", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_forward_delete(f->db, "a", &f->err));
}

static int keep_reservation(void *data, const struct db_reservation *row)
{
	*(struct db_reservation *)data = *row;
	return 0;
}

static void reservations(void **state)
{
	struct fixture *f = *state;
	struct db_network net = a_network("n", "lan", 1);
	static struct db_reservation a = {.id = "a",
					  .network_id = "n",
					  .ip = 0xfffffffe,
					  .mac = "52:54:00:00:00:01",
					  .name = "ada",
					  .created_at = 3};
	struct db_reservation got;
	memset(&got, 0, sizeof(got));
	assert_works(f, db_network_insert(f->db, &net, &f->err));
	assert_works(f, db_reservation_insert(f->db, &a, &f->err));
	assert_works(f, db_reservation_each(f->db, keep_reservation, &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	struct db_reservation b = a;
	snprintf(b.id, sizeof(b.id), "b");
	assert_fails(f, ERR_EXISTS, db_reservation_insert(f->db, &b, &f->err)); /* the address */
	assert_works(f, db_reservation_delete(f->db, "a", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_reservation_delete(f->db, "a", &f->err));
}

struct groups {
	struct db_firewall_group row[4];
	size_t n;
};

static int keep_group(void *data, const struct db_firewall_group *row)
{
	struct groups *groups = data;
	groups->row[groups->n++] = *row;
	return 0;
}

static int join_groups(void *data, const char *network_id, const char *group_id)
{
	char *text = data;
	size_t len = strlen(text);
	snprintf(text + len, 128 - len, "%s:%s ", network_id, group_id);
	return 0;
}

static struct db_firewall_group a_group(const char *id, const char *name)
{
	struct db_firewall_group row = {.created_at = 5, .number = id[0]};
	snprintf(row.id, sizeof(row.id), "%s", id);
	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static void firewall_groups(void **state)
{
	struct fixture *f = *state;
	struct db_firewall_group a = a_group("a", "alpha"), b = a_group("b", "beta");
	_cleanup_free_ struct groups *got = mem_new(struct groups);
	a.n_rules = DB_FIREWALL_RULES_MAX;
	for (size_t i = 0; i < a.n_rules; i++)
		a.rules[i] = (struct db_firewall_rule){.direction = DB_DIRECTION_OUT,
						       .protocol = DB_PROTOCOL_TCP,
						       .port_first = (int64_t)i,
						       .port_last = 65535,
						       .remote = "10.0.0.0/8"};
	b.n_rules = 1;
	snprintf(b.rules[0].remote_group, sizeof(b.rules[0].remote_group), "a");
	b.builtin = true;
	assert_fails(f, ERR_CONFLICT, db_firewall_insert(f->db, &b, &f->err)); /* no group a */
	assert_works(f, db_firewall_insert(f->db, &a, &f->err));
	assert_works(f, db_firewall_insert(f->db, &b, &f->err));
	struct db_firewall_group c = a_group("c", "gamma");
	assert_works(f, db_firewall_insert(f->db, &c, &f->err));
	assert_works(f, db_firewall_each(f->db, keep_group, got, &f->err));
	assert_int_equal(got->n, 3);
	assert_memory_equal(&got->row[0], &a, sizeof(a));
	assert_memory_equal(&got->row[1], &b, sizeof(b));
	assert_memory_equal(&got->row[2], &c, sizeof(c));
	/* one that is used stays, whole or not at all */
	assert_fails(f, ERR_CONFLICT, db_firewall_delete(f->db, "a", &f->err));
	b.rules[0].port_last = 65536;
	assert_fails(f, ERR_CONFLICT, db_firewall_update(f->db, &b, &f->err));
	b.n_rules = 0;
	assert_works(f, db_firewall_update(f->db, &b, &f->err));
	assert_works(f, db_firewall_delete(f->db, "a", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_firewall_delete(f->db, "a", &f->err));
	got->n = 0;
	assert_works(f, db_firewall_each(f->db, keep_group, got, &f->err));
	assert_int_equal(got->n, 2);
	assert_int_equal(got->row[0].n_rules, 0);
}

static void groups_of_networks(void **state)
{
	struct fixture *f = *state;
	struct db_network net = a_network("n", "lan", 1);
	struct db_firewall_group a = a_group("a", "alpha"), b = a_group("b", "beta");
	const char *const both[] = {"b", "a"}, *const none[] = {"b", "nothing"};
	char text[128] = "";
	assert_works(f, db_network_insert(f->db, &net, &f->err));
	assert_works(f, db_firewall_insert(f->db, &a, &f->err));
	assert_works(f, db_firewall_insert(f->db, &b, &f->err));
	assert_works(f, db_firewall_set_network(f->db, "n", both, 2, &f->err));
	assert_fails(f, ERR_CONFLICT, db_firewall_set_network(f->db, "n", none, 2, &f->err));
	assert_works(f, db_firewall_each_network(f->db, join_groups, text, &f->err));
	assert_string_equal(text, "n:b n:a ");
	assert_fails(f, ERR_CONFLICT, db_firewall_delete(f->db, "a", &f->err));
	assert_works(f, db_firewall_set_network(f->db, "n", both, 1, &f->err));
	assert_works(f, db_firewall_delete(f->db, "a", &f->err));
	assert_works(f, db_network_delete(f->db, "n", &f->err));
	assert_works(f, db_firewall_delete(f->db, "b", &f->err));
}

static void groups_of_nics(void **state)
{
	struct fixture *f = *state;
	struct db_image image = an_image("image", "debian", 1);
	struct db_network net = a_network("n", "lan", 1);
	struct db_desktop desktop = a_desktop("d", "one", 1);
	struct db_firewall_group a = a_group("a", "alpha"), b = a_group("b", "beta");
	struct db_firewall_group c = a_group("c", "gamma"), d = a_group("d", "delta");
	struct db_nic nic = a_nic("d", 2, "n"), got = {0};
	const char *const own[] = {"b", "c"}, *const many[] = {"a", "d"};
	nic.groups = (struct db_nic_groups){.id = {"c", "b"}, .n = 2};
	assert_works(f, db_image_insert(f->db, &image, &f->err));
	assert_works(f, db_network_insert(f->db, &net, &f->err));
	assert_works(f, db_desktop_insert(f->db, &desktop, &f->err));
	assert_works(f, db_firewall_insert(f->db, &a, &f->err));
	assert_works(f, db_firewall_insert(f->db, &b, &f->err));
	assert_works(f, db_firewall_insert(f->db, &d, &f->err));
	/* no group c: nothing is written */
	assert_fails(f, ERR_CONFLICT, db_nic_insert(f->db, &nic, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_nic_update(f->db, &nic, &f->err));
	assert_works(f, db_firewall_insert(f->db, &c, &f->err));
	assert_works(f, db_nic_insert(f->db, &nic, &f->err));
	assert_works(f, db_nic_each(f->db, keep_nic, &got, &f->err));
	assert_memory_equal(&got, &nic, sizeof(nic));
	assert_fails(f, ERR_CONFLICT, db_firewall_delete(f->db, "c", &f->err));
	/* with its network's there are three at most; the same twice counts once */
	assert_works(f, db_firewall_set_network(f->db, "n", own, 2, &f->err));
	assert_fails(f, ERR_LIMIT, db_firewall_set_network(f->db, "n", many, 2, &f->err));
	nic.groups = (struct db_nic_groups){.id = {"b"}, .n = 1};
	assert_works(f, db_nic_update(f->db, &nic, &f->err));
	assert_works(f, db_firewall_set_network(f->db, "n", many, 2, &f->err));
	assert_works(f, db_firewall_delete(f->db, "c", &f->err));
	assert_works(f, db_nic_each(f->db, keep_nic, &got, &f->err));
	assert_memory_equal(&got, &nic, sizeof(nic));
	assert_works(f, db_nic_delete(f->db, "d", 2, &f->err));
	assert_works(f, db_firewall_delete(f->db, "b", &f->err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(settings),         test_with_db(no_guard_after_an_upgrade),
		test_with_db(damaged_openings), test_with_db(uplinks),
		test_with_db(forwards),         test_with_db(reservations),
		test_with_db(firewall_groups),  test_with_db(groups_of_networks),
		test_with_db(groups_of_nics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
