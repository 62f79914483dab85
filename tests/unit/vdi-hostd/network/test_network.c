#include "vdi-hostd/network/network.h"

#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/proc.h"
#include "fake_priv.h"

struct nic {
	const char *name, *mac;
	uint32_t ip;
};

struct bench {
	uv_loop_t loop;
	struct fake_priv fake;
	struct priv *priv;
	struct db *db;
	struct networks *networks;
	char dir[64], db_path[96];
	struct nic nics[8];
	size_t n_nics;
	int answers;
	struct db_network row;
	bool has_row, reconciled;
	struct err err;
};

static void each_host(void *data, const char *network_id,
		      void (*emit)(void *out, const struct network_host *host), void *out)
{
	struct bench *bench = data;
	for (size_t i = 0; i < bench->n_nics; i++)
		emit(out, &(struct network_host){bench->nics[i].name, bench->nics[i].mac,
						 bench->nics[i].ip});
}

static void start_daemon(struct bench *bench)
{
	struct err err;
	if (db_open(bench->db_path, &bench->db, &err) < 0 ||
	    networks_new(&bench->loop, bench->db, bench->priv, bench->dir, &bench->networks, &err) <
		    0)
		fail_msg("%s", err.msg);
	networks_hosts_source(bench->networks, each_host, bench);
}

static void stop_daemon(struct bench *bench)
{
	networks_free(TAKE_PTR(bench->networks));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	db_close(TAKE_PTR(bench->db));
}

static int setup(void **state)
{
	struct bench *bench = mem_new(struct bench);
	snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-network-XXXXXX");
	assert_non_null(mkdtemp(bench->dir));
	snprintf(bench->db_path, sizeof(bench->db_path), "%s/db", bench->dir);
	uv_loop_init(&bench->loop);
	bench->fake.loop = &bench->loop;
	bench->fake.runtime_dir = bench->dir;
	bench->priv = fake_priv_new(&bench->fake);
	start_daemon(bench);
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	char command[128];
	if (bench->networks)
		stop_daemon(bench);
	fake_priv_done(&bench->fake);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
	snprintf(command, sizeof(command), "rm -rf %s", bench->dir);
	int rc = system(command);
	free(bench);
	return rc;
}

static void on_answer(void *data, const struct db_network *row, const struct err *err)
{
	struct bench *bench = data;
	bench->answers++;
	bench->has_row = row != NULL;
	if (row)
		bench->row = *row;
	bench->err = err ? *err : (struct err){0};
}

/* until @cond holds, for at most five seconds */
#define run_until(cond)                                                                            \
	do {                                                                                       \
		uint64_t end = uv_hrtime() + 5000000000u;                                          \
		while (!(cond) && uv_hrtime() < end)                                               \
			if (!uv_run(&bench->loop, UV_RUN_NOWAIT))                                  \
				usleep(500);                                                       \
			else                                                                       \
				usleep(200);                                                       \
		assert_true(cond);                                                                 \
	} while (0)

static void create(struct bench *bench, const char *name, enum db_network_kind kind,
		   const char *cidr)
{
	int before = bench->answers;
	const struct network_create create = {.name = name, .kind = kind, .cidr = cidr};
	networks_create(bench->networks, &create, on_answer, bench);
	run_until(bench->answers > before);
}

static void create_ok(struct bench *bench, const char *name)
{
	create(bench, name, DB_NETWORK_NAT, NULL);
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
}

static const struct network_create lan = {.name = "lan", .kind = DB_NETWORK_NAT};

static const char *in_use_by(void *data, const char *network_id)
{
	return data;
}

static void delete (struct bench *bench, const char *ref, const char *user)
{
	int before = bench->answers;
	networks_delete(bench->networks, ref, in_use_by, (void *)(uintptr_t)user, on_answer, bench);
	run_until(bench->answers > before);
}

static void on_reconciled(void *data)
{
	struct bench *bench = data;
	bench->reconciled = true;
}

static void reconcile(struct bench *bench)
{
	bench->reconciled = false;
	networks_reconcile(bench->networks, on_reconciled, bench);
	run_until(bench->reconciled);
}

static int keep_row(void *data, const struct db_network *row)
{
	struct bench *bench = data;
	bench->row = *row;
	bench->has_row = true;
	return 0;
}

static bool stored_row(struct bench *bench)
{
	struct err err;
	bench->has_row = false;
	assert_int_equal(db_network_each(bench->db, keep_row, bench, &err), 0);
	return bench->has_row;
}

static char *read_text(const struct bench *bench, const char *name)
{
	char path[128], *text = mem_calloc(1, 4096);
	snprintf(path, sizeof(path), "%s/networks/1/%s", bench->dir, name);
	FILE *in = fopen(path, "re");
	if (in) {
		text[fread(text, 1, 4095, in)] = '\0';
		fclose(in);
	}
	return text;
}

static void write_leases(const struct bench *bench, const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/networks/1/leases", bench->dir);
	FILE *out = fopen(path, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static bool file_exists(const struct bench *bench, const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/networks/1%s%s", bench->dir, name[0] ? "/" : "", name);
	return access(path, F_OK) == 0;
}

static void assert_state(struct bench *bench, const char *want)
{
	json_t *json =
		networks_to_json(bench->networks, networks_find(bench->networks, "lan", NULL));
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "state")), want);
	json_decref(json);
}

/* is it what networks_to_json() says? */
static bool is_state(struct bench *bench, const char *want)
{
	json_t *json =
		networks_to_json(bench->networks, networks_find(bench->networks, "lan", NULL));
	bool ret = strcmp(json_string_value(json_object_get(json, "state")), want) == 0;
	json_decref(json);
	return ret;
}

static void test_create(void **state)
{
	struct bench *bench = *state;
	create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/24");
	assert_int_equal(bench->err.code, 0);
	assert_true(bench->has_row);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE), 1);
	assert_int_equal(bench->fake.spawns, 1);
	assert_int_equal(bench->fake.network.kind, PRIV_NETWORK_NAT);
	assert_int_equal(bench->fake.network.prefix, 24);
	assert_int_equal(bench->fake.network.slot, 1);
	assert_int_equal(ntohl(bench->fake.network.address), 0x0a630701);
	assert_true(stored_row(bench));
	assert_int_equal(bench->row.intent, DB_INTENT_NONE);
	assert_int_equal(bench->row.dnsmasq_pid, bench->fake.spawned);
	assert_true(file_exists(bench, "hosts"));
	json_t *json = networks_to_json(bench->networks, &bench->row);
	assert_string_equal(json_string_value(json_object_get(json, "state")), "active");
	assert_string_equal(json_string_value(json_object_get(json, "kind")), "nat");
	assert_string_equal(json_string_value(json_object_get(json, "cidr")), "10.99.7.0/24");
	assert_string_equal(json_string_value(json_object_get(json, "gateway")), "10.99.7.1");
	assert_string_equal(json_string_value(json_object_get(json, "bridge")), "vdibr1");
	json_decref(json);
	assert_non_null(networks_find(bench->networks, bench->row.id, NULL));
}

static void test_create_refuses(void **state)
{
	struct bench *bench = *state;
	create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/24");
	size_t asked = bench->fake.n_asked;
	create(bench, "lan", DB_NETWORK_NAT, NULL);
	assert_int_equal(bench->err.code, ERR_EXISTS);
	create(bench, "b", DB_NETWORK_NAT, "10.99.0.0/16");
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "'lan'"));
	create(bench, "b", DB_NETWORK_BRIDGED, NULL);
	assert_int_equal(bench->err.code, ERR_INVALID);
	assert_string_equal(bench->err.field, "uplink");
	create(bench, "b", DB_NETWORK_USER, "10.98.0.0/24");
	assert_int_equal(bench->err.code, ERR_INVALID);
	const char *const bad[] = {"",
				   "10.98.0.0",
				   "10.98.0.0/",
				   "10.98.0.0/33",
				   "10.98.0.0/8",
				   "10.98.0.0/30",
				   "10.98.0.1/24",
				   "10.98.0/24",
				   "x/24",
				   "127.1.0.0/24",
				   "0.0.0.0/16",
				   "224.1.1.0/24",
				   "10.98.0.0/2x",
				   "10.98.0.0/-1",
				   "fd00::/64",
				   "/24"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		create(bench, "b", DB_NETWORK_NAT, bad[i]);
		assert_int_equal(bench->err.code, ERR_INVALID);
		assert_string_equal(bench->err.field, "cidr");
	}
	bench->fake.rootless = true;
	create(bench, "b", DB_NETWORK_NAT, NULL);
	assert_int_equal(bench->err.code, ERR_UNSUPPORTED);
	assert_int_equal(bench->fake.n_asked, asked);
	assert_null(networks_find(bench->networks, "b", &bench->err));
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
}

static void test_kind_user_has_no_kernel_part(void **state)
{
	struct bench *bench = *state;
	bench->fake.rootless = true;
	create(bench, "lan", DB_NETWORK_USER, NULL);
	assert_int_equal(bench->err.code, 0);
	json_t *json = networks_to_json(bench->networks, &bench->row);
	assert_true(json_is_null(json_object_get(json, "cidr")));
	assert_true(json_is_null(json_object_get(json, "bridge")));
	json_decref(json);
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	stop_daemon(bench);
	start_daemon(bench);
	reconcile(bench);
	assert_state(bench, "active");
	delete (bench, "lan", NULL);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(bench->fake.n_asked, 0);
	assert_false(stored_row(bench));
}

static void test_create_is_undone(void **state)
{
	struct bench *bench = *state;
	const enum priv_verb verbs[] = {PRIV_BRIDGE_ENSURE, PRIV_DNSMASQ_SPAWN};
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		size_t deletes = fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE);
		bench->fake.fail = verbs[i];
		create(bench, "lan", DB_NETWORK_NAT, NULL);
		assert_int_equal(bench->err.code, ERR_IO);
		assert_false(bench->has_row);
		assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE), deletes + 1);
		assert_null(networks_find(bench->networks, "lan", NULL));
		assert_false(stored_row(bench));
		assert_false(file_exists(bench, ""));
	}
	/* one that ends as it starts, such as when its port is taken */
	bench->fake.fail = 0;
	bench->fake.dies = true;
	create(bench, "lan", DB_NETWORK_NAT, NULL);
	assert_int_equal(bench->err.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(bench->err.msg, "dnsmasq"));
	assert_false(stored_row(bench));
	bench->fake.dies = false;
	create_ok(bench, "lan");
}

static void test_ranges_are_apart(void **state)
{
	struct bench *bench = *state;
	uint32_t addresses[3];
	for (int i = 0; i < 3; i++) {
		char name[8];
		snprintf(name, sizeof(name), "lan%d", i);
		create_ok(bench, name);
		assert_int_equal(bench->row.slot, i + 1);
		addresses[i] = bench->row.address;
		assert_int_equal(addresses[i] >> 24, 10);
		assert_int_equal(addresses[i] & 0xff, 1);
	}
	assert_int_not_equal(addresses[0], addresses[1]);
	assert_int_not_equal(addresses[1], addresses[2]);
	/* a slot and a range that are free again are used again */
	delete (bench, "lan1", NULL);
	create_ok(bench, "again");
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
	create_ok(bench, "lan");
	assert_int_equal(bench->row.address, 0x0a500201);
	create(bench, "b", DB_NETWORK_NAT, "10.80.0.0/25");
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "eth0"));
}

static void test_delete(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	pid_t pid = bench->fake.spawned;
	delete (bench, "lan", "desk-1");
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_non_null(strstr(bench->err.msg, "desk-1"));
	assert_int_equal(bench->fake.kills, 0);
	delete (bench, "nothing", NULL);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	delete (bench, bench->row.id, NULL);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE), 1);
	assert_false(stored_row(bench));
	assert_false(file_exists(bench, ""));
	uint64_t start;
	assert_int_equal(proc_start_time(pid, &start, &bench->err), -1);
}

static void test_delete_that_fails_goes_on_later(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	bench->fake.fail = PRIV_BRIDGE_DELETE;
	delete (bench, "lan", NULL);
	assert_int_equal(bench->err.code, ERR_IO);
	assert_state(bench, "degraded");
	assert_true(stored_row(bench));
	assert_int_equal(bench->row.intent, DB_INTENT_DELETE);
	uint32_t ip;
	assert_int_equal(networks_pick_address(bench->networks,
					       networks_find(bench->networks, "lan", NULL), NULL,
					       &ip, &bench->err),
			 -1);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench->fake.fail = 0;
	stop_daemon(bench);
	start_daemon(bench);
	reconcile(bench);
	assert_false(stored_row(bench));
	assert_null(networks_find(bench->networks, "lan", NULL));
}

static void test_one_change_at_a_time(void **state)
{
	struct bench *bench = *state;
	networks_create(bench->networks, &lan, on_answer, bench);
	delete (bench, "lan", NULL);
	assert_int_equal(bench->err.code, ERR_BUSY);
	run_until(bench->answers == 2);
	assert_int_equal(bench->err.code, 0);
}

static void test_hosts_file(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	uint32_t net = bench->row.address & ~0xffu;
	int hups = bench->fake.hups;
	bench->nics[0] = (struct nic){"one", "52:54:00:00:00:01", net + 2};
	bench->nics[1] = (struct nic){"two", "52:54:00:00:00:02", net + 9};
	bench->n_nics = 2;
	assert_int_equal(networks_hosts_changed(bench->networks, bench->row.id, &bench->err), 0);
	run_until(bench->fake.hups == hups + 1);
	_cleanup_free_ char *text = read_text(bench, "hosts");
	char want[128];
	snprintf(want, sizeof(want),
		 "52:54:00:00:00:01,10.%u.%u.2,one\n52:54:00:00:00:02,10.%u.%u.9,two\n",
		 net >> 16 & 0xff, net >> 8 & 0xff, net >> 16 & 0xff, net >> 8 & 0xff);
	assert_string_equal(text, want);
	assert_false(file_exists(bench, "hosts.new"));
	assert_int_equal(networks_hosts_changed(bench->networks, "nothing", &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);

	/* a folder that cannot be written says so, and the old file stays whole */
	char path[128];
	snprintf(path, sizeof(path), "%s/networks/1/hosts.new", bench->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), -1);
	_cleanup_free_ char *still = read_text(bench, "hosts");
	assert_string_equal(still, want);
	rmdir(path);
}

static void test_addresses(void **state)
{
	struct bench *bench = *state;
	uint32_t ip;
	create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/29");
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
	write_leases(bench, "0 52:54:00:00:00:77 10.99.7.3 gone *\n"
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

static void test_leases(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	const struct db_network *row = networks_find(bench->networks, "lan", NULL);
	json_t *leases = networks_leases(bench->networks, row, &bench->err);
	assert_int_equal(json_array_size(leases), 0);
	json_decref(leases);
	write_leases(bench, "4102444800 52:54:00:00:00:01 10.99.7.2 one 01:52:54:00:00:00:01\n"
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
	create(bench, "lan", DB_NETWORK_NAT, "10.99.7.0/24");
	pid_t first = bench->fake.spawned;
	bench->nics[0] = (struct nic){"one", "52:54:00:00:00:01", 0x0a630702};
	bench->nics[1] = (struct nic){"two", "52:54:00:00:00:02", 0x0a630703};
	bench->n_nics = 2;
	write_leases(bench, "4102444800 52:54:00:00:00:99 10.99.7.2 old *\n"
			    "4102444800 52:54:00:00:00:02 10.99.7.3 two *\n");
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	run_until(bench->fake.spawns == 2 && is_state(bench, "active"));
	assert_int_not_equal(first, bench->fake.spawned);
	_cleanup_free_ char *text = read_text(bench, "leases");
	assert_string_equal(text, "4102444800 52:54:00:00:00:02 10.99.7.3 two *\n");
	/* and now a change is a matter of SIGHUP again */
	int hups = bench->fake.hups;
	assert_int_equal(networks_hosts_changed(bench->networks, "lan", &bench->err), 0);
	run_until(bench->fake.hups == hups + 1);
	assert_int_equal(bench->fake.spawns, 2);
}

static void test_dnsmasq_is_started_again(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	kill(bench->fake.spawned, SIGKILL);
	run_until(is_state(bench, "degraded"));
	run_until(bench->fake.spawns == 2 && is_state(bench, "active"));
	/* the bridge is looked after as well */
	assert_int_equal(fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE), 2);
	assert_true(stored_row(bench));
	assert_int_equal(bench->row.dnsmasq_pid, bench->fake.spawned);
}

static void test_repair_is_tried_again(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	bench->fake.fail = PRIV_BRIDGE_ENSURE;
	kill(bench->fake.spawned, SIGKILL);
	run_until(fake_priv_count(&bench->fake, PRIV_BRIDGE_ENSURE) == 3);
	assert_state(bench, "degraded");
	bench->fake.fail = 0;
	run_until(is_state(bench, "active"));
	/* one that is wanted no more is not put back */
	kill(bench->fake.spawned, SIGKILL);
	run_until(is_state(bench, "degraded"));
	delete (bench, "lan", NULL);
	assert_int_equal(bench->err.code, 0);
	int spawns = bench->fake.spawns;
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(bench->fake.spawns, spawns);
}

static void test_restart_adopts(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	pid_t pid = bench->fake.spawned;
	stop_daemon(bench);
	int hups = bench->fake.hups;
	start_daemon(bench);
	reconcile(bench);
	assert_state(bench, "active");
	assert_int_equal(bench->fake.spawns, 1);
	run_until(bench->fake.hups == hups + 1);
	delete (bench, "lan", NULL);
	uint64_t start;
	assert_int_equal(proc_start_time(pid, &start, &bench->err), -1);
}

static void test_restart_after_reboot(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	assert_true(stored_row(bench));
	/* the same pid is a stranger in another boot: this test itself */
	bench->row.dnsmasq_pid = getpid();
	assert_int_equal(proc_start_time(getpid(), &bench->row.dnsmasq_start_time, &bench->err), 0);
	snprintf(bench->row.boot_id, sizeof(bench->row.boot_id),
		 "00000000-0000-4000-8000-000000000000");
	kill(bench->fake.spawned, SIGKILL);
	networks_free(TAKE_PTR(bench->networks));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(db_network_update(bench->db, &bench->row, &bench->err), 0);
	db_close(TAKE_PTR(bench->db));
	start_daemon(bench);
	reconcile(bench);
	assert_int_equal(bench->fake.spawns, 2);
	assert_state(bench, "active");
}

static void test_restart_with_a_dnsmasq_that_no_row_names(void **state)
{
	struct bench *bench = *state;
	create_ok(bench, "lan");
	assert_true(stored_row(bench));
	bench->row.dnsmasq_pid = 0;
	networks_free(TAKE_PTR(bench->networks));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(db_network_update(bench->db, &bench->row, &bench->err), 0);
	db_close(TAKE_PTR(bench->db));
	start_daemon(bench);
	reconcile(bench);
	assert_int_equal(bench->fake.spawns, 1);
	assert_true(stored_row(bench));
	assert_int_equal(bench->row.dnsmasq_pid, bench->fake.spawned);
}

static void test_restart_undoes_and_completes(void **state)
{
	struct bench *bench = *state;
	const enum db_intent intents[] = {DB_INTENT_CREATE, DB_INTENT_DELETE};
	for (size_t i = 0; i < ARRAY_LEN(intents); i++) {
		size_t deletes = fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE);
		create_ok(bench, "lan");
		pid_t pid = bench->fake.spawned;
		assert_true(stored_row(bench));
		bench->row.intent = intents[i];
		if (i == 0)
			bench->row.dnsmasq_pid = 0; /* not recorded yet */
		networks_free(TAKE_PTR(bench->networks));
		uv_run(&bench->loop, UV_RUN_DEFAULT);
		assert_int_equal(db_network_update(bench->db, &bench->row, &bench->err), 0);
		db_close(TAKE_PTR(bench->db));
		start_daemon(bench);
		reconcile(bench);
		assert_false(stored_row(bench));
		assert_false(file_exists(bench, ""));
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
		networks_create(bench->networks, &lan, on_answer, bench);
		size_t asked = fake_priv_count(&bench->fake, verbs[i]);
		run_until(fake_priv_count(&bench->fake, verbs[i]) == asked + 1);
		uint64_t begun = uv_hrtime();
		stop_daemon(bench);
		assert_true(uv_hrtime() - begun < 2000000000u);
		assert_int_equal(bench->answers, before + 1);
		assert_int_equal(bench->err.code, ERR_CANCELLED);
		bench->fake.silent = 0;
		fake_priv_done(&bench->fake);
		start_daemon(bench);
		assert_true(stored_row(bench));
		assert_int_equal(bench->row.intent, DB_INTENT_CREATE);
		reconcile(bench);
		assert_false(stored_row(bench));
	}
	/* and while it deletes, repairs, or undoes */
	create_ok(bench, "lan");
	bench->fake.silent = PRIV_BRIDGE_DELETE;
	networks_delete(bench->networks, "lan", in_use_by, NULL, on_answer, bench);
	run_until(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE) == 3);
	stop_daemon(bench);
	start_daemon(bench);
	networks_reconcile(bench->networks, on_reconciled, bench);
	run_until(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE) == 4);
	stop_daemon(bench);
	fake_priv_done(&bench->fake);
	bench->fake.silent = 0;
	start_daemon(bench);
	reconcile(bench);
	assert_false(stored_row(bench));
	bench->fake.silent = PRIV_BRIDGE_DELETE;
	bench->fake.fail = PRIV_DNSMASQ_SPAWN;
	networks_create(bench->networks, &lan, on_answer, bench);
	run_until(fake_priv_count(&bench->fake, PRIV_BRIDGE_DELETE) == 6);
	stop_daemon(bench);
	assert_int_equal(bench->err.code, ERR_IO);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_create),
		T(test_create_refuses),
		T(test_kind_user_has_no_kernel_part),
		T(test_create_is_undone),
		T(test_ranges_are_apart),
		T(test_delete),
		T(test_delete_that_fails_goes_on_later),
		T(test_one_change_at_a_time),
		T(test_hosts_file),
		T(test_addresses),
		T(test_leases),
		T(test_stale_leases_are_forgotten),
		T(test_dnsmasq_is_started_again),
		T(test_repair_is_tried_again),
		T(test_restart_adopts),
		T(test_restart_after_reboot),
		T(test_restart_with_a_dnsmasq_that_no_row_names),
		T(test_restart_undoes_and_completes),
		T(test_stop_in_the_middle),
		/* last: it leaves the host's namespace */
		T(test_ranges_of_the_host_are_avoided),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
