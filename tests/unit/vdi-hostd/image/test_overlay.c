#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench.h"
#include "storage/format.h"
#include "vdi-hostd/priv/qemu_spec.h"

static const struct db_image *make(struct bench *bench)
{
	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 img 8M"), 0);
	return bench_import(bench, "base", "img");
}

static void test_overlay(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	struct image_layer layers[QEMU_CHAIN_MAX];
	int64_t allocated = 0;
	struct err err;
	size_t n = 0;

	assert_int_equal(images_overlay_create(bench->images, base, "one", 16 << 20, &err), 0);
	assert_int_equal(help_run("qemu-img check -q overlays/one"), 0);
	assert_int_equal(images_overlay_create(bench->images, base, "one", 0, &err), -1);
	assert_int_equal(err.code, ERR_EXISTS);
	assert_int_equal(images_overlay_create(bench->images, base, "two", 512, &err), -1);
	assert_int_equal(images_overlay_create(bench->images, base, "two", -1, &err), -1);
	assert_int_equal(images_overlay_allocated(bench->images, "one", &allocated, &err), 0);
	assert_true(allocated > 0);
	assert_int_equal(images_chain_open(bench->images, "one", base->id, layers, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_string_equal(layers[0].node, "none");
	assert_int_equal(layers[1].folder, STORE_IMAGES);
	assert_int_equal(fcntl(layers[0].fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
	assert_int_equal(fcntl(layers[1].fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
	images_chain_close(layers, n);
	assert_int_equal(layers[0].fd, -1);
	assert_int_equal(images_overlay_delete(bench->images, "one", &err), 0);
	assert_int_equal(images_overlay_delete(bench->images, "one", &err), 0);
	assert_int_equal(images_chain_open(bench->images, "one", base->id, layers, &n, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_tampered_overlay(void **state)
{
	struct bench *bench = *state;
	struct image_layer layers[QEMU_CHAIN_MAX];
	const struct db_image *base = make(bench);
	struct err err;
	size_t n = 0;

	assert_int_equal(images_overlay_create(bench->images, base, "one", 0, &err), 0);
	assert_int_equal(help_run("qemu-img rebase -u -f qcow2 -b /etc/passwd -F raw overlays/one"),
			 0);
	assert_int_equal(images_chain_open(bench->images, "one", base->id, layers, &n, &err), -1);
	assert_int_equal(err.code, ERR_CORRUPT);
	assert_non_null(strstr(err.msg, "outside the store"));
}

#define A     "11111111-1111-4111-8111-111111111111"
#define OTHER "22222222-2222-4222-8222-222222222222"

/* QEMU can write to the top file's header: what it says there must not open other files */
static void test_chain_stays_with_its_desktop(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	const struct {
		const char *backing, *file, *image_id;
		int result;
	} rows[] = {
		{A "-0.qcow2", A "-1.qcow2", base->id, 0},
		{A "-0.qcow2", A "-1.qcow2", "", -1},
		{A "-0.qcow2", A "-1.qcow2", OTHER, -1},
		{A "-0.qcow2", OTHER "-1.qcow2", base->id, -1},
		{NULL, A "-1.qcow2", "", 0},
	};
	struct image_layer layers[QEMU_CHAIN_MAX];
	struct err err;
	size_t n = 0;

	assert_int_equal(images_overlay_create(bench->images, base, A "-0.qcow2", 0, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(images_layer_create(bench->images, rows[i].file, rows[i].backing,
						     rows[i].backing ? 0 : 4096, &err),
				 0);
		assert_int_equal(images_chain_open(bench->images, rows[i].file, rows[i].image_id,
						   layers, &n, &err),
				 rows[i].result);
		if (rows[i].result < 0)
			assert_int_equal(err.code, ERR_CORRUPT);
		else
			images_chain_close(layers, n);
		assert_int_equal(images_overlay_delete(bench->images, rows[i].file, &err), 0);
	}
}

static void test_names(void **state)
{
	char file[96], node[QEMU_NODE_MAX + 1], again[QEMU_NODE_MAX + 1];

	images_layer_file(A, file);
	images_node(file, node);
	assert_int_equal(strlen(node), QEMU_NODE_MAX);
	assert_int_equal(node[0], 'n');
	assert_memory_equal(node + QEMU_NODE_MAX - 8, file + STR_UUID_LEN + 1, 8);
	images_layer_file(A, file);
	images_node(file, again);
	assert_string_not_equal(node, again);
}

static void test_no_clones_of_retired_ones(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	struct err err;

	assert_int_equal(images_retire(bench->images, base->id, &err), 0);
	assert_int_equal(images_overlay_create(bench->images, base, "one", 0, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
}

static void test_chain(void **state)
{
	struct bench *bench = *state;
	const struct db_image *base = make(bench);
	struct image_layer layers[QEMU_CHAIN_MAX];
	int64_t free_bytes, total;
	struct err err;
	size_t n = 0;

	assert_int_equal(images_chain(bench->images, base, layers, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_string_equal(layers[0].file, base->file);
	assert_int_equal(layers[0].virtual_size, 8 << 20);
	assert_int_equal(layers[0].allocated, base->file_size);
	assert_int_equal(images_disk_free(bench->images, &free_bytes, &total, &err), 0);
	assert_true(free_bytes <= total);
	assert_int_equal(help_run("rm images/*"), 0);
	assert_int_equal(images_chain(bench->images, base, layers, &n, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)
		TEST(test_overlay),
		TEST(test_tampered_overlay),
		TEST(test_chain_stays_with_its_desktop),
		TEST(test_names),
		TEST(test_no_clones_of_retired_ones),
		TEST(test_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
