/* Addresses of NICs on others' networks: learned from DHCP, lost again, and fixed ones. */
#include <arpa/inet.h>

#include "bench.h"
#include "vdi-hostd/db/event.h"

#define IP(n) (0x0a320000u + (n)) /* 10.50.0.n */

static const struct desktop_nic_wish nothing = {.link_up = -1,
						.to_guest_kbit = -1,
						.to_guest_burst_kib = -1,
						.from_guest_kbit = -1,
						.from_guest_burst_kib = -1,
						.queues = -1};

static struct nic *nic_of(struct desktop *desktop)
{
	return &desktop->nics[0];
}

/* It runs. */
static struct desktop *start(struct bench *bench, const char *name, const char *network)
{
	struct desktop *desktop = bench_create(bench, name, network);
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	return desktop;
}

static void hear(struct bench *bench, struct desktop *desktop, uint32_t ip, uint32_t seconds)
{
	struct netcfg_lease lease = {.address = {htonl(ip)}, .seconds = seconds};
	assert_int_equal(sscanf(nic_of(desktop)->row.mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx",
				&lease.mac[0], &lease.mac[1], &lease.mac[2], &lease.mac[3],
				&lease.mac[4], &lease.mac[5]),
			 6);
	desktops_learn(bench->all, &lease);
}

/* The pause after the last one is over. */
static void hear_later(struct bench *bench, struct desktop *desktop, uint32_t ip, uint32_t seconds)
{
	nic_of(desktop)->lease.settled = 0;
	hear(bench, desktop, ip, seconds);
}

static int keep_nic(void *data, const struct db_nic *row)
{
	struct db_nic *wanted = data;
	if (strcmp(row->desktop_id, wanted->desktop_id) == 0)
		*wanted = *row;
	return 0;
}

/* as shown, and as written down; @learned: what others gave, if anything */
static void assert_address(struct bench *bench, struct desktop *desktop, const char *shown,
			   uint32_t learned)
{
	struct db_nic row = nic_of(desktop)->row;
	struct err err;
	json_t *json = desktop_to_json(desktop);
	const char *ip = json_string_value(json_object_get(json, "ip"));
	assert_string_equal(ip ? ip : "", shown);
	json_decref(json);
	assert_int_equal(row.learned_ip, learned);
	assert_int_equal(db_nic_each(bench->db, keep_nic, &row, &err), 0);
	assert_int_equal(row.learned_ip, learned);
	if (!learned)
		assert_true(row.lease_s == 0 && row.learned_until == 0);
}

struct count {
	const char *word;
	int n;
};

static int count_event(void *data, const struct db_event *event)
{
	struct count *count = data;
	if (strcmp(event->topic, "desktop") == 0 && strstr(event->data, count->word))
		count->n++;
	return 0;
}

static int events(struct bench *bench, const char *word)
{
	struct count count = {word, 0};
	struct err err;
	assert_int_equal(db_event_since(bench->db, 0, 1000, count_event, &count, &err), 0);
	return count.n;
}

static void learned(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	assert_address(bench, desktop, "", 0);
	hear(bench, desktop, IP(7), 600);
	assert_address(bench, desktop, "10.50.0.7", IP(7));
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], 1);
	assert_int_equal(ntohl(bench->tap.address), IP(7));
	assert_int_equal(nic_of(desktop)->row.lease_s, 600);
	assert_int_equal(events(bench, "has the address 10.50.0.7"), 1);
	json_t *leases = desktops_leases(bench->all, BENCH_OFFICE);
	json_t *lease = json_array_get(leases, 0);
	assert_int_equal(json_array_size(leases), 1);
	assert_string_equal(json_string_value(json_object_get(lease, "ip")), "10.50.0.7");
	assert_string_equal(json_string_value(json_object_get(lease, "hostname")), "d");
	assert_string_equal(json_string_value(json_object_get(lease, "mac")),
			    nic_of(desktop)->row.mac);
	assert_true(json_is_string(json_object_get(lease, "expires_at")));
	json_decref(leases);
	leases = desktops_leases(bench->all, BENCH_LAB);
	assert_int_equal(json_array_size(leases), 0);
	json_decref(leases);
	/* renewed: nobody has to be told; it counts anew */
	const uint64_t ends = nic_of(desktop)->lease.ends;
	hear_later(bench, desktop, IP(7), 700);
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], 1);
	assert_true(nic_of(desktop)->lease.ends > ends);
	assert_int_equal(events(bench, "has the address"), 1);
	/* another one */
	hear_later(bench, desktop, IP(8), 600);
	assert_address(bench, desktop, "10.50.0.8", IP(8));
	assert_int_equal(ntohl(bench->tap.address), IP(8));
	/* for ever: nothing is waited for */
	hear_later(bench, desktop, IP(9), NETCFG_LEASE_FOREVER);
	assert_address(bench, desktop, "10.50.0.9", IP(9));
	assert_int_equal(nic_of(desktop)->row.learned_until, 0);
	assert_null(bench->all->lease);
}

static void not_ours(void **state)
{
	struct bench *bench = *state;
	static const char *const networks[] = {"nat", "user", "open"};
	struct netcfg_lease lease = {.mac = {2}, .address = {1}, .seconds = 600};
	for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
		struct desktop *desktop = bench_create(bench, networks[i], networks[i]);
		hear(bench, desktop, IP(7), 600);
		assert_int_equal(nic_of(desktop)->row.learned_ip, 0);
	}
	desktops_learn(bench->all, &lease);
	assert_null(bench->all->lease);
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], 0);
}

/* A guest may have its server answer without end: each is a row and an event. */
static void not_too_often(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	for (uint32_t i = 1; i < 100; i++)
		hear(bench, desktop, IP(i), 600);
	assert_address(bench, desktop, "10.50.0.1", IP(1));
	bench_until(bench, nic_of(desktop)->row.learned_ip == IP(99));
	assert_address(bench, desktop, "10.50.0.99", IP(99));
	assert_int_equal(ntohl(bench->tap.address), IP(99));
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], 2);
	assert_int_equal(events(bench, "has the address"), 2);
}

static void let_it_end(struct bench *bench, struct desktop *desktop, uint64_t after_s)
{
	assert_int_equal(bench_hurry(bench, after_s * 500, after_s * 1000), 1);
	nic_of(desktop)->lease.ends = uv_now(&bench->loop);
	bench_until(bench, !nic_of(desktop)->row.learned_ip);
}

static void it_ends(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	hear(bench, desktop, IP(7), 600);
	let_it_end(bench, desktop, 600 + 60);
	assert_address(bench, desktop, "", 0);
	assert_int_equal(bench->tap.address, 0);
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], 2);
	assert_int_equal(events(bench, "its lease has ended"), 1);
	assert_null(bench->all->lease);
	/* a short one has less grace; the desktop is off meanwhile, and has no tap */
	hear_later(bench, desktop, IP(7), 20);
	int ends = bench->ends;
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_address(bench, desktop, "10.50.0.7", IP(7));
	const int told = bench->calls[PRIV_TAP_ATTACH];
	let_it_end(bench, desktop, 20 + 20);
	assert_address(bench, desktop, "", 0);
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], told);
	/* one that goes with its desktop is waited for by nobody */
	hear_later(bench, desktop, IP(7), 600);
	ends = bench->ends;
	desktop_delete(desktop, true, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(bench_hurry(bench, 600000, 660000), 1);
	bench_until(bench, !bench->all->lease);
}

/* It begins anew with the daemon: what was renewed meanwhile was not heard. */
static void a_daemon_after_it(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	struct err err;
	hear(bench, desktop, IP(7), 600);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	assert_address(bench, desktop, "10.50.0.7", IP(7));
	assert_int_equal(desktop_nic_tap(desktop, nic_of(desktop)).ip, IP(7));
	let_it_end(bench, desktop, 600 + 60);
	assert_address(bench, desktop, "", 0);
}

/* The row cannot be written: it counts all the same, as the guest has it. */
static void no_room_for_the_row(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	struct err err;
	assert_int_equal(db_nic_delete(bench->db, desktop->row.id, 0, &err), 0);
	hear(bench, desktop, IP(7), 600);
	assert_int_equal(ntohl(bench->tap.address), IP(7));
	assert_int_equal(nic_of(desktop)->row.learned_ip, IP(7));
}

/* A server gives an address to one at a time. */
static void given_to_another(void **state)
{
	struct bench *bench = *state;
	struct desktop *one = bench_create(bench, "one", "office");
	struct desktop *two = bench_create(bench, "two", "lab");
	struct desktop *far = bench_create(bench, "far", "far");
	hear(bench, one, IP(7), 600);
	hear(bench, far, IP(7), 600);
	assert_address(bench, one, "10.50.0.7", IP(7));
	hear(bench, two, IP(7), 600);
	assert_address(bench, one, "", 0);
	assert_address(bench, two, "10.50.0.7", IP(7));
	assert_address(bench, far, "10.50.0.7", IP(7));
}

static void update(struct bench *bench, struct desktop *desktop, const char *network,
		   const char *ip)
{
	struct desktop_nic_wish wish = nothing;
	int ends = bench->ends;
	wish.network = network;
	wish.ip = ip;
	desktop_nic_update(desktop, 0, &wish, bench_end, bench);
	bench_wait(bench, ends + 1);
}

static void assert_refused(const struct bench *bench, enum err_code code, const char *what)
{
	assert_null(bench->got);
	assert_string_equal(err_code_name(bench->err.code), err_code_name(code));
	if (strcmp(bench->err.field, what) != 0 && !strstr(bench->err.msg, what))
		fail_msg("%s: %s", bench->err.field, bench->err.msg);
}

static void fixed(void **state)
{
	static const char *const bad[] = {"x",         "10.50.0",   "0.0.0.0",   "0.1.2.3",
					  "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"};
	struct bench *bench = *state;
	struct desktop *one = start(bench, "one", "office");
	struct desktop *two = bench_create(bench, "two", "lab");
	struct desktop *nat = bench_create(bench, "nat", "nat");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		update(bench, one, NULL, bad[i]);
		assert_refused(bench, ERR_INVALID, "ip");
	}
	update(bench, nat, NULL, "10.50.0.9");
	assert_refused(bench, ERR_INVALID, "ip");
	update(bench, nat, "user", "");
	assert_refused(bench, ERR_INVALID, "ip");
	/* it wins, and needs nobody's word; no list of ours has it */
	const int changes = bench->hosts_changes;
	hear(bench, one, IP(7), 600);
	update(bench, one, NULL, "10.50.0.9");
	assert_non_null(bench->got);
	assert_int_equal(ntohl(bench->tap.address), IP(9));
	assert_address(bench, one, "10.50.0.9", IP(7));
	const int told = bench->calls[PRIV_TAP_ATTACH];
	hear_later(bench, one, IP(8), 600);
	assert_address(bench, one, "10.50.0.9", IP(8));
	assert_int_equal(bench->calls[PRIV_TAP_ATTACH], told);
	assert_int_equal(bench->hosts_changes, changes);
	/* it is nobody else's: declared, or given by a server; on this LAN */
	update(bench, two, NULL, "10.50.0.9");
	assert_refused(bench, ERR_CONFLICT, "'one'");
	update(bench, two, NULL, "10.50.0.8");
	assert_refused(bench, ERR_CONFLICT, "'one'");
	hear(bench, two, IP(9), 600);
	assert_address(bench, two, "", 0);
	assert_int_equal(events(bench, "the fixed address of desktop 'one'"), 1);
	update(bench, two, "far", "10.50.0.9");
	assert_address(bench, two, "10.50.0.9", 0);
	/* taken away, what was given counts again */
	update(bench, one, NULL, "");
	assert_address(bench, one, "10.50.0.8", IP(8));
	assert_int_equal(ntohl(bench->tap.address), IP(8));
}

static void fail_if_called(void *out, const struct network_host *host)
{
	fail_msg("%s is listed", host->mac);
}

static void fixed_from_the_start(void **state)
{
	struct bench *bench = *state;
	struct desktop_create create = {.name = "d", .image = "img", .ip = "10.50.0.9"};
	int ends = bench->ends;
	desktops_create(bench->all, &create, bench_end, bench);
	assert_refused(bench, ERR_INVALID, "ip");
	create.network = "nat";
	desktops_create(bench->all, &create, bench_end, bench);
	assert_refused(bench, ERR_INVALID, "ip");
	create.network = "open";
	ends = bench->ends;
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, ends + 1);
	struct desktop *desktop = bench->got;
	assert_address(bench, desktop, "10.50.0.9", 0);
	/* a NIC of others' addresses is in no list of hosts */
	desktops_each_address(bench->all, BENCH_OPEN, fail_if_called, NULL);
	struct desktop_nic_wish wish = nothing;
	wish.network = "open";
	wish.ip = "10.50.0.9";
	ends = bench->ends;
	desktop_nic_add(desktop, &wish, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_refused(bench, ERR_CONFLICT, "'d'");
	wish.ip = "10.50.0.10";
	desktop_nic_add(desktop, &wish, bench_end, bench);
	bench_wait(bench, ends + 2);
	assert_int_equal(desktop_nic_row(desktop, 1)->ip, IP(10));
}

static void moved(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	hear(bench, desktop, IP(7), 600);
	hear(bench, desktop, IP(8), 600); /* waits, and was heard there */
	update(bench, desktop, "lab", NULL);
	assert_address(bench, desktop, "", 0);
	assert_int_equal(bench->tap.address, 0);
	bench_until(bench, !bench->all->lease);
	assert_address(bench, desktop, "", 0);
	hear(bench, desktop, IP(9), 600);
	update(bench, desktop, "nat", NULL);
	assert_int_equal(nic_of(desktop)->row.learned_ip, 0);
}

static void begin_to_unplug(struct bench *bench, struct desktop *desktop, const char *network)
{
	struct desktop_nic_wish wish = nothing;
	const int calls = bench->calls[PRIV_TAP_ATTACH];
	wish.link_up = 0;
	wish.network = network;
	bench->hold = PRIV_TAP_ATTACH;
	desktop_nic_update(desktop, 0, &wish, bench_end, bench);
	bench_until(bench, bench->calls[PRIV_TAP_ATTACH] > calls);
}

/* What is heard in the middle of a change is not lost with it, whichever way it ends. */
static void in_a_change(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = start(bench, "d", "office");
	hear(bench, desktop, IP(7), 600);
	for (uint32_t i = 0; i < 2; i++) {
		int ends = bench->ends;
		begin_to_unplug(bench, desktop, NULL);
		hear_later(bench, desktop, IP(8 + i), 600);
		if (i == 0)
			plan_cancel(desktop->plan, NULL);
		bench_release(bench);
		bench_wait(bench, ends + 1);
		assert_int_equal(nic_of(desktop)->row.link_up, i == 0);
		bench_turn(bench, 3);
		assert_int_equal(ntohl(bench->tap.address), IP(8 + i));
		assert_int_equal(nic_of(desktop)->row.learned_ip, IP(8 + i));
		assert_address(bench, desktop, i ? "10.50.0.9" : "10.50.0.8", IP(8 + i));
	}
	/* back where it was, with what it had there */
	int ends = bench->ends;
	begin_to_unplug(bench, desktop, "far");
	hear_later(bench, desktop, IP(77), 600);
	plan_cancel(desktop->plan, NULL);
	bench_release(bench);
	bench_wait(bench, ends + 1);
	assert_address(bench, desktop, "10.50.0.9", IP(9));
	assert_true(nic_of(desktop)->lease.ends > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(learned),
		with_bench(not_ours),
		with_bench(not_too_often),
		with_bench(it_ends),
		with_bench(a_daemon_after_it),
		with_bench(no_room_for_the_row),
		with_bench(given_to_another),
		with_bench(fixed),
		with_bench(fixed_from_the_start),
		with_bench(moved),
		with_bench(in_a_change),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
