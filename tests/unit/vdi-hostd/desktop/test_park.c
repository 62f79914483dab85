/* Long work on the disks of a desktop: a QEMU for it, whatever the desktop's life does. */
#include <signal.h>

#include "bench.h"

struct work {
	struct desktop *desktop;
	int readies, gones, events, closes;
	struct err err, gone;
	bool opens_again, ends_in_gone;
};

static void on_ready(void *data, const struct err *err)
{
	struct work *work = data;
	work->readies++;
	work->err = err ? *err : (struct err){0};
	assert_true(err || desktop_qmp(work->desktop));
}

static void on_gone(void *data, const struct err *err)
{
	struct work *work = data;
	work->gones++;
	work->gone = *err;
	if (work->opens_again)
		desktop_work_open(work->desktop, on_ready);
	if (work->ends_in_gone)
		desktop_work_end(work->desktop);
}

static void on_event(void *data, const char *name, json_t *event)
{
	struct work *work = data;
	work->events++;
}

static void on_close(void *data)
{
	struct work *work = data;
	work->closes++;
}

static void begin(struct work *work, struct desktop *desktop)
{
	struct err err;
	const struct desktop_work ops = {"its snapshot is merged", on_event, on_gone, work};
	*work = (struct work){.desktop = desktop};
	if (desktop_work_begin(desktop, &ops, &err) < 0)
		fail_msg("%s", err.msg);
}

/* work on a stopped desktop `name`, its QEMU parked */
static struct desktop *park(struct bench *bench, struct work *work, const char *name)
{
	struct desktop *desktop = bench_create(bench, name, "nat");
	begin(work, desktop);
	desktop_work_open(desktop, on_ready);
	bench_until(bench, work->readies == 1);
	assert_int_equal(work->err.code, 0);
	return desktop;
}

static void assert_looks_stopped(struct desktop *desktop, const char *work)
{
	json_t *json = desktop_to_json(desktop);
	assert_string_equal(json_string_value(json_object_get(json, "state")), "stopped");
	assert_true(json_is_null(json_object_get(json, "pid")));
	assert_true(json_is_null(json_object_get(json, "started_at")));
	const char *text = json_string_value(json_object_get(json, "work"));
	assert_true(work ? text && strcmp(text, work) == 0 : !text);
	json_decref(json);
}

static void end(struct bench *bench, struct desktop *desktop)
{
	desktop_work_end(desktop);
	bench_until(bench, desktop->park == PARK_NONE && !desktop->plan);
	bench_assert_no_trace(bench, desktop);
	assert_looks_stopped(desktop, NULL);
}

static void a_stopped_desktop_is_parked(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct db_desktop row;
	struct err err;
	struct desktop *desktop = park(bench, &work, "d");
	assert_true(bench_process_lives(bench));
	assert_null(strstr(bench->heard, "cont"));
	assert_looks_stopped(desktop, "its snapshot is merged");
	assert_true(bench_row(bench, "d", &row));
	assert_int_equal(row.op, DB_DESKTOP_OP_PARK);
	assert_false(row.wanted);
	bench_event(bench, "{\"event\": \"BLOCK_JOB_READY\", \"data\": {}}");
	bench_until(bench, work.events == 1);
	/* one work a desktop, and it is named */
	const struct desktop_work other = {"other", on_event, on_gone, &work};
	assert_int_equal(desktop_work_begin(desktop, &other, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_non_null(strstr(err.msg, "snapshot is merged"));
	int signals = bench->calls[PRIV_QEMU_SIGNAL];
	end(bench, desktop);
	assert_non_null(strstr(bench->heard, "quit"));
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], signals);
	assert_int_equal(work.gones, 0);
}

static void a_parked_one_that_hangs_is_killed(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = park(bench, &work, "d");
	bench->hangs = true;
	desktop_work_end(desktop);
	bench_until(bench, strstr(bench->heard, "quit"));
	/* a start that comes now waits for the end, and does not hinder it */
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	assert_int_equal(bench_hurry(bench, 1100, 2000), 1);
	bench_wait(bench, ends + 1);
	assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], 1);
	assert_ptr_equal(bench->got, desktop);
	assert_int_equal(bench->n_pids, 2);
}

static void a_start_lets_the_parked_guest_run(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct db_desktop row;
	struct desktop *desktop = park(bench, &work, "d");
	int64_t pid = desktop->row.pid;
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_ptr_equal(bench->got, desktop);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_int_equal(desktop->row.pid, pid);
	assert_int_equal(bench->n_pids, 1);
	assert_int_equal(work.gones, 0);
	bench_event(bench, "{\"event\": \"BLOCK_JOB_READY\", \"data\": {}}");
	bench_until(bench, work.events > 1); /* RESUME was one */
	/* the end of the work is nothing to the guest */
	desktop_work_end(desktop);
	bench_turn(bench, 10);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_true(bench_process_lives(bench));
	assert_true(bench_row(bench, "d", &row));
	assert_int_equal(row.op, DB_DESKTOP_OP_NONE);
	assert_true(row.wanted);
}

static void a_start_while_it_is_being_parked(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct err err;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	int ends = bench->ends;
	begin(&work, desktop);
	bench->hold = PRIV_QEMU_SPAWN;
	desktop_work_open(desktop, on_ready);
	bench_until(bench, bench->calls[PRIV_QEMU_SPAWN] == 1);
	assert_int_equal(desktop_begin(desktop, bench_end, bench, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	desktop_start(desktop, 0, bench_end, bench);
	bench_turn(bench, 5);
	assert_int_equal(bench->ends, ends);
	bench_release(bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_int_equal(bench->n_pids, 1);
	assert_int_equal(work.readies, 1);
	assert_int_equal(work.err.code, 0);
}

static void what_it_was_made_from_has_changed(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct err err;
	struct desktop *desktop = park(bench, &work, "d");
	const struct desktop_update update = {.memory_mib = 32, .autostart = -1, .restart = -1};
	int ends = bench->ends;
	work.opens_again = true;
	assert_int_equal(desktop_update(desktop, &update, &err), 0);
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_int_equal(bench->n_pids, 2);
	/* the work goes on in the new one */
	assert_int_equal(work.gones, 1);
	assert_int_equal(work.readies, 2);
	assert_int_equal(work.err.code, 0);
}

/* What users may do beside it. */
static void stop_and_delete_beside_it(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = park(bench, &work, "d");
	int ends = bench->ends;
	for (int force = 0; force < 2; force++) {
		desktop_stop(desktop, force, 0, bench_end, bench);
		assert_int_equal(bench->ends, ++ends);
		assert_ptr_equal(bench->got, desktop);
		desktop_delete(desktop, force, bench_end, bench);
		assert_int_equal(bench->ends, ++ends);
		assert_int_equal(bench->err.code, ERR_BUSY);
		assert_non_null(strstr(bench->err.msg, "snapshot is merged"));
	}
	desktop_pause(desktop, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_CONFLICT);
	bench_turn(bench, 10);
	assert_int_equal(work.gones, 0);
	assert_true(bench_process_lives(bench));
	/* a delete just after its end waits for QEMU's */
	ends = ++bench->ends;
	desktop_work_end(desktop);
	desktop_delete(desktop, false, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(bench->err.code, 0);
	assert_int_equal(desktops_count(bench->all), 0);
	assert_false(bench_process_lives(bench));
}

static void a_running_desktop_stops_beneath_it(void **state)
{
	struct bench *bench = *state;
	for (int how = 0; how < 3; how++) {
		static const char *const names[] = {"a", "b", "c"};
		static struct work work;
		struct desktop *desktop = bench_run(bench, names[how]);
		int ends = bench->ends;
		begin(&work, desktop);
		desktop_work_open(desktop, on_ready);
		assert_int_equal(work.readies, 1); /* there is one */
		work.opens_again = true;
		if (how == 0) {
			desktop_stop(desktop, true, 0, bench_end, bench);
			bench_wait(bench, ends + 1);
		} else {
			if (how == 1)
				bench_event(bench, "{\"event\": \"SHUTDOWN\", \"data\": "
						   "{\"guest\": true}}");
			bench_turn(bench, 3);
			bench_kill(bench);
		}
		bench_until(bench, work.readies == 2);
		assert_int_equal(work.gones, 1);
		assert_int_equal(work.gone.code, ERR_UNAVAILABLE);
		assert_int_equal(work.err.code, 0);
		assert_int_equal(desktop_state(desktop),
				 how == 2 ? DESKTOP_FAILED : DESKTOP_STOPPED);
		desktop_stop(desktop, false, 0, bench_end, bench);
		end(bench, desktop);
	}
}

static void the_parked_one_dies(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = park(bench, &work, "d");
	desktop->row.restart = DB_RESTART_ALWAYS;
	work.opens_again = true;
	bench_kill(bench);
	bench_until(bench, work.readies == 2);
	assert_int_equal(work.gones, 1);
	assert_int_equal(work.err.code, 0);
	assert_int_equal(bench->n_pids, 2);
	assert_looks_stopped(desktop, "its snapshot is merged");
	/* only its monitor is lost: it is ended, and there is another */
	bench_hangup(bench);
	bench_until(bench, work.readies == 3);
	assert_int_equal(work.gones, 2);
	assert_int_equal(bench->n_pids, 3);
	work.opens_again = false;
	work.ends_in_gone = true;
	bench_kill(bench);
	bench_until(bench, desktop->park == PARK_NONE && !desktop->plan);
	bench_assert_no_trace(bench, desktop);
	/* nobody wanted the desktop to run */
	assert_int_equal(bench_hurry(bench, 0, 60000), 0);
}

static void a_restart_by_policy_goes_on_from_it(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = bench_run(bench, "d");
	desktop->row.restart = DB_RESTART_ON_FAILURE;
	begin(&work, desktop);
	desktop_work_open(desktop, on_ready);
	work.opens_again = true;
	bench_kill(bench);
	bench_until(bench, work.readies == 2);
	assert_int_equal(desktop_state(desktop), DESKTOP_FAILED);
	assert_int_equal(bench_hurry(bench, 100, 1000), 1);
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
	assert_int_equal(bench->n_pids, 2);
	assert_int_equal(work.gones, 1);
}

static void it_cannot_be_parked(void **state)
{
	static const enum priv_verb verbs[] = {PRIV_TAP_CREATE, PRIV_QEMU_SPAWN};
	static const enum bench_how hows[] = {BENCH_DIE, BENCH_GARBAGE, BENCH_REFUSE};
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	begin(&work, desktop);
	for (size_t i = 0; i < ARRAY_LEN(verbs) + ARRAY_LEN(hows); i++) {
		bool by_verb = i < ARRAY_LEN(verbs);
		bench->fail = by_verb ? verbs[i] : 0;
		bench->at = by_verb ? NULL : "query-status";
		bench->how = by_verb ? BENCH_ANSWER : hows[i - ARRAY_LEN(verbs)];
		work.readies = 0;
		desktop_work_open(desktop, on_ready);
		bench_until(bench, work.readies == 1);
		assert_int_not_equal(work.err.code, 0);
		bench_assert_no_trace(bench, desktop);
		assert_looks_stopped(desktop, "its snapshot is merged");
	}
	/* nor is it lost by that */
	bench->fail = 0;
	bench->at = NULL;
	desktop_work_open(desktop, on_ready);
	bench_until(bench, work.readies == 2);
	assert_int_equal(work.err.code, 0);
	assert_int_equal(work.gones, 0);
	end(bench, desktop);
}

static void a_start_that_fails_on_the_parked_one(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct db_desktop row;
	struct desktop *desktop = park(bench, &work, "d");
	int ends = bench->ends;
	/* refused before QEMU is touched: the work does not notice */
	bench->all->env.memory_reserve_mib = INT32_MAX;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ++ends);
	assert_int_equal(bench->err.code, ERR_LIMIT);
	assert_int_equal(work.gones, 0);
	assert_true(bench_row(bench, "d", &row));
	assert_int_equal(row.op, DB_DESKTOP_OP_PARK);
	assert_int_equal(bench->n_pids, 1);
	bench->all->env.memory_reserve_mib = 0;
	/* QEMU refuses: it ends, and the work gets another */
	work.opens_again = true;
	bench->at = "cont";
	bench->how = BENCH_REFUSE;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ++ends);
	assert_int_not_equal(bench->err.code, 0);
	bench_until(bench, work.readies == 2);
	assert_int_equal(work.gones, 1);
	assert_int_equal(bench->n_pids, 2);
	bench->at = NULL;
	desktop_stop(desktop, false, 0, bench_end, bench);
	end(bench, desktop);
}

/* Opened in the middle of a start or a stop: they end first. */
static void opened_in_an_operation(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	int ends = bench->ends;
	begin(&work, desktop);
	desktop_start(desktop, 0, bench_end, bench);
	desktop_work_open(desktop, on_ready);
	assert_int_equal(work.readies, 0);
	bench_wait(bench, ++ends);
	assert_int_equal(work.readies, 1);
	assert_int_equal(bench->n_pids, 1);
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_until(bench, work.gones == 1);
	desktop_work_open(desktop, on_ready);
	bench_wait(bench, ++ends);
	bench_until(bench, work.readies == 2);
	assert_int_equal(bench->n_pids, 2);
	assert_looks_stopped(desktop, "its snapshot is merged");
	end(bench, desktop);
}

/* Not needed any more before it was there; then needed again. */
static void ended_while_it_is_being_parked(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	begin(&work, desktop);
	bench->hold = PRIV_QEMU_SPAWN;
	desktop_work_open(desktop, on_ready);
	bench_until(bench, bench->calls[PRIV_QEMU_SPAWN] == 1);
	desktop_work_end(desktop);
	begin(&work, desktop);
	desktop_work_open(desktop, on_ready);
	bench_release(bench);
	bench_until(bench, work.readies == 1);
	assert_int_equal(work.err.code, 0);
	assert_int_equal(bench->n_pids, 2);
	/* closed, it may be worked on in another way at once */
	desktop_work_close(desktop, on_close);
	assert_int_equal(work.closes, 0);
	bench_until(bench, work.closes == 1);
	assert_false(bench_process_lives(bench));
	int ends = bench->ends;
	struct err err;
	assert_int_equal(desktop_begin(desktop, bench_end, bench, &err), 0);
	desktop_end(desktop, NULL);
	assert_int_equal(bench->ends, ends + 1);
	desktop_work_close(desktop, on_close); /* there is none */
	assert_int_equal(work.closes, 2);
	end(bench, desktop);
	assert_int_equal(work.gones, 0);
}

/* The work claims an operation, and ends before that does. */
static void ended_within_an_operation(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct err err;
	struct desktop *desktop = park(bench, &work, "d");
	assert_int_equal(desktop_begin(desktop, bench_end, bench, &err), 0);
	desktop_work_end(desktop);
	bench_turn(bench, 10);
	assert_true(bench_process_lives(bench));
	desktop_end(desktop, NULL);
	bench_until(bench, desktop->park == PARK_NONE && !desktop->plan);
	bench_assert_no_trace(bench, desktop);
}

static void the_daemon_ends_meanwhile(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct db_desktop row;
	struct err err;
	struct desktop *desktop = park(bench, &work, "d");
	work.opens_again = true; /* is told the same */
	work.ends_in_gone = true;
	bench_stop_daemon(bench);
	assert_int_equal(work.gones, 1);
	assert_int_equal(work.gone.code, ERR_CANCELLED);
	assert_int_equal(work.readies, 2);
	assert_int_equal(work.err.code, ERR_CANCELLED);
	assert_true(bench_process_lives(bench));
	/* the next one ends it, also one that hangs, and one whose pid was not written down yet */
	for (int hangs = 0; hangs < 2; hangs++) {
		bench->hangs = hangs;
		bench_start_daemon(bench);
		assert_true(bench_row(bench, "d", &row));
		assert_int_equal(row.op, DB_DESKTOP_OP_PARK);
		if (hangs) {
			row.pid = 0;
			row.start_time = 0;
			row.boot_id[0] = '\0';
			assert_int_equal(db_desktop_update(bench->db, &row, &err), 0);
			bench_stop_daemon(bench);
			bench_start_daemon(bench);
		}
		desktop = desktops_find(bench->all, "d", &err);
		assert_looks_stopped(desktop, NULL);
		bench_reconcile(bench);
		bench_assert_no_trace(bench, desktop);
		assert_int_equal(bench->calls[PRIV_QEMU_SIGNAL], hangs);
		begin(&work, desktop);
		bench->hangs = false;
		desktop_work_open(desktop, on_ready);
		bench_until(bench, work.readies == 1);
		bench_stop_daemon(bench);
	}
	/* it died meanwhile */
	bench_kill(bench);
	bench_until(bench, !bench_process_lives(bench));
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	bench_assert_no_trace(bench, desktop);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
}

static void the_daemon_ends_while_it_is_being_parked(void **state)
{
	struct bench *bench = *state;
	static struct work work;
	struct err err;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	begin(&work, desktop);
	bench->at = "query-status";
	bench->how = BENCH_SILENT;
	desktop_work_open(desktop, on_ready);
	bench_until(bench, strstr(bench->heard, "query-status"));
	bench_stop_daemon(bench);
	assert_int_equal(work.readies, 1);
	assert_int_equal(work.err.code, ERR_CANCELLED);
	bench->at = NULL;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	bench_assert_no_trace(bench, desktop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(a_stopped_desktop_is_parked),
		with_bench(a_parked_one_that_hangs_is_killed),
		with_bench(a_start_lets_the_parked_guest_run),
		with_bench(a_start_while_it_is_being_parked),
		with_bench(what_it_was_made_from_has_changed),
		with_bench(stop_and_delete_beside_it),
		with_bench(a_running_desktop_stops_beneath_it),
		with_bench(the_parked_one_dies),
		with_bench(a_restart_by_policy_goes_on_from_it),
		with_bench(it_cannot_be_parked),
		with_bench(a_start_that_fails_on_the_parked_one),
		with_bench(opened_in_an_operation),
		with_bench(ended_while_it_is_being_parked),
		with_bench(ended_within_an_operation),
		with_bench(the_daemon_ends_meanwhile),
		with_bench(the_daemon_ends_while_it_is_being_parked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
