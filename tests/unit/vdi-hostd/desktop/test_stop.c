/* The ways down: stop, delete, a QEMU that dies, and what comes after. */
#include <signal.h>

#include "bench.h"

static void assert_stopped(struct bench *bench, struct desktop *desktop)
{
	assert_ptr_equal(bench->got, desktop);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
	assert_string_equal(desktop_row(desktop)->state_reason, "");
	bench_assert_no_trace(bench, desktop);
}

static void a_guest_that_heeds_the_button(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench->obeys = true;
	int ends = bench->ends;
	desktop_stop(desktop, false, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_stopped(bench, desktop);
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], 0);
	assert_int_equal(bench->calls[PRIV_CGROUP_DELETE], 1);
	desktop_stop(desktop, false, 0, bench_end, bench);
	assert_ptr_equal(bench->got, desktop); /* done already */
	assert_int_equal(bench->ends, ends + 2);
}

static void a_guest_that_is_deaf(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	int ends = bench->ends;
	desktop_stop(desktop, false, 0, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "system_powerdown"));
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPING);
	bench_turn(bench, 20);
	assert_int_equal(bench->ends, ends);
	/* halfway through its 20 s it is asked once more, then switched off */
	bench->heard[0] = '\0';
	assert_int_equal(bench_hurry(bench, 8000, 10000), 1);
	bench_until(bench, strstr(bench->heard, "system_powerdown"));
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], 0);
	assert_int_equal(bench_hurry(bench, 8000, 10000), 1);
	bench_wait(bench, ends + 1);
	assert_non_null(strstr(bench->heard, "quit"));
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], 0);
	assert_stopped(bench, desktop);
}

static void by_force(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	int ends = bench->ends;
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_stopped(bench, desktop);
	assert_null(strstr(bench->heard, "system_powerdown"));
	/* it closed its disks itself */
	assert_non_null(strstr(bench->heard, "quit"));
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], 0);
}

/* A QEMU that hangs costs two seconds, and not even those where force is asked for again. */
static void by_force_where_qemu_hangs(void **state)
{
	struct bench *bench = *state;
	for (int again = 0; again < 2; again++) {
		struct desktop *desktop = bench_run(bench, again ? "e" : "d");
		int ends = bench->ends, signals = bench->calls[PRIV_QEMU_SIGNAL];
		bench->heard[0] = '\0';
		bench->hangs = true;
		desktop_stop(desktop, true, 0, bench_end, bench);
		bench_until(bench, strstr(bench->heard, "quit"));
		bench_turn(bench, 10);
		assert_int_equal(bench->ends, ends);
		assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], signals);
		if (again)
			desktop_stop(desktop, true, 0, bench_end, bench);
		else
			assert_int_equal(bench_hurry(bench, 1100, 2000), 1);
		bench_wait(bench, ends + 1 + again);
		assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], signals + 1);
		assert_stopped(bench, desktop);
		bench->hangs = false;
	}
}

static void force_hurries_a_stop(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	int ends = bench->ends;
	desktop_stop(desktop, false, 0, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "system_powerdown"));
	desktop_stop(desktop, true, 0, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench_wait(bench, ends + 2);
	assert_stopped(bench, desktop);
}

/* A process that even SIGKILL does not end at once, as one that waits for a dead disk. */
static void a_qemu_that_does_not_end(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	struct db_desktop row;
	int ends = bench->ends;
	bench->immortal = true;
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_until(bench, bench->calls[PRIV_QEMU_SIGNAL] == 1);
	assert_int_equal(bench_hurry(bench, 25000, 30000), 1);
	bench_wait(bench, ends + 1);
	assert_int_equal(bench->err.code, ERR_TIMEOUT);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	/* it ends after all */
	bench_kill(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
	bench_assert_no_trace(bench, desktop);
	assert_true(bench_row(bench, "d", &row));
	assert_int_equal(bench->ends, ends + 1);
}

static void a_stop_without_a_monitor(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_hangup(bench);
	bench_until(bench, !desktop_qmp(desktop));
	int ends = bench->ends;
	desktop_stop(desktop, false, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_stopped(bench, desktop);
}

static void a_stop_of_what_failed(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	bench->fail = PRIV_QEMU_SPAWN;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 2);
	assert_int_equal(desktop_state(desktop), DESKTOP_FAILED);
	desktop_stop(desktop, false, 0, bench_end, bench);
	assert_stopped(bench, desktop);
}

/* The guest's own shutdown is no failure; QEMU's end without it is. */
static void a_guest_that_shuts_down(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_event(bench, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}");
	bench_turn(bench, 3);
	bench_kill(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_STOPPED);
	bench_assert_no_trace(bench, desktop);
}

static void qemu_dies_while_it_runs(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_kill(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "killed by signal 9"));
	bench_assert_no_trace(bench, desktop);
	bench_turn(bench, 5);
	assert_int_equal(bench_hurry(bench, 0, 60000), 0); /* restart: never */
}

/* Whoever asked for something hears how QEMU died, once. */
static void qemu_dies_in_an_operation(void **state)
{
	static void (*const ask[])(struct desktop *, desktop_cb, void *) = {
		desktop_pause, desktop_reset, desktop_pause, desktop_reset};
	static const char *const commands[] = {"stop", "system_reset", "stop", "system_reset"};
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	for (size_t i = 0; i < ARRAY_LEN(ask); i++) {
		int ends = bench->ends;
		bench->at = commands[i];
		bench->how = i < 2 ? BENCH_SILENT : BENCH_DIE;
		bench->heard[0] = '\0';
		ask[i](desktop, bench_end, bench);
		bench_until(bench, strstr(bench->heard, commands[i]));
		if (i < 2)
			kill(bench->pids[bench->n_pids - 1], SIGKILL);
		bench_wait(bench, ends + 1);
		assert_int_equal(bench->err.code, ERR_UNAVAILABLE);
		if (i < 2)
			assert_non_null(strstr(bench->err.msg, "killed by signal 9"));
		bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
		bench_assert_no_trace(bench, desktop);
		bench->at = NULL;
		desktop_start(desktop, 0, bench_end, bench);
		bench_wait(bench, ends + 2);
		assert_ptr_equal(bench->got, desktop);
	}
}

static void the_restart_policy_backs_off(void **state)
{
	static const uint64_t waits[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	desktop->row.restart = DB_RESTART_ON_FAILURE;
	for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
		bench_kill(bench);
		bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
		bench_turn(bench, 2);
		/* over what it was before, however much of it has passed already */
		assert_int_equal(bench_hurry(bench, i ? waits[i] * 5 / 9 : 100, waits[i]), 1);
		bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
	}
	/* it ran well for a while: anew */
	desktop->row.started_at -= 11 * 60000;
	bench_kill(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
	bench_turn(bench, 2);
	/* who stops it does not want it back */
	desktop_stop(desktop, false, 0, bench_end, bench);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
	assert_int_equal(bench_hurry(bench, 100, 60000), 0);
}

static void the_restart_policy_and_a_shutdown(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	for (int always = 0; always < 2; always++) {
		desktop->row.restart = always ? DB_RESTART_ALWAYS : DB_RESTART_ON_FAILURE;
		bench_event(bench, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}");
		bench_turn(bench, 3);
		bench_kill(bench);
		bench_until(bench, desktop_state(desktop) == DESKTOP_STOPPED);
		bench_turn(bench, 2);
		assert_int_equal(bench_hurry(bench, 500, 60000), always);
		if (always)
			break;
		int ends = bench->ends;
		desktop_start(desktop, 0, bench_end, bench);
		bench_wait(bench, ends + 1);
	}
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
}

static void a_delete(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	struct db_desktop row;
	int hosts = bench->hosts_changes;
	desktop_delete(desktop, false, bench_end, bench);
	bench_wait(bench, 2);
	assert_int_equal(bench->err.code, 0);
	assert_null(bench->got);
	assert_false(bench_row(bench, "d", &row));
	assert_int_equal(bench->overlays, 0);
	assert_int_equal(desktops_count(bench->all), 0);
	assert_int_equal(bench->hosts_changes, hosts + 1);
}

static void a_delete_of_what_runs(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	struct db_desktop row;
	int ends = bench->ends;
	desktop_delete(desktop, false, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_true(bench_process_lives(bench));
	desktop_delete(desktop, true, bench_end, bench);
	bench_wait(bench, ends + 2);
	assert_int_equal(bench->err.code, 0);
	assert_false(bench_process_lives(bench));
	assert_false(bench_row(bench, "d", &row));
	assert_int_equal(bench->overlays, 0);
}

/* One that failed is whole again, and no later start of the daemon goes on with it. */
static void a_delete_that_fails(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	struct db_desktop row;
	struct err err;
	bench->fail_overlay_delete = true;
	desktop_delete(desktop, false, bench_end, bench);
	bench_wait(bench, 2);
	assert_int_equal(bench->err.code, ERR_IO);
	assert_int_equal(desktop_state(desktop), DESKTOP_FAILED);
	assert_true(bench_row(bench, "d", &row));
	assert_int_equal(row.op, DB_DESKTOP_OP_NONE);
	bench->fail_overlay_delete = false;
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	assert_non_null(desktop);
	assert_int_equal(desktop_state(desktop), DESKTOP_FAILED);
	assert_string_equal(desktop_row(desktop)->state_reason, "the store is broken");
	desktop_delete(desktop, false, bench_end, bench);
	bench_wait(bench, 3);
	assert_false(bench_row(bench, "d", &row));
}

static void the_daemon_ends_in_a_stop(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	struct err err;
	int ends = bench->ends;
	desktop_stop(desktop, false, 0, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "system_powerdown"));
	bench_stop_daemon(bench);
	assert_int_equal(bench->ends, ends + 1);
	assert_int_equal(bench->err.code, ERR_CANCELLED);
	assert_true(bench_process_lives(bench));
	/* the next one goes on with it */
	bench->obeys = true;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	bench_until(bench, desktop_state(desktop) == DESKTOP_STOPPED);
	bench_assert_no_trace(bench, desktop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(a_guest_that_heeds_the_button),
		with_bench(a_guest_that_is_deaf),
		with_bench(by_force),
		with_bench(by_force_where_qemu_hangs),
		with_bench(force_hurries_a_stop),
		with_bench(a_qemu_that_does_not_end),
		with_bench(a_stop_without_a_monitor),
		with_bench(a_stop_of_what_failed),
		with_bench(a_guest_that_shuts_down),
		with_bench(qemu_dies_while_it_runs),
		with_bench(qemu_dies_in_an_operation),
		with_bench(the_restart_policy_backs_off),
		with_bench(the_restart_policy_and_a_shutdown),
		with_bench(a_delete),
		with_bench(a_delete_of_what_runs),
		with_bench(a_delete_that_fails),
		with_bench(the_daemon_ends_in_a_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
