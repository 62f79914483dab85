/* A start of the daemon: each intent that a crash may leave, with a QEMU that lives or is gone. */
#include <signal.h>

#include "bench.h"

static struct desktop *find(struct bench *bench, const char *name)
{
	struct err err;
	return desktops_find(bench->all, name, &err);
}

/* The daemon ends; its row becomes what a crash would have left; the next one starts. */
static void crash(struct bench *bench, void (*change)(struct db_desktop *row))
{
	struct db_desktop row;
	struct err err;
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	assert_true(bench_row(bench, "d", &row));
	if (change)
		change(&row);
	assert_int_equal(db_desktop_update(bench->db, &row, &err), 0);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
}

static void op_start(struct db_desktop *row)
{
	row->op = DB_DESKTOP_OP_START;
}

static void op_start_unknown(struct db_desktop *row)
{
	row->op = DB_DESKTOP_OP_START;
	row->pid = 0;
	row->start_time = 0;
	row->boot_id[0] = '\0';
}

static void op_stop(struct db_desktop *row)
{
	row->op = DB_DESKTOP_OP_STOP;
}

static void op_create(struct db_desktop *row)
{
	row->op = DB_DESKTOP_OP_CREATE;
}

static void op_delete(struct db_desktop *row)
{
	row->op = DB_DESKTOP_OP_DELETE;
}

static void other_boot(struct db_desktop *row)
{
	snprintf(row->boot_id, sizeof(row->boot_id), "00000000-0000-4000-8000-000000000000");
}

static void other_boot_in_a_start(struct db_desktop *row)
{
	other_boot(row);
	op_start(row);
}

/* The pid is a stranger's by now. */
static void pid_of_another(struct db_desktop *row)
{
	row->pid = getpid();
	row->start_time = 1;
}

static void kill_and_collect(struct bench *bench)
{
	bench_kill(bench);
	bench_until(bench, !bench_process_lives(bench));
}

static void what_runs_is_adopted(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	for (int paused = 0; paused < 2; paused++) {
		bench->guest_runs = !paused;
		crash(bench, NULL);
		bench->heard[0] = '\0';
		bench_reconcile(bench);
		assert_int_equal(desktop_state(find(bench, "d")),
				 paused ? DESKTOP_PAUSED : DESKTOP_RUNNING);
		assert_null(strstr(bench->heard, "cont")); /* and not touched */
	}
	assert_int_equal(bench->n_pids, 1);
	assert_true(bench_process_lives(bench));
	/* its end is heard of */
	bench_kill(bench);
	bench_until(bench, desktop_state(find(bench, "d")) == DESKTOP_FAILED);
}

static void what_died_meanwhile(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench_stop_daemon(bench);
	kill_and_collect(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	struct db_desktop row;
	assert_int_equal(desktop_state(find(bench, "d")), DESKTOP_FAILED);
	assert_non_null(strstr(desktop_row(find(bench, "d"))->state_reason, "QEMU ended"));
	assert_true(bench_row(bench, "d", &row));
	assert_true(row.failed);
	assert_int_equal(row.pid, 0);
	assert_int_equal(bench->calls[PRIV_CGROUP_DELETE], 1);
}

static void a_pid_that_is_another_s_now(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench_stop_daemon(bench);
	kill_and_collect(bench);
	bench_start_daemon(bench);
	crash(bench, pid_of_another);
	bench_reconcile(bench);
	assert_int_equal(desktop_state(find(bench, "d")), DESKTOP_FAILED);
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], 0);
}

static void what_went_down_with_the_host(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench_stop_daemon(bench);
	kill_and_collect(bench);
	bench_start_daemon(bench);
	crash(bench, other_boot);
	bench_reconcile(bench);
	assert_int_equal(desktop_state(find(bench, "d")), DESKTOP_STOPPED);
	assert_non_null(strstr(desktop_row(find(bench, "d"))->state_reason, "host was restarted"));
}

static void a_start_in_the_middle(void **state)
{
	static void (*const changes[])(struct db_desktop *) = {op_start, op_start_unknown,
							       other_boot_in_a_start};
	struct bench *bench = *state;
	bench_run(bench, "d");
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		for (int alive = 0; alive < 2; alive++) {
			int signals = bench->calls[PRIV_QEMU_SIGNAL];
			if (!alive) {
				bench_stop_daemon(bench);
				kill_and_collect(bench);
				bench_start_daemon(bench);
			}
			crash(bench, changes[i]);
			bench_reconcile(bench);
			struct desktop *desktop = find(bench, "d");
			assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
			bench_assert_no_trace(bench, desktop);
			assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL] - signals, alive);
			int ends = bench->ends;
			desktop_start(desktop, 0, bench_end, bench);
			bench_wait(bench, ends + 1);
			assert_ptr_equal(bench->got, desktop);
		}
	}
}

static void a_stop_in_the_middle(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench->obeys = true;
	for (int alive = 0; alive < 2; alive++) {
		if (!alive) {
			bench_stop_daemon(bench);
			kill_and_collect(bench);
			bench_start_daemon(bench);
		}
		crash(bench, op_stop);
		bench_reconcile(bench);
		struct desktop *desktop = find(bench, "d");
		bench_until(bench, desktop_state(desktop) == DESKTOP_STOPPED);
		bench_assert_no_trace(bench, desktop);
		int ends = bench->ends;
		desktop_start(desktop, 0, bench_end, bench);
		bench_wait(bench, ends + 1);
	}
}

static void a_create_in_the_middle(void **state)
{
	struct bench *bench = *state;
	struct db_desktop row;
	bench_create(bench, "d", "nat");
	crash(bench, op_create);
	int hosts = bench->hosts_changes;
	bench_reconcile(bench);
	assert_null(find(bench, "d"));
	assert_false(bench_row(bench, "d", &row));
	assert_int_equal(bench->overlays, 0);
	assert_int_equal(bench->hosts_changes, hosts + 1); /* its address was on the list */
}

static void a_delete_in_the_middle(void **state)
{
	struct bench *bench = *state;
	struct db_desktop row;
	bench_create(bench, "d", "nat");
	crash(bench, op_delete);
	bench_reconcile(bench);
	assert_null(find(bench, "d"));
	assert_false(bench_row(bench, "d", &row));
	assert_int_equal(bench->overlays, 0);
}

static void a_delete_that_cannot_be_finished(void **state)
{
	struct bench *bench = *state;
	bench_create(bench, "d", NULL);
	bench->fail_overlay_delete = true;
	crash(bench, op_delete);
	bench_reconcile(bench); /* does not keep the daemon from its start */
	assert_int_equal(desktop_state(find(bench, "d")), DESKTOP_FAILED);
}

/* A QEMU that lives but does not answer runs on; its monitor is asked for again. */
static void a_monitor_that_does_not_answer(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench->at = "";
	bench->how = BENCH_HANGUP;
	crash(bench, NULL);
	bench_reconcile(bench);
	struct desktop *desktop = find(bench, "d");
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "does not answer"));
	assert_true(bench_process_lives(bench));
	bench->at = NULL;
	assert_int_equal(bench_hurry(bench, 100, 1000), 1);
	bench_until(bench, desktop_row(desktop)->state_reason[0] == '\0');
	assert_non_null(desktop_qmp(desktop));
}

static void a_monitor_whose_socket_is_gone(void **state)
{
	struct bench *bench = *state;
	char path[256], aside[300];
	struct err err;
	struct desktop *desktop = bench_run(bench, "d");
	assert_int_equal(desktop_path(desktop, DESKTOP_QMP_SOCKET, path, sizeof(path), &err), 0);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	bench_stop_daemon(bench);
	assert_int_equal(rename(path, aside), 0);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = find(bench, "d");
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_null(desktop_qmp(desktop));
	assert_int_equal(rename(aside, path), 0);
	assert_int_equal(bench_hurry(bench, 100, 1000), 1);
	bench_until(bench, desktop_qmp(desktop) && desktop_row(desktop)->state_reason[0] == '\0');
}

/* A peer that answers to query-uuid after query-status, which is its own affair. */
static void answers_in_another_order(void **state)
{
	struct bench *bench = *state;
	char text[128];
	bench_run(bench, "d");
	bench->at = "query-uuid";
	bench->how = BENCH_SILENT;
	crash(bench, NULL);
	bench_reconcile(bench);
	assert_int_equal(desktop_state(find(bench, "d")), DESKTOP_RUNNING);
	/* the monitor's third command, after qmp_capabilities */
	snprintf(text, sizeof(text), "{\"return\": {\"UUID\": \"nobody\"}, \"id\": %d}", 1);
	bench_event(bench, text);
	bench_turn(bench, 5);
	assert_non_null(find(bench, "d"));
	assert_true(bench_process_lives(bench));
}

static void qemu_dies_while_it_is_adopted(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench->at = "query-status";
	bench->how = BENCH_DIE;
	crash(bench, NULL);
	bench_reconcile(bench);
	bench_until(bench, desktop_state(find(bench, "d")) == DESKTOP_FAILED);
	bench_assert_no_trace(bench, find(bench, "d"));
}

static void count(void *data)
{
	(*(int *)data)++;
}

static void the_daemon_ends_while_it_reconciles(void **state)
{
	struct bench *bench = *state;
	bench_run(bench, "d");
	bench->at = "query-status";
	bench->how = BENCH_SILENT;
	crash(bench, NULL);
	int told = 0;
	desktops_reconcile(bench->all, count, &told);
	bench_turn(bench, 5);
	assert_int_equal(told, 0);
	bench_stop_daemon(bench);
	assert_int_equal(told, 1);
	assert_true(bench_process_lives(bench));
}

static void autostart_and_the_boot(void **state)
{
	struct bench *bench = *state;
	struct err err;
	struct desktop_update update = {.autostart = 1, .restart = -1};
	bench_create(bench, "other", NULL);
	assert_int_equal(desktop_update(bench_create(bench, "d", NULL), &update, &err), 0);
	bench_reconcile(bench);
	bench_until(bench, desktop_state(find(bench, "d")) == DESKTOP_RUNNING);
	assert_int_equal(desktop_state(find(bench, "other")), DESKTOP_STOPPED);
	/* stopped on purpose: a daemon that restarts leaves it so, the next boot does not */
	int ends = bench->ends;
	desktop_stop(find(bench, "d"), true, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	crash(bench, NULL);
	bench_reconcile(bench);
	bench_turn(bench, 10);
	assert_int_equal(desktop_state(find(bench, "d")), DESKTOP_STOPPED);
	assert_int_equal(db_meta_set(bench->db, "autostart_boot_id", "before", &err), 0);
	crash(bench, NULL);
	bench_reconcile(bench);
	bench_until(bench, desktop_state(find(bench, "d")) == DESKTOP_RUNNING);
	assert_int_equal(bench->n_pids, 2);
}

static void what_was_wanted_comes_back(void **state)
{
	static const enum db_desktop_restart policies[] = {DB_RESTART_NEVER, DB_RESTART_ON_FAILURE};
	struct bench *bench = *state;
	struct err err;
	bench_run(bench, "d");
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		struct desktop_update update = {.autostart = -1, .restart = (int)policies[i]};
		assert_int_equal(desktop_update(find(bench, "d"), &update, &err), 0);
		bench_stop_daemon(bench);
		kill_and_collect(bench);
		bench_start_daemon(bench);
		assert_int_equal(db_meta_set(bench->db, "autostart_boot_id", "before", &err), 0);
		crash(bench, other_boot);
		bench_reconcile(bench);
		bench_turn(bench, 20);
		bool runs = desktop_state(find(bench, "d")) == DESKTOP_RUNNING;
		assert_int_equal(runs, policies[i] != DB_RESTART_NEVER);
		if (runs)
			break;
		int ends = bench->ends;
		desktop_start(find(bench, "d"), 0, bench_end, bench);
		bench_wait(bench, ends + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(what_runs_is_adopted),
		with_bench(what_died_meanwhile),
		with_bench(a_pid_that_is_another_s_now),
		with_bench(what_went_down_with_the_host),
		with_bench(a_start_in_the_middle),
		with_bench(a_stop_in_the_middle),
		with_bench(a_create_in_the_middle),
		with_bench(a_delete_in_the_middle),
		with_bench(a_delete_that_cannot_be_finished),
		with_bench(a_monitor_that_does_not_answer),
		with_bench(a_monitor_whose_socket_is_gone),
		with_bench(answers_in_another_order),
		with_bench(qemu_dies_while_it_is_adopted),
		with_bench(the_daemon_ends_while_it_reconciles),
		with_bench(autostart_and_the_boot),
		with_bench(what_was_wanted_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
