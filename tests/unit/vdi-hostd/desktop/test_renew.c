/* The system disk of a disposable desktop begins anew: at its end, at its start, after a crash. */
#include "bench.h"
#include "vdi-hostd/db/snapshot.h"

static struct desktop *make(struct bench *bench)
{
	const struct desktop_create create = {.name = "ada",
					      .image = "img",
					      .memory_mib = 16,
					      .vcpus = 1,
					      .data_disk_bytes = 1 << 20,
					      .disposable = true};
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, 1);
	assert_non_null(bench->got);
	bench->ends = 0;
	return bench->got;
}

static void start(struct bench *bench, struct desktop *desktop)
{
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
}

static void stop(struct bench *bench, struct desktop *desktop)
{
	int ends = bench->ends;
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_ptr_equal(bench->got, desktop);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
}

static struct db_desktop row_of(struct bench *bench)
{
	struct db_desktop row;
	assert_true(bench_row(bench, "ada", &row));
	return row;
}

static void check_settled(struct bench *bench)
{
	struct db_desktop row = row_of(bench);
	assert_string_equal(row.previous.file, "");
	assert_string_equal(row.next_image_id, "");
	assert_int_equal(row.disks[DB_DISK_DATA].bytes, 1 << 20);
	assert_int_equal(bench->overlays, 2); /* one of each disk */
}

static void at_each_end_and_start(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = make(bench);
	int made = bench->made;
	start(bench, desktop);
	assert_ptr_equal(bench->got, desktop);
	assert_int_equal(bench->made, made + 1);
	stop(bench, desktop);
	assert_int_equal(bench->made, made + 2);
	check_settled(bench);
	start(bench, desktop);
	bench_kill(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
	assert_int_equal(bench->made, made + 4);
	check_settled(bench);
}

static void on_the_next_version(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = make(bench);
	strcpy(desktop_edit(desktop)->next_image_id, BENCH_NEXT_IMAGE);
	start(bench, desktop);
	assert_ptr_equal(bench->got, desktop);
	struct db_desktop row = row_of(bench);
	assert_string_equal(row.image_id, BENCH_NEXT_IMAGE);
	assert_int_equal(row.disks[DB_DISK_SYSTEM].bytes, 2 << 20); /* it grew with it */
	check_settled(bench);
}

static void what_fails_at_the_end_is_done_at_the_start(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = make(bench);
	start(bench, desktop);
	bench->fail_overlay = true;
	stop(bench, desktop);
	assert_string_not_equal(row_of(bench).previous.file, "");
	start(bench, desktop);
	assert_int_equal(bench->err.code, ERR_LIMIT);
	assert_int_equal(desktop_state(desktop), DESKTOP_FAILED);
	bench->fail_overlay = false;
	bench->fail_overlay_delete = true;
	start(bench, desktop);
	assert_int_equal(bench->err.code, ERR_IO);
	bench->fail_overlay_delete = false;
	start(bench, desktop);
	assert_ptr_equal(bench->got, desktop);
	assert_string_equal(row_of(bench).previous.file, "");
}

static void after_a_crash(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = make(bench);
	start(bench, desktop);
	int made = bench->made;
	bench_stop_daemon(bench);
	bench_kill(bench);
	while (bench_process_lives(bench))
		usleep(200);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->made, made + 1);
	check_settled(bench);
	/* and one that was interrupted itself */
	desktop = desktops_find(bench->all, "ada", NULL);
	struct db_desktop *row = desktop_edit(desktop);
	row->previous = row->disks[DB_DISK_SYSTEM];
	assert_int_equal(desktop_save(desktop, &bench->err), 0);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	assert_int_equal(bench->made, made + 2);
	assert_string_equal(row_of(bench).previous.file, "");
}

static void update(struct bench *bench, struct desktop *desktop, int disposable, enum err_code code)
{
	const struct desktop_update update = {
		.autostart = -1, .restart = -1, .boot = -1, .disposable = disposable};
	struct err err = {0};
	assert_int_equal(desktop_update(desktop, &update, &err), code ? -1 : 0);
	assert_int_equal(err.code, code);
}

static void turned_on_and_off(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = make(bench);
	struct db_desktop *row = desktop_edit(desktop);
	strcpy(row->next_image_id, BENCH_NEXT_IMAGE);
	update(bench, desktop, -1, 0);
	assert_true(row_of(bench).disposable);
	update(bench, desktop, 0, 0);
	assert_false(row_of(bench).disposable);
	assert_string_equal(row_of(bench).next_image_id, "");
	int made = bench->made;
	start(bench, desktop);
	stop(bench, desktop);
	assert_int_equal(bench->made, made);
	/* the way back of a recompose is nothing to be thrown away by the way */
	row->previous = row->disks[DB_DISK_SYSTEM];
	update(bench, desktop, 1, ERR_CONFLICT);
	assert_false(desktop_row(desktop)->disposable);
	row->previous = (struct db_disk){0};
	update(bench, desktop, 1, 0);
	assert_true(row_of(bench).disposable);
	const struct db_snapshot snapshot = {.id = "dddddddd-0000-4000-8000-000000000001",
					     .name = "monday",
					     .image_id = BENCH_IMAGE,
					     .disks = {{"x.qcow2", 1}}};
	struct db_snapshot insert = snapshot;
	memcpy(insert.desktop_id, row->id, sizeof(insert.desktop_id));
	assert_int_equal(db_snapshot_insert(bench->db, &insert, &bench->err), 0);
	start(bench, desktop);
	assert_int_equal(bench->err.code, ERR_BUSY);
	update(bench, desktop, 0, 0);
	update(bench, desktop, 1, ERR_CONFLICT);
	assert_int_equal(db_snapshot_delete(bench->db, &insert, &bench->err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(at_each_end_and_start),
		with_bench(on_the_next_version),
		with_bench(what_fails_at_the_end_is_done_at_the_start),
		with_bench(after_a_crash),
		with_bench(turned_on_and_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
