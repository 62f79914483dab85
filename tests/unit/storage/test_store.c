#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "help.h"
#include "storage/file.h"
#include "storage/store.h"

#define LAYERS 4

static char dir[64];
static struct store *store;

static void make_image(const char *name)
{
	assert_int_equal(help_run("qemu-img create -q -f qcow2 images/%s 1G", name), 0);
}

static void test_overlay(void **state)
{
	struct store_layer layers[LAYERS];
	struct err err = {0};
	size_t n = 0;

	make_image("base");
	assert_int_equal(store_create_overlay(store, "one", STORE_IMAGES, "base", 0, &err), 0);
	assert_int_equal(help_run("qemu-img check -q overlays/one"), 0);
	assert_int_equal(help_run("qemu-img info overlays/one | "
				  "grep -q 'backing file: ../images/base '"),
			 0);
	assert_int_equal(
		store_open_chain(store, STORE_OVERLAYS, "one", O_RDWR, layers, LAYERS, &n, &err),
		0);
	assert_int_equal(n, 2);
	assert_string_equal(layers[0].file, "one");
	assert_string_equal(layers[1].file, "base");
	assert_int_equal(fcntl(layers[0].fd, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(fcntl(layers[1].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(layers[0].header.virtual_size, 1 << 30);
	store_close_chain(layers, n);
	assert_int_equal(help_count("tmp"), 0);
}

static void overlay_refused(const char *file, const char *image, uint64_t size, enum err_code code)
{
	size_t before = help_count("overlays");
	struct err err = {0};

	assert_int_equal(store_create_overlay(store, file, STORE_IMAGES, image, size, &err), -1);
	if (err.code != code)
		fail_msg("%s: %s", err_code_name(err.code), err.msg);
	assert_int_equal(help_count("overlays"), before);
	assert_int_equal(help_count("tmp"), 0);
}

static void test_overlay_refused(void **state)
{
	struct err err = {0};

	assert_int_equal(
		store_create_overlay(store, "big", STORE_IMAGES, "base", UINT64_C(4) << 30, &err),
		0);
	overlay_refused("big", "base", 0, ERR_EXISTS);
	overlay_refused("two", "gone", 0, ERR_NOT_FOUND);
	overlay_refused("two", "base", 512, ERR_INVALID);
	overlay_refused("two", "base", (UINT64_C(1) << 30) + 1, ERR_INVALID);
	overlay_refused("two", "base", UINT64_MAX - 511, ERR_LIMIT);
	overlay_refused("../two", "base", 0, ERR_INVALID);
	overlay_refused("two", "../images/base", 0, ERR_INVALID);
	make_image("bad");
	help_poke64("images/bad", 72, QCOW2_CORRUPT);
	overlay_refused("two", "bad", 0, ERR_CORRUPT);
	assert_int_equal(symlink("base", "images/link"), 0);
	overlay_refused("two", "link", 0, ERR_UNSUPPORTED);
}

static void chain_refused(const char *backing, const char *format, enum err_code code)
{
	struct store_layer layers[LAYERS];
	struct err err = {0};
	size_t n = 99;
	_cleanup_close_ int fd =
		open("overlays/evil", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(qcow2_write(fd, 1 << 30, backing, format, &err), 0);
	assert_int_equal(
		store_open_chain(store, STORE_OVERLAYS, "evil", O_RDWR, layers, LAYERS, &n, &err),
		-1);
	assert_int_equal(n, 99);
	if (err.code != code)
		fail_msg("%s: %s: %s", backing, err_code_name(err.code), err.msg);
}

static void test_chain_stays_inside(void **state)
{
	chain_refused("/etc/passwd", "raw", ERR_CORRUPT);
	chain_refused("../images/../../etc/passwd", "qcow2", ERR_CORRUPT);
	chain_refused("../images/base", "raw", ERR_CORRUPT);
	chain_refused("json:{\"driver\":\"nbd\"}", "qcow2", ERR_CORRUPT);
	chain_refused("nbd:localhost:1", "qcow2", ERR_CORRUPT);
	chain_refused("../images/gone", "qcow2", ERR_NOT_FOUND);
	chain_refused("../images/link", "qcow2", ERR_UNSUPPORTED);
	chain_refused("../images/bad", "qcow2", ERR_CORRUPT);
}

static void test_chain_ends(void **state)
{
	struct err err = {0};
	int fd = open("images/loop", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(qcow2_write(fd, 1 << 30, "../images/loop", "qcow2", &err), 0);
	close(fd);
	chain_refused("../images/loop", "qcow2", ERR_LIMIT);
}

static void test_moves_never_replace(void **state)
{
	struct err err = {0};
	struct stat st;
	bool there = true;
	int fd;

	umask(077);
	assert_int_equal(store_create_tmp(store, "new", 0666, &fd, &err), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	close(fd);
	assert_int_equal(store_create_tmp(store, "new", 0600, &fd, &err), -1);
	assert_int_equal(err.code, ERR_EXISTS);
	assert_int_equal(store_move(store, STORE_TMP, "new", STORE_IMAGES, "base", &err), -1);
	assert_int_equal(err.code, ERR_EXISTS);
	assert_int_equal(store_has(store, STORE_TMP, "new", &there, &err), 0);
	assert_true(there);
	assert_int_equal(store_move(store, STORE_TMP, "new", STORE_IMAGES, "moved", &err), 0);
	assert_int_equal(store_has(store, STORE_TMP, "new", &there, &err), 0);
	assert_false(there);
	assert_int_equal(store_delete(store, STORE_IMAGES, "moved", &err), 0);
	assert_int_equal(store_delete(store, STORE_IMAGES, "moved", &err), 0);
	assert_int_equal(store_delete(store, STORE_IMAGES, "../one", &err), -1);
}

static int count(void *data, const char *file)
{
	(*(size_t *)data)++;
	return 0;
}

static void test_looks(void **state)
{
	struct err err = {0};
	int64_t allocated = -1, free_bytes = -1, total = -1;
	size_t n = 0;

	assert_int_equal(store_each(store, STORE_OVERLAYS, count, &n, &err), 0);
	assert_int_equal(n, help_count("overlays"));
	assert_int_equal(store_allocated(store, STORE_OVERLAYS, "one", &allocated, &err), 0);
	assert_in_range(allocated, 4096, 65536);
	assert_int_equal(store_allocated(store, STORE_OVERLAYS, "gone", &allocated, &err), -1);
	assert_int_equal(store_space(store, &free_bytes, &total, &err), 0);
	assert_true(free_bytes >= 0 && free_bytes <= total);
}

static void test_open_refuses(void **state)
{
	struct err err = {0};
	struct store *other = NULL;

	assert_int_equal(store_open("gone", &other, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(help_run("mkdir other && ln -s /etc other/images"), 0);
	assert_int_equal(store_open("other", &other, &err), -1);
	assert_null(other);
}

static int setup(void **state)
{
	struct err err = {0};

	help_dir(dir, sizeof(dir));
	return store_open(dir, &store, &err);
}

static int teardown(void **state)
{
	store_free(store);
	help_remove_dir(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_overlay_refused),
		cmocka_unit_test(test_chain_stays_inside),
		cmocka_unit_test(test_chain_ends),
		cmocka_unit_test(test_moves_never_replace),
		cmocka_unit_test(test_looks),
		cmocka_unit_test(test_open_refuses),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
