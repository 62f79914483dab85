/* The CD drive of a desktop that runs: discs change, trays are locked, QEMU refuses or dies. */
#include "bench.h"
#include "vdi-hostd/desktop/cdrom.h"

static struct desktop *run_with(struct bench *bench, const char *iso)
{
	const struct desktop_create create = {
		.name = "ada", .image = "img", .iso = iso, .memory_mib = 16, .vcpus = 1};
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, 1);
	struct desktop *desktop = bench->got;
	assert_non_null(desktop);
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 2);
	assert_non_null(bench->got);
	bench->heard[0] = '\0';
	bench->ends = 0;
	return desktop;
}

static void check_row(struct bench *bench, const char *iso_id)
{
	struct db_desktop row;
	assert_true(bench_row(bench, "ada", &row));
	assert_string_equal(row.iso_id, iso_id);
	assert_int_equal(row.op, DB_DESKTOP_OP_NONE);
}

static void in_a_stopped_one_it_is_a_row(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "ada", NULL);
	char names[8];
	bench->ends = 0;
	desktop_cdrom_insert(desktop, "disc", false, bench_end, bench);
	assert_int_equal(bench->ends, 1);
	assert_ptr_equal(bench->got, desktop);
	check_row(bench, BENCH_DISC);
	assert_int_equal(desktops_with_iso(bench->all, BENCH_DISC, names, sizeof(names)), 1);
	assert_string_equal(names, "ada");
	assert_int_equal(desktops_with_iso(bench->all, BENCH_OTHER_DISC, names, sizeof(names)), 0);
	desktop_cdrom_insert(desktop, "half", false, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_cdrom_insert(desktop, "none", false, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	check_row(bench, BENCH_DISC);
	desktop_cdrom_eject(desktop, false, bench_end, bench);
	assert_non_null(bench->got);
	check_row(bench, "");
}

static void names_are_cut(void **state)
{
	struct bench *bench = *state;
	char name[8], names[16];
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "name%d", i);
		struct desktop *desktop = bench_create(bench, name, NULL);
		desktop_cdrom_insert(desktop, "disc", false, bench_end, bench);
		bench->ends = 0;
	}
	assert_int_equal(desktops_with_iso(bench->all, BENCH_DISC, names, sizeof(names)), 6);
	assert_string_equal(names, "name0, name1");
}

static void a_start_has_it(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "ada", NULL);
	bench->ends = 0;
	desktop_cdrom_insert(desktop, "disc", false, bench_end, bench);
	bench->fail_disc = true;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 2);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	assert_non_null(strstr(bench->err.msg, "eject"));
	bench->fail_disc = false;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, 3);
	assert_ptr_equal(bench->got, desktop);
}

static void a_running_one_gets_another(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = run_with(bench, "disc");
	desktop_cdrom_insert(desktop, "other", false, bench_end, bench);
	desktop_pause(desktop, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	bench_wait(bench, 2);
	assert_ptr_equal(bench->got, desktop);
	assert_string_equal(
		bench->heard,
		"query-named-block-nodes blockdev-open-tray query-block "
		"blockdev-remove-medium blockdev-del blockdev-del remove-fd add-fd "
		"blockdev-add blockdev-add blockdev-insert-medium blockdev-close-tray ");
	check_row(bench, BENCH_OTHER_DISC);
	bench->heard[0] = '\0';
	desktop_cdrom_eject(desktop, false, bench_end, bench);
	bench_wait(bench, 3);
	assert_null(strstr(bench->heard, "add"));
	check_row(bench, "");
}

/* Before the disc is out nothing has changed; after that the drive is empty, and is said to be. */
static void qemu_refuses(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *at, *left;
	} steps[] = {
		{"query-named-block-nodes", BENCH_DISC},
		{"blockdev-open-tray", BENCH_DISC},
		{"query-block", BENCH_DISC},
		{"blockdev-remove-medium", BENCH_DISC},
		{"add-fd", ""},
		{"blockdev-insert-medium", ""},
		{"blockdev-close-tray", ""},
	};
	struct desktop *desktop = run_with(bench, "disc");
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		bench->at = NULL;
		bench->ends = 0;
		desktop_cdrom_insert(desktop, "disc", false, bench_end, bench);
		bench_wait(bench, 1);
		bench->at = steps[i].at;
		bench->how = BENCH_REFUSE;
		desktop_cdrom_insert(desktop, "other", false, bench_end, bench);
		bench_wait(bench, 2);
		assert_int_equal(bench->err.code, ERR_UNAVAILABLE);
		check_row(bench, steps[i].left);
		assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	}
	bench->at = NULL;
	bench->fail_disc = true;
	desktop_cdrom_insert(desktop, "disc", false, bench_end, bench);
	bench_wait(bench, 3);
	assert_int_equal(bench->err.code, ERR_NOT_FOUND);
	check_row(bench, "");
}

static void qemu_dies(void **state)
{
	struct bench *bench = *state;
	static const char *const at[] = {"query-named-block-nodes", "blockdev-open-tray",
					 "blockdev-remove-medium",  "add-fd",
					 "blockdev-insert-medium",  "blockdev-close-tray"};
	struct desktop *desktop = run_with(bench, "disc");
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		bench->at = at[i];
		bench->how = i % 2 ? BENCH_DIE : BENCH_HANGUP;
		bench->ends = 0;
		desktop_cdrom_insert(desktop, "other", false, bench_end, bench);
		bench_wait(bench, 1);
		assert_null(bench->got);
		bench->at = NULL;
		if (bench->how == BENCH_DIE)
			bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
		desktop_stop(desktop, true, 0, bench_end, bench);
		bench_wait(bench, 2);
		assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
		struct db_desktop row;
		assert_true(bench_row(bench, "ada", &row));
		assert_int_equal(row.op, DB_DESKTOP_OP_NONE);
		desktop_start(desktop, 0, bench_end, bench);
		bench_wait(bench, 3);
		assert_ptr_equal(bench->got, desktop);
	}
}

static void a_locked_tray(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = run_with(bench, "disc");
	bench->tray_locked = true;
	desktop_cdrom_eject(desktop, false, bench_end, bench);
	/* asked again and again */
	for (int i = 0; i < 40 && bench->ends == 0; i++) {
		bench_turn(bench, 3);
		bench_hurry(bench, 1, 600);
	}
	bench_wait(bench, 1);
	assert_int_equal(bench->err.code, ERR_TIMEOUT);
	assert_non_null(strstr(bench->err.msg, "locked"));
	assert_null(strstr(bench->heard, "remove-medium"));
	check_row(bench, BENCH_DISC);
	/* the guest opens it */
	bench->heard[0] = '\0';
	desktop_cdrom_eject(desktop, false, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "query-block "));
	bench_turn(bench, 3);
	bench_event(bench, "{\"event\": \"DEVICE_TRAY_MOVED\", \"data\": {\"device\": \"\", "
			   "\"id\": \"cdrom1\", \"tray-open\": true}}");
	bench_event(bench, "{\"event\": \"DEVICE_TRAY_MOVED\", \"data\": {\"device\": \"\", "
			   "\"id\": \"cdrom0\", \"tray-open\": false}}");
	bench_turn(bench, 3);
	assert_int_equal(bench->ends, 1);
	bench_event(bench, "{\"event\": \"DEVICE_TRAY_MOVED\", \"data\": {\"device\": \"\", "
			   "\"id\": \"cdrom0\", \"tray-open\": true}}");
	bench_wait(bench, 2);
	assert_ptr_equal(bench->got, desktop);
	check_row(bench, "");
}

static void force_stops_who_waits(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = run_with(bench, "disc");
	bench->tray_locked = true;
	desktop_cdrom_eject(desktop, false, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "query-block "));
	bench_turn(bench, 3);
	desktop_stop(desktop, false, 0, bench_end, bench);
	assert_int_equal(bench->err.code, ERR_BUSY);
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_wait(bench, 3);
	assert_ptr_equal(bench->got, desktop);
	bench_assert_no_trace(bench, desktop);
	check_row(bench, BENCH_DISC);
}

static void the_daemon_ends_in_the_middle(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = run_with(bench, "disc");
	struct db_desktop row;
	bench->at = "blockdev-insert-medium";
	bench->how = BENCH_SILENT;
	desktop_cdrom_insert(desktop, "other", false, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "blockdev-insert-medium"));
	bench_stop_daemon(bench);
	assert_int_equal(bench->ends, 1);
	assert_int_equal(bench->err.code, ERR_CANCELLED);
	bench->at = NULL;
	bench->heard[0] = '\0';
	bench_start_daemon(bench);
	bench_hangup(bench);
	assert_true(bench_row(bench, "ada", &row));
	assert_int_equal(row.op, DB_DESKTOP_OP_CDROM);
	bench_reconcile(bench);
	bench_until(bench, strstr(bench->heard, "blockdev-close-tray"));
	bench_turn(bench, 5);
	check_row(bench, BENCH_OTHER_DISC);
	assert_non_null(strstr(bench->heard, "blockdev-insert-medium"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(in_a_stopped_one_it_is_a_row),
		with_bench(names_are_cut),
		with_bench(a_start_has_it),
		with_bench(a_running_one_gets_another),
		with_bench(qemu_refuses),
		with_bench(qemu_dies),
		with_bench(a_locked_tray),
		with_bench(force_stops_who_waits),
		with_bench(the_daemon_ends_in_the_middle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
