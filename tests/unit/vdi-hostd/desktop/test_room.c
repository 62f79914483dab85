/* Desktops that a full store has paused. */
#include "bench.h"

#define ENOUGH (64 << 20)

static void assert_waits(struct desktop *desktop)
{
	assert_int_equal(desktop_state(desktop), DESKTOP_PAUSED);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "store is full"));
}

static void run_full(struct bench *bench)
{
	bench_event(bench, "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"stop\", "
			   "\"nospace\": true}}");
	bench_event(bench, "{\"event\": \"STOP\"}");
	bench->guest_runs = false;
	bench->io_status = "nospace";
}

static struct desktop *pause_full(struct bench *bench)
{
	struct desktop *desktop = bench_run(bench, "d");
	run_full(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	bench_turn(bench, 3);
	assert_waits(desktop);
	return desktop;
}

static void one_look(struct bench *bench)
{
	bench_turn(bench, 5);
	assert_int_equal(bench_hurry(bench, 1000, 2000), 1);
	bench_turn(bench, 5);
}

static void it_goes_on_when_there_is_room(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = pause_full(bench);
	bench->room = 8 << 20; /* too little to be of use */
	one_look(bench);
	assert_waits(desktop);
	bench->room = ENOUGH;
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
	assert_true(bench->guest_runs);
	assert_string_equal(desktop_row(desktop)->state_reason, "");
	/* and nothing wakes up for it any more */
	bench_until(bench, !bench->all->room);
}

static void nobody_waits_without_an_error(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench->room = ENOUGH;
	desktop_pause(desktop, bench_end, bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	/* nor after another one */
	bench_event(bench, "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"stop\", "
			   "\"nospace\": false, \"reason\": \"broken\"}}");
	bench_turn(bench, 5);
	assert_null(bench->all->room);
	assert_int_equal(bench_hurry(bench, 0, 60000), 0);
}

/* Each time that it was of no use it waits longer. */
static void room_that_is_of_no_use(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = pause_full(bench);
	bench->disk_is_full = true;
	bench->room = ENOUGH;
	for (unsigned int i = 0; i < 9; i++) {
		bench->heard[0] = '\0';
		desktop->room_from = desktop->room_from ? uv_now(&bench->loop) : 0;
		bench_hurry(bench, 0, 2000);
		bench_until(bench, strstr(bench->heard, "cont"));
		bench_until(bench, !desktop->done);
		assert_waits(desktop);
		assert_int_equal(desktop->room_tries, i < 7 ? i : 7);
		uint64_t wait = desktop->room_from - uv_now(&bench->loop);
		/* over half of it, which the last one was */
		const uint64_t most = UINT64_C(2000) << (i < 7 ? i : 7);
		assert_in_range(wait, i ? most / 2 + 1 : 1, most);
		bench->heard[0] = '\0';
		bench_turn(bench, 20); /* it looks all the time, and knows better */
		assert_null(strstr(bench->heard, "cont"));
	}
	bench->disk_is_full = false;
	desktop->room_from = uv_now(&bench->loop);
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
}

static void found_by_a_new_daemon(void **state)
{
	struct bench *bench = *state;
	struct err err;
	pause_full(bench);
	for (int full = 1; full >= 0; full--) {
		bench->io_status = full ? "nospace" : "failed";
		bench_stop_daemon(bench);
		bench_start_daemon(bench);
		bench_reconcile(bench);
		bench_turn(bench, 5);
		struct desktop *desktop = desktops_find(bench->all, "d", &err);
		assert_int_equal(desktop_state(desktop), DESKTOP_PAUSED);
		assert_int_equal(desktop_waits_for_room(desktop), full);
		assert_int_equal(bench->all->room != NULL, full);
	}
	bench->io_status = "nospace";
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	bench->room = ENOUGH;
	one_look(bench);
	bench_until(bench, desktop_state(desktops_find(bench->all, "d", &err)) == DESKTOP_RUNNING);
}

/* Who pauses it meanwhile means it, also for the next daemon; who resumes it means that. */
static void a_pause_on_purpose(void **state)
{
	struct bench *bench = *state;
	struct db_desktop row;
	struct err err;
	struct desktop *desktop = pause_full(bench);
	int ends = bench->ends;
	desktop_pause(desktop, bench_end, bench);
	bench_wait(bench, ++ends);
	assert_ptr_equal(bench->got, desktop);
	assert_string_equal(desktop_row(desktop)->state_reason, "");
	bench->room = ENOUGH;
	one_look(bench);
	assert_int_equal(desktop_state(desktop), DESKTOP_PAUSED);
	assert_null(bench->all->room);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	bench_turn(bench, 5);
	desktop = desktops_find(bench->all, "d", &err);
	assert_int_equal(desktop_state(desktop), DESKTOP_PAUSED);
	assert_null(bench->all->room);
	desktop_resume(desktop, bench_end, bench);
	bench_wait(bench, ++ends);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_true(bench_row(bench, "d", &row));
	assert_false(row.held);
	run_full(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING || bench->all->room);
	one_look(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
}

static void full_within_a_start(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	bench->disk_is_full = true;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 2);
	assert_waits(desktop);
	bench->disk_is_full = false;
	bench->room = ENOUGH;
	one_look(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
}

static void it_ends_while_it_waits(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = pause_full(bench);
	int ends = bench->ends;
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	bench->room = ENOUGH;
	one_look(bench);
	assert_null(bench->all->room);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
}

static void no_start_without_space(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	bench->no_space = true;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 2);
	assert_int_equal(bench->err.code, ERR_LIMIT);
	assert_non_null(strstr(bench->err.msg, "desktop 'd' cannot be started"));
	assert_int_equal(bench->calls[PRIV_QEMU_SPAWN], 0);
	bench->no_space = false;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 3);
	assert_ptr_equal(bench->got, desktop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(it_goes_on_when_there_is_room),
		with_bench(nobody_waits_without_an_error),
		with_bench(room_that_is_of_no_use),
		with_bench(found_by_a_new_daemon),
		with_bench(a_pause_on_purpose),
		with_bench(full_within_a_start),
		with_bench(it_ends_while_it_waits),
		with_bench(no_start_without_space),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
