#include "vdi-hostd/image/quota.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench.h"
#include "vdi-hostd/db/desktop.h"

static void add_desktop(struct bench *bench, const char *image, int64_t bytes, int64_t data)
{
	struct db_desktop row = {.name = "desk", .slot = 1, .owner = "ada"};
	struct err err;

	str_uuid_new(row.id);
	strcpy(row.image_id, images_find(bench->images, image, &err)->id);
	images_layer_file(row.id, row.disks[DB_DISK_SYSTEM].file);
	row.disks[DB_DISK_SYSTEM].bytes = bytes;
	images_layer_file(row.id, row.disks[DB_DISK_DATA].file);
	row.disks[DB_DISK_DATA].bytes = data;
	if (db_desktop_insert(bench->db, &row, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_counts(void **state)
{
	struct bench *bench = *state;
	const struct db_quota quota = {"ada", 1000};
	struct err err;
	int64_t used;

	assert_int_equal(help_run("qemu-img create -q -f qcow2 img 8M"), 0);
	bench_import(bench, "a", "img");
	assert_int_equal(images_quota_charge_check(bench->images, "ada", INT64_MAX, &err), 0);
	assert_int_equal(db_quota_set(bench->db, &quota, &err), 0);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 1000, &err), 0);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 1001, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	assert_non_null(strstr(err.msg, "quota"));
	add_desktop(bench, "a", 600, 300);
	assert_int_equal(db_quota_used(bench->db, "ada", &used, &err), 0);
	assert_int_equal(used, 900);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 100, &err), 0);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 101, &err), -1);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", INT64_MAX, &err), -1);
	/* nobody, and those without one */
	assert_int_equal(images_quota_charge_check(bench->images, "", 101, &err), 0);
	assert_int_equal(images_quota_charge_check(bench->images, NULL, 101, &err), 0);
	assert_int_equal(images_quota_charge_check(bench->images, "bob", 101, &err), 0);
	/* what is there stays under a smaller one, and nothing is added */
	assert_int_equal(db_quota_set(bench->db, &(struct db_quota){"ada", 10}, &err), 0);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 1, &err), -1);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 0, &err), 0);
	assert_int_equal(db_quota_delete(bench->db, "ada", &err), 0);
	assert_int_equal(db_quota_delete(bench->db, "ada", &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(images_quota_charge_check(bench->images, "ada", 101, &err), 0);
}

static void test_images_count(void **state)
{
	struct bench *bench = *state;
	const struct image_update to_ada = {.owner = "ada"};
	struct err err;
	int64_t used;

	assert_int_equal(help_run("qemu-img create -q -f qcow2 img 8M"), 0);
	const struct db_image *image = bench_import(bench, "a", "img");
	assert_true(image->file_size > 0);
	assert_int_equal(db_quota_set(bench->db, &(struct db_quota){"ada", 10}, &err), 0);
	assert_int_equal(images_update(bench->images, "a", &to_ada, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	assert_string_equal(image->owner, "");
	/* an import finds out what it takes at its end, and leaves nothing */
	struct image_import import = {
		.name = "b", .fd = open("img", O_RDONLY | O_CLOEXEC), .owner = "ada"};
	bench_refuse(bench, &import, ERR_LIMIT, "quota");
	assert_int_equal(db_quota_set(bench->db, &(struct db_quota){"ada", image->file_size}, &err),
			 0);
	assert_int_equal(images_update(bench->images, "a", &to_ada, &err), 0);
	assert_string_equal(image->owner, "ada");
	assert_int_equal(db_quota_used(bench->db, "ada", &used, &err), 0);
	assert_int_equal(used, image->file_size);
	import = (struct image_import){
		.name = "b", .fd = open("img", O_RDONLY | O_CLOEXEC), .owner = "ada"};
	bench_refuse(bench, &import, ERR_LIMIT, "quota");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_counts, bench_new, bench_free),
		cmocka_unit_test_setup_teardown(test_images_count, bench_new, bench_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
