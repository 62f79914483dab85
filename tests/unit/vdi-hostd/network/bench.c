#include "bench.h"

#include <sched.h>

#define SKIP 77

static void each_host(void *data, const char *network_id,
		      void (*emit)(void *out, const struct network_host *host), void *out)
{
	struct bench *bench = data;
	for (size_t i = 0; i < bench->n_nics; i++)
		emit(out, &(struct network_host){bench->nics[i].name, bench->nics[i].mac,
						 bench->nics[i].ip});
}

static void each_tap(void *data, const char *network_id,
		     void (*emit)(void *out, const struct network_tap *tap), void *out)
{
	struct bench *bench = data;
	for (size_t i = 0; i < bench->n_taps; i++)
		emit(out, &(struct network_tap){.desktop = (uint32_t)i + 1,
						.mac = bench->nics[i].mac,
						.ip = bench->nics[i].ip,
						.ending = bench->nics[i].ending});
}

static void on_lease(void *data, const struct netcfg_lease *lease)
{
	struct bench *bench = data;
	bench->heard = *lease;
	bench->leases++;
}

void bench_start_daemon(struct bench *bench)
{
	struct err err;
	if (db_open(bench->db_path, &bench->db, &err) < 0 ||
	    networks_new(&bench->loop, bench->db, bench->priv, bench->dir, &bench->networks, &err) <
		    0)
		fail_msg("%s", err.msg);
	networks_hosts_source(bench->networks, each_host, bench);
	networks_taps_source(bench->networks, each_tap, bench);
	networks_leases_sink(bench->networks, on_lease, bench);
	networks_set_features(bench->networks, bench->features);
}

void bench_stop_daemon(struct bench *bench)
{
	networks_free(TAKE_PTR(bench->networks));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	db_close(TAKE_PTR(bench->db));
}

int bench_setup(void **state)
{
	struct bench *bench = mem_new(struct bench);
	snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-network-XXXXXX");
	assert_non_null(mkdtemp(bench->dir));
	snprintf(bench->db_path, sizeof(bench->db_path), "%s/db", bench->dir);
	uv_loop_init(&bench->loop);
	bench->fake.loop = &bench->loop;
	bench->fake.runtime_dir = bench->dir;
	bench->fake.say = -1;
	bench->features = PRIV_HAS_NFT_LOG;
	bench->priv = fake_priv_new(&bench->fake);
	bench_start_daemon(bench);
	*state = bench;
	return 0;
}

int bench_setup_apart(void **state)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	bench_run("ip link set lo up");
	return bench_setup(state);
}

int bench_teardown(void **state)
{
	struct bench *bench = *state;
	char command[128];
	if (bench->networks)
		bench_stop_daemon(bench);
	fake_priv_done(&bench->fake);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
	snprintf(command, sizeof(command), "rm -rf %s", bench->dir);
	int rc = system(command);
	free(bench);
	return rc;
}

void bench_require_namespaces(void)
{
	if (unshare(CLONE_NEWNET) == 0)
		return;
	printf("skipped: no network namespace of our own (not root)\n");
	exit(SKIP);
}

void bench_run(const char *command)
{
	int rc = system(command);
	if (rc != 0)
		fail_msg("%s: status %d", command, rc);
}

void bench_answer(void *data, const struct db_network *row, const struct err *err)
{
	struct bench *bench = data;
	bench->answers++;
	bench->has_row = row != NULL;
	if (row)
		bench->row = *row;
	bench->err = err ? *err : (struct err){0};
}

void bench_make(struct bench *bench, const struct network_create *create)
{
	int before = bench->answers;
	networks_create(bench->networks, create, bench_answer, bench);
	bench_until(bench, bench->answers > before);
}

void bench_create(struct bench *bench, const char *name, enum db_network_kind kind,
		  const char *cidr)
{
	bench_make(bench, &(struct network_create){.name = name, .kind = kind, .cidr = cidr});
}

void bench_create_ok(struct bench *bench, const char *name)
{
	bench_create(bench, name, DB_NETWORK_NAT, NULL);
	if (bench->err.code)
		fail_msg("%s", bench->err.msg);
}

const char *bench_in_use_by(void *data, const char *network_id)
{
	return data;
}

void bench_delete(struct bench *bench, const char *ref, const char *user)
{
	int before = bench->answers;
	networks_delete(bench->networks, ref, bench_in_use_by, (void *)(uintptr_t)user,
			bench_answer, bench);
	bench_until(bench, bench->answers > before);
}

static void on_reconciled(void *data)
{
	struct bench *bench = data;
	bench->reconciled = true;
}

void bench_reconcile(struct bench *bench)
{
	bench->reconciled = false;
	networks_reconcile(bench->networks, on_reconciled, bench);
	bench_until(bench, bench->reconciled);
}

static int keep_row(void *data, const struct db_network *row)
{
	struct bench *bench = data;
	bench->row = *row;
	bench->has_row = true;
	return 0;
}

bool bench_stored_row(struct bench *bench)
{
	struct err err;
	bench->has_row = false;
	assert_int_equal(db_network_each(bench->db, keep_row, bench, &err), 0);
	return bench->has_row;
}

void bench_store_row(struct bench *bench)
{
	networks_free(TAKE_PTR(bench->networks));
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(db_network_update(bench->db, &bench->row, &bench->err), 0);
	db_close(TAKE_PTR(bench->db));
	bench_start_daemon(bench);
}

bool bench_is_state(struct bench *bench, const char *want)
{
	json_t *json =
		networks_to_json(bench->networks, networks_find(bench->networks, "lan", NULL));
	bool ret = strcmp(json_string_value(json_object_get(json, "state")), want) == 0;
	json_decref(json);
	return ret;
}

void bench_assert_state(struct bench *bench, const char *want)
{
	assert_non_null(networks_find(bench->networks, "lan", NULL));
	assert_true(bench_is_state(bench, want));
}

static void path_of(const struct bench *bench, const char *name, char ret[128])
{
	snprintf(ret, 128, "%s/networks/1%s%s", bench->dir, name[0] ? "/" : "", name);
}

char *bench_read(const struct bench *bench, const char *name)
{
	char path[128], *text = mem_calloc(1, 4096);
	path_of(bench, name, path);
	FILE *in = fopen(path, "re");
	if (in) {
		text[fread(text, 1, 4095, in)] = '\0';
		fclose(in);
	}
	return text;
}

void bench_write_leases(const struct bench *bench, const char *text)
{
	char path[128];
	path_of(bench, "leases", path);
	FILE *out = fopen(path, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

bool bench_file_exists(const struct bench *bench, const char *name)
{
	char path[128];
	path_of(bench, name, path);
	return access(path, F_OK) == 0;
}
