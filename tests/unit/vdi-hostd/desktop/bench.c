#include "bench.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static size_t count_fds(void)
{
	size_t n = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

void bench_start_daemon(struct bench *bench)
{
	struct err err;
	char path[96];
	snprintf(path, sizeof(path), "%s/db", bench->dir);
	if (db_open(path, &bench->db, &err) < 0)
		fail_msg("%s", err.msg);
	const struct desktops_env env = {
		.loop = &bench->loop,
		.db = bench->db,
		.priv = (struct priv *)bench,
		.images = (struct images *)bench,
		.networks = (struct networks *)bench,
		.accel = QEMU_ACCEL_TCG,
		.state_dir = bench->dir,
		.runtime_dir = bench->dir,
		.uid_base = getuid(),
		.memory_reserve_mib = bench->memory_reserve_mib,
		.start_timeout_s = 5,
		.stop_timeout_s = 20,
	};
	if (desktops_new(&env, &bench->all, &err) < 0)
		fail_msg("%s", err.msg);
}

/* In main()'s order. The fake QEMU's own handles stay in the loop. */
void bench_stop_daemon(struct bench *bench)
{
	desktops_free(TAKE_PTR(bench->all));
	priv_close((struct priv *)bench);
	bench_turn(bench, 5);
	db_close(TAKE_PTR(bench->db));
}

static void on_reconciled(void *data)
{
	struct bench *bench = data;
	assert_false(bench->reconciled);
	bench->reconciled = true;
}

void bench_reconcile(struct bench *bench)
{
	bench->reconciled = false;
	desktops_reconcile(bench->all, on_reconciled, bench);
	bench_until(bench, bench->reconciled);
}

int bench_setup(void **state)
{
	struct bench *bench = mem_new(struct bench);
	/* libuv's own, which it keeps */
	uv_loop_init(&bench->loop);
	uv_loop_close(&bench->loop);
	bench->n_fds = count_fds();
	snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-desktop-XXXXXX");
	assert_non_null(mkdtemp(bench->dir));
	uv_loop_init(&bench->loop);
	bench->tap_end = bench->listener = bench->client = bench->fdset_fd = -1;
	bench_start_daemon(bench);
	bench_insert_parts(bench->db);
	*state = bench;
	return 0;
}

int bench_teardown(void **state)
{
	struct bench *bench = *state;
	char command[96];
	if (bench->all)
		bench_stop_daemon(bench);
	bench_listen(bench, -1);
	for (size_t i = 0; i < bench->n_pids; i++) {
		/* those that were reaped are nobody's children any more */
		if (waitpid(bench->pids[i], NULL, WNOHANG) != 0)
			continue;
		kill(bench->pids[i], SIGKILL);
		waitpid(bench->pids[i], NULL, 0);
	}
	mem_closep(&bench->tap_end);
	mem_closep(&bench->fdset_fd);
	/* nothing is left that would keep the daemon from its end */
	bench_turn(bench, 2);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
	assert_int_equal(count_fds(), bench->n_fds);
	snprintf(command, sizeof(command), "rm -rf '%s'", bench->dir);
	int failed = system(command);
	free(bench);
	return failed;
}

void bench_end(void *data, struct desktop *desktop, const struct err *err)
{
	struct bench *bench = data;
	bench->ends++;
	bench->got = desktop;
	bench->err = err ? *err : (struct err){0};
	assert_true(!err || !desktop);
}

void bench_wait(struct bench *bench, int ends)
{
	bench_until(bench, bench->ends >= ends);
	assert_int_equal(bench->ends, ends);
}

struct desktop *bench_create(struct bench *bench, const char *name, const char *network)
{
	const struct desktop_create create = {
		.name = name, .image = "img", .network = network, .memory_mib = 16, .vcpus = 1};
	int ends = bench->ends;
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, ends + 1);
	if (!bench->got)
		fail_msg("%s", bench->err.msg);
	return bench->got;
}

struct desktop *bench_run(struct bench *bench, const char *name)
{
	struct desktop *desktop = bench_create(bench, name, NULL);
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	if (!bench->got)
		fail_msg("%s", bench->err.msg);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	return desktop;
}

struct hurry {
	uint64_t from, to;
	int n;
};

static void hurry(uv_handle_t *handle, void *data)
{
	struct hurry *span = data;
	if (handle->type != UV_TIMER || !uv_is_active(handle))
		return;
	uv_timer_t *timer = (uv_timer_t *)handle;
	uint64_t left = uv_timer_get_due_in(timer);
	if (left < span->from || left > span->to)
		return;
	span->n++;
	uv_timer_set_repeat(timer, 1);
	uv_timer_again(timer);
}

int bench_hurry(struct bench *bench, uint64_t from, uint64_t to)
{
	struct hurry span = {from, to, 0};
	uv_update_time(&bench->loop);
	uv_walk(&bench->loop, hurry, &span);
	return span.n;
}

bool bench_process_lives(struct bench *bench)
{
	uint64_t start;
	return bench->n_pids > 0 &&
	       proc_start_time(bench->pids[bench->n_pids - 1], &start, NULL) == 0;
}

struct search {
	const char *name;
	struct db_desktop *ret;
	bool found;
};

static int compare(void *data, const struct db_desktop *row)
{
	struct search *search = data;
	if (strcmp(row->name, search->name) == 0) {
		*search->ret = *row;
		search->found = true;
	}
	return 0;
}

bool bench_row(struct bench *bench, const char *name, struct db_desktop *ret)
{
	struct search search = {name, ret, false};
	struct err err;
	assert_int_equal(db_desktop_each(bench->db, compare, &search, &err), 0);
	return search.found;
}

void bench_assert_no_trace(struct bench *bench, struct desktop *desktop)
{
	struct db_desktop row;
	char path[256];
	struct err err;
	assert_false(bench_process_lives(bench));
	assert_true(bench_row(bench, desktop_row(desktop)->name, &row));
	assert_int_equal(row.op, DB_DESKTOP_OP_NONE);
	assert_int_equal(row.pid, 0);
	assert_false(row.wanted);
	assert_null(desktop_qmp(desktop));
	assert_null(desktop->plan);
	assert_null(desktop->done);
	assert_int_equal(desktop_path(desktop, DESKTOP_QMP_SOCKET, path, sizeof(path), &err), 0);
	assert_int_equal(access(path, F_OK), -1);
	if (bench->tap_end < 0)
		return;
	struct pollfd tap = {.fd = bench->tap_end, .events = POLLIN};
	assert_int_equal(poll(&tap, 1, 0), 1);
	assert_true(tap.revents & POLLHUP);
}
