/* Start: each step's failure is undone whole, and said. Create. */
#include <signal.h>

#include "bench.h"

static void start_fails(struct bench *bench, struct desktop *desktop, const char *word)
{
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_null(bench->got);
	if (!strstr(bench->err.msg, word))
		fail_msg("'%s' has no '%s'", bench->err.msg, word);
	assert_int_equal(desktop_state(desktop), DESKTOP_FAILED);
	assert_string_equal(desktop_row(desktop)->state_reason, bench->err.msg);
	bench_assert_no_trace(bench, desktop);
	struct db_desktop row;
	assert_true(bench_row(bench, desktop_row(desktop)->name, &row));
	assert_true(row.failed);
	assert_string_equal(row.state_reason, bench->err.msg);
}

static void start_works(struct bench *bench, struct desktop *desktop)
{
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	if (!bench->got)
		fail_msg("%s", bench->err.msg);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_true(bench->guest_runs);
	struct db_desktop row;
	assert_true(bench_row(bench, desktop_row(desktop)->name, &row));
	assert_int_equal(row.pid, bench->pids[bench->n_pids - 1]);
	assert_int_equal(row.op, DB_DESKTOP_OP_NONE);
	assert_true(row.wanted);
	assert_false(row.failed);
}

static void a_start(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	start_works(bench, desktop);
	assert_int_equal(bench->calls[PRIV_TAP_CREATE], 1);
	/* the screen is closed before the guest runs */
	assert_string_equal(bench->heard, "qmp_capabilities query-status cont ");
	desktop_start(desktop, 0, bench_end, bench);
	assert_ptr_equal(bench->got, desktop);
	assert_int_equal(bench->calls[PRIV_QEMU_SPAWN], 1);
}

static void networks_that_need_no_tap(void **state)
{
	struct bench *bench = *state;
	start_works(bench, bench_create(bench, "d", "user"));
	start_works(bench, bench_create(bench, "e", NULL));
	assert_int_equal(bench->calls[PRIV_TAP_CREATE], 0);
}

static void the_privileged_half_fails(void **state)
{
	static const enum priv_verb verbs[] = {PRIV_TAP_CREATE, PRIV_QEMU_SPAWN};
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		bench->fail = verbs[i];
		start_fails(bench, desktop, "told to fail");
	}
	bench->fail = 0;
	start_works(bench, desktop); /* nothing stands in its way */
}

static void the_disk_is_damaged(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	bench->fail_chain = true;
	start_fails(bench, desktop, "the disk is damaged");
	assert_int_equal(bench->calls[PRIV_QEMU_SPAWN], 0);
}

static void no_room_on_the_host(void **state)
{
	struct bench *bench = *state;
	bench_stop_daemon(bench);
	bench->memory_reserve_mib = 1 << 30;
	bench_start_daemon(bench);
	struct desktop *desktop = bench_create(bench, "d", "nat");
	start_fails(bench, desktop, "needs 176 MiB and the host lacks");
	assert_int_equal(bench->err.code, ERR_LIMIT);
	assert_int_equal(bench->calls[PRIV_TAP_CREATE], 0);
}

/* What others were promised and have not touched yet is not there to be given away. */
static void promises_count(void **state)
{
	struct bench *bench = *state;
	struct err err;
	struct desktop *first = bench_run(bench, "a"), *second = bench_create(bench, "b", NULL);
	assert_int_equal(desktop_admit(second, &err), 0);
	first->row.memory_mib = (int64_t)1 << 30;
	assert_int_equal(desktop_admit(second, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	/* one that is stopped was promised nothing */
	first->row.memory_mib = 16;
	second->row.memory_mib = (int64_t)1 << 30;
	assert_int_equal(desktop_admit(first, &err), 0);
}

/* Each command of the start, and each way to get it wrong. */
static void qemu_misbehaves(void **state)
{
	static const char *const commands[] = {"", "qmp_capabilities", "query-status", "cont"};
	static const struct {
		enum bench_how how;
		const char *word;
	} ways[] = {
		{BENCH_REFUSE, "not today"},
		{BENCH_DIE, "QEMU was killed by signal 9"},
		{BENCH_HANGUP, "QMP"},
		{BENCH_GARBAGE, "no valid message"},
	};
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		for (size_t k = 0; k < ARRAY_LEN(ways); k++) {
			if (i == 0 && ways[k].how == BENCH_REFUSE)
				continue;
			bench->at = commands[i];
			bench->how = ways[k].how;
			start_fails(bench, desktop, ways[k].word);
		}
	}
	bench->at = NULL;
	start_works(bench, desktop);
}

static void qemu_says_nothing(void **state)
{
	static const struct {
		const char *at, *word;
	} silences[] = {
		{"", "no greeting from QEMU within 1000 ms"},
		{"query-status", "query-status: QEMU gave no answer within 1000 ms"},
	};
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	bench->how = BENCH_SILENT;
	for (size_t i = 0; i < ARRAY_LEN(silences); i++) {
		int ends = bench->ends;
		bench->at = silences[i].at;
		desktop_start(desktop, 1, bench_end, bench);
		bench_wait(bench, ends + 1);
		assert_int_equal(bench->err.code, ERR_TIMEOUT);
		assert_non_null(strstr(bench->err.msg, silences[i].word));
		bench_assert_no_trace(bench, desktop);
	}
}

static void last_words_are_passed_on(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	char path[256];
	struct err err;
	bench->at = "query-status";
	bench->how = BENCH_SILENT;
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "query-status"));
	assert_int_equal(desktop_path(desktop, DESKTOP_QEMU_LOG, path, sizeof(path), &err), 0);
	FILE *log = fopen(path, "ae");
	fputs("noise\nqemu: could not do it\n\n", log);
	fclose(log);
	bench_kill(bench);
	bench_wait(bench, ends + 1);
	assert_non_null(strstr(bench->err.msg, "signal 9"));
	assert_non_null(strstr(bench->err.msg, ": qemu: could not do it"));
	assert_null(strstr(bench->err.msg, "noise"));
}

static void a_qemu_that_cannot_be_watched(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	bench->unwatchable = true;
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_non_null(strstr(bench->err.msg, "cannot watch"));
	bench_until(bench, !bench_process_lives(bench));
	bench_assert_no_trace(bench, desktop);
}

/* A plan that gives up while the privileged half is still at it waits for what comes of it. */
static void an_answer_that_comes_late(void **state)
{
	static const enum priv_verb verbs[] = {PRIV_TAP_CREATE, PRIV_QEMU_SPAWN};
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	for (int failing = 0; failing < 2; failing++) {
		for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
			int ends = bench->ends, calls = bench->calls[verbs[i]];
			bench->hold = verbs[i];
			desktop_start(desktop, 0, bench_end, bench);
			bench_until(bench, bench->calls[verbs[i]] > calls);
			plan_cancel(desktop->plan, NULL);
			bench_turn(bench, 3);
			assert_int_equal(bench->ends, ends);
			bench->fail = failing ? verbs[i] : 0;
			bench_release(bench);
			bench_wait(bench, ends + 1);
			bench->fail = 0;
			assert_int_equal(bench->err.code, ERR_CANCELLED);
			bench_assert_no_trace(bench, desktop);
		}
	}
}

static void one_operation_at_a_time(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	struct err err;
	struct desktop_update update = {.autostart = 1, .restart = -1};
	bench->hold = PRIV_QEMU_SPAWN;
	desktop_start(desktop, 0, bench_end, bench);
	bench_until(bench, bench->calls[PRIV_QEMU_SPAWN] == 1);
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_stop(desktop, true, 0, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_pause(desktop, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_reset(desktop, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_delete(desktop, true, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_make_ready(desktop, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	assert_int_equal(bench->ends, ends + 6);
	assert_int_equal(desktop_update(desktop, &update, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	bench_release(bench);
	bench_wait(bench, ends + 7);
	assert_ptr_equal(bench->got, desktop);
}

/* The daemon ends in the middle: who asked hears of it, and nothing runs on. */
static void the_daemon_ends_in_each_step(void **state)
{
	static const char *const commands[] = {"", "query-status", "cont"};
	static const enum priv_verb verbs[] = {PRIV_TAP_CREATE, PRIV_QEMU_SPAWN};
	struct bench *bench = *state;
	bench_create(bench, "d", "nat");
	struct err err;
	for (size_t i = 0; i <= ARRAY_LEN(commands) + ARRAY_LEN(verbs); i++) {
		int ends = bench->ends;
		bench->how = BENCH_SILENT;
		bench->at = i < ARRAY_LEN(commands) ? commands[i] : NULL;
		bench->hold = i < ARRAY_LEN(commands)       ? 0
			      : i < ARRAY_LEN(commands) + 2 ? verbs[i - ARRAY_LEN(commands)]
							    : 0;
		desktop_start(desktops_find(bench->all, "d", &err), 0, bench_end, bench);
		if (i < ARRAY_LEN(commands) + 2)
			bench_turn(bench, 10);
		assert_int_equal(bench->ends, ends);
		bench_stop_daemon(bench);
		assert_int_equal(bench->ends, ends + 1);
		assert_int_equal(bench->err.code, ERR_CANCELLED);
		bench->at = NULL;
		bench->hold = 0;
		bench_start_daemon(bench);
		bench_reconcile(bench);
		struct desktop *desktop = desktops_find(bench->all, "d", &err);
		assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
		bench_assert_no_trace(bench, desktop);
	}
}

static void a_create_that_fails(void **state)
{
	struct bench *bench = *state;
	struct desktop_create create = {.name = "d", .image = "img", .network = "nat"};
	struct db_desktop row;
	bench->fail_overlay = true;
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, 1);
	assert_non_null(strstr(bench->err.msg, "the store is full"));
	assert_false(bench_row(bench, "d", &row));
	assert_int_equal(desktops_count(bench->all), 0);
	bench->fail_overlay = false;
	bench->fail_hosts = true;
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, 2);
	assert_non_null(strstr(bench->err.msg, "no list today"));
	assert_false(bench_row(bench, "d", &row));
	assert_int_equal(bench->overlays, 0);
	assert_int_equal(desktops_count(bench->all), 0);
	bench->fail_hosts = false;
	create.image = "other";
	desktops_create(bench->all, &create, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	create.image = "img";
	create.disk_bytes = 1;
	desktops_create(bench->all, &create, bench_end, bench);
	assert_string_equal(bench->err.field, "disk_gib");
	create.disk_bytes = 0;
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, 5);
	assert_non_null(bench->got);
	desktops_create(bench->all, &create, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_EXISTS);
	assert_int_equal(bench->overlays, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(a_start),
		with_bench(networks_that_need_no_tap),
		with_bench(the_privileged_half_fails),
		with_bench(the_disk_is_damaged),
		with_bench(no_room_on_the_host),
		with_bench(promises_count),
		with_bench(qemu_misbehaves),
		with_bench(qemu_says_nothing),
		with_bench(last_words_are_passed_on),
		with_bench(a_qemu_that_cannot_be_watched),
		with_bench(an_answer_that_comes_late),
		with_bench(one_operation_at_a_time),
		with_bench(the_daemon_ends_in_each_step),
		with_bench(a_create_that_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
