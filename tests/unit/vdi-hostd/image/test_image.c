#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench.h"
#include "storage/format.h"
#include "vdi-hostd/db/desktop.h"
#include "vdi-hostd/image/lineage.h"

static void make(struct bench *bench, const char *name)
{
	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 img 8M"), 0);
	bench_import(bench, name, "img");
}

static void test_finds(void **state)
{
	struct bench *bench = *state;
	struct err err;

	make(bench, "a");
	make(bench, "a");
	make(bench, "ab");
	assert_int_equal(images_find(bench->images, "a", &err)->version, 2);
	assert_int_equal(images_find(bench->images, "a:1", &err)->version, 1);
	char id[STR_UUID_LEN + 1];
	memcpy(id, images_find(bench->images, "a:1", &err)->id, sizeof(id));
	assert_int_equal(images_find(bench->images, id, &err)->version, 1);
	assert_null(images_find(bench->images, "a:3", &err));
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_null(images_find(bench->images, "a:", &err));
	assert_null(images_find(bench->images, "a:x", &err));
	assert_null(images_find(bench->images, "", &err));
	/* what is published goes before what is new */
	assert_int_equal(images_retire(bench->images, "a:2", &err), 0);
	assert_int_equal(images_find(bench->images, "a", &err)->version, 1);
	assert_int_equal(images_retire(bench->images, "a:1", &err), 0);
	assert_int_equal(images_find(bench->images, "a", &err)->version, 2);
	assert_int_equal(images_publish(bench->images, "a:1", &err), 0);
	assert_int_equal(images_publish(bench->images, "a:1", &err), 0);
	bench_reopen(bench);
	assert_int_equal(images_find(bench->images, "a", &err)->version, 1);
	assert_int_equal(images_publish(bench->images, "gone", &err), -1);
	assert_int_equal(images_retire(bench->images, "gone", &err), -1);
}

struct order {
	char text[64];
};

static void add_name(void *data, const struct db_image *row)
{
	struct order *order = data;
	size_t len = strlen(order->text);

	snprintf(order->text + len, sizeof(order->text) - len, "%s:%d ", row->name,
		 (int)row->version);
}

static void test_lists_in_order(void **state)
{
	struct bench *bench = *state;
	struct order order = {""};

	make(bench, "b");
	make(bench, "a");
	make(bench, "b");
	images_each(bench->images, add_name, &order);
	assert_string_equal(order.text, "a:1 b:1 b:2 ");
}

static int first(void *data, const struct db_desktop *row)
{
	memcpy(data, row->id, sizeof(row->id));
	return 1;
}

static void delete_first(struct bench *bench)
{
	char id[STR_UUID_LEN + 1];
	struct err err;

	assert_int_equal(db_desktop_each(bench->db, first, id, &err), 1);
	assert_int_equal(db_desktop_delete(bench->db, id, &err), 0);
}

static void add_shown(void *data, const struct image_version *version)
{
	struct order *order = data;
	size_t len = strlen(order->text);

	snprintf(order->text + len, sizeof(order->text) - len, "%d%s:%d%s ", (int)version->depth,
		 version->row->name, (int)version->row->version,
		 version->parent && version->shared >= version->own ? "+" : "");
}

/* make @child stand on @parent, by its row and by its file */
static void graft(struct bench *bench, const char *child, const char *parent)
{
	struct err err;
	const struct db_image *below = images_find(bench->images, parent, &err);
	struct db_image row = *images_find(bench->images, child, &err);

	assert_int_equal(help_run("chmod 600 images/%s && qemu-img rebase -u -f qcow2 -F qcow2 -b "
				  "../images/%s images/%s",
				  row.file, below->file, row.file),
			 0);
	memcpy(row.parent_id, below->id, sizeof(row.parent_id));
	assert_int_equal(db_image_update(bench->db, &row, &err), 0);
	bench_reopen(bench);
}

static void test_lineage(void **state)
{
	struct bench *bench = *state;
	struct order order = {""};
	struct err err;

	for (int i = 0; i < 3; i++)
		make(bench, "a");
	make(bench, "b");
	graft(bench, "a:2", "a:1");
	graft(bench, "b:1", "a:2");
	assert_int_equal(images_versions(bench->images, "a", add_shown, &order, &err), 0);
	assert_string_equal(order.text, "0a:1 1a:2+ 2b:1+ 0a:3 ");
	assert_int_equal(images_delete(bench->images, "a:1", &err), -1);
	assert_non_null(strstr(err.msg, "image a:2"));
	/* what is wrong below is wrong above */
	struct db_image row = *images_find(bench->images, "a:1", &err);
	strcpy(row.broken, "rot");
	assert_int_equal(db_image_update(bench->db, &row, &err), 0);
	bench_reopen(bench);
	const struct db_image *top = images_find(bench->images, "b:1", &err);
	assert_int_equal(images_refuse_broken(bench->images, top, &err), -1);
	assert_non_null(strstr(err.msg, "a:1 is broken: rot"));
	assert_int_equal(
		images_refuse_broken(bench->images, images_find(bench->images, "a:3", &err), &err),
		0);
}

static void test_deletes(void **state)
{
	struct bench *bench = *state;
	struct db_desktop desk = {.name = "desk", .slot = 1};
	struct err err;

	make(bench, "a");
	for (desk.slot = 1; desk.slot <= 10; desk.slot++) {
		str_uuid_new(desk.id);
		snprintf(desk.name, sizeof(desk.name), "desk-%d", (int)desk.slot);
		strcpy(desk.image_id, images_find(bench->images, "a", &err)->id);
		images_layer_file(desk.id, desk.disks[DB_DISK_SYSTEM].file);
		assert_int_equal(db_desktop_insert(bench->db, &desk, &err), 0);
	}
	assert_int_equal(images_delete(bench->images, "a", &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "a:1 is needed by desktop desk-1, desktop desk-10, "));
	assert_non_null(strstr(err.msg, " more; delete those first"));
	bench_check_clean(bench);
	for (int i = 0; i < 10; i++)
		delete_first(bench);
	assert_int_equal(images_delete(bench->images, "a", &err), 0);
	assert_null(images_find(bench->images, "a", &err));
	bench_check_clean(bench);
	assert_int_equal(images_delete(bench->images, "a", &err), -1);
	/* one whose file is lost can still be got rid of */
	make(bench, "b");
	assert_int_equal(help_run("rm images/*"), 0);
	assert_int_equal(images_delete(bench->images, "b", &err), 0);
	bench_check_clean(bench);
}

/* a store that is not mounted is no reason to forget what is in it */
static void test_keeps_rows_without_files(void **state)
{
	struct bench *bench = *state;
	struct err err;

	make(bench, "a");
	assert_int_equal(help_run("mv images away"), 0);
	bench_reopen(bench);
	assert_non_null(images_find(bench->images, "a", &err));
	assert_int_equal(help_run("rmdir images && mv away images"), 0);
	bench_reopen(bench);
	bench_check_clean(bench);
}

static void test_cleans_up(void **state)
{
	struct bench *bench = *state;

	make(bench, "a");
	assert_int_equal(help_run("touch tmp/x tmp/overlay-12 "
				  "tmp/00000000-0000-4000-8000-000000000000.deleted"),
			 0);
	bench_reopen(bench);
	bench_check_clean(bench);
}

static void delete_in_child(const struct bench *bench, const char *point)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct bench child = {0};
		struct err err;
		setenv("VDI_CRASH_AT", point, 1);
		memcpy(child.dir, bench->dir, sizeof(child.dir));
		bench_open(&child);
		_exit(images_delete(child.images, "a", &err) < 0);
	}
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("%s: status %x", point, (unsigned int)status);
}

static void test_killed_while_deleting(void **state)
{
	struct err err;
	static const char *const points[] = {"image-delete:aside:before", "image-delete:row:before",
					     "image-delete:file:before", "image-delete:file:after"};
	struct bench *bench = *state;

	if (!BENCH_CRASH_POINTS)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		make(bench, "a");
		bench_close(bench);
		delete_in_child(bench, points[i]);
		bench_open(bench);
		bench_check_clean(bench);
		assert_int_equal(images_find(bench->images, "a", NULL) != NULL, i == 0);
		if (i == 0)
			assert_int_equal(images_delete(bench->images, "a", &err), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)
		TEST(test_finds),
		TEST(test_lists_in_order),
		TEST(test_deletes),
		TEST(test_lineage),
		TEST(test_keeps_rows_without_files),
		TEST(test_cleans_up),
		TEST(test_killed_while_deleting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
