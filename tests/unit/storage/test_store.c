#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

static void write_layer(const char *path, const char *backing)
{
	struct err err = {0};
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(qcow2_write(fd, 1 << 30, backing, backing ? "qcow2" : NULL, &err), 0);
}

/* what stands on itself is told from what is only deep, by whatever way it comes back */
static void test_chain_ends(void **state)
{
	char path[32], backing[32];

	write_layer("images/loop", "../images/loop");
	chain_refused("../images/loop", "qcow2", ERR_CORRUPT);
	write_layer("images/loop", "../images/back");
	write_layer("images/back", "../images/loop");
	chain_refused("../images/loop", "qcow2", ERR_CORRUPT);
	chain_refused("../overlays/evil", "qcow2", ERR_CORRUPT);
	write_layer("images/loop", "../overlays/evil");
	chain_refused("../images/loop", "qcow2", ERR_CORRUPT);
	/* one file by two names */
	write_layer("images/loop", "../images/other");
	assert_int_equal(link("images/loop", "images/other"), 0);
	chain_refused("../images/loop", "qcow2", ERR_CORRUPT);
	write_layer("images/deep0", NULL);
	for (int i = 1; i <= LAYERS; i++) {
		snprintf(path, sizeof(path), "images/deep%d", i);
		snprintf(backing, sizeof(backing), "../images/deep%d", i - 1);
		write_layer(path, backing);
	}
	chain_refused("../images/deep3", "qcow2", ERR_LIMIT);
	chain_refused("../images/deep4", "qcow2", ERR_LIMIT);
	struct store_layer layers[LAYERS];
	struct err err = {0};
	size_t n = 0;
	assert_int_equal(
		store_open_chain(store, STORE_IMAGES, "deep3", O_RDONLY, layers, LAYERS, &n, &err),
		0);
	assert_int_equal(n, LAYERS);
	store_close_chain(layers, n);
}

/* something else in a file's place, at the top or below, is not even opened */
static void test_chain_of_other_things(void **state)
{
	static const struct {
		const char *make;
		enum err_code code;
	} things[] = {
		{"mkfifo $p", ERR_UNSUPPORTED},
		{"mkdir $p", ERR_UNSUPPORTED},
		{"ln -s base $p", ERR_UNSUPPORTED},
		{"ln -s /dev/zero $p", ERR_UNSUPPORTED},
		{"ln -s gone $p", ERR_UNSUPPORTED},
		{"python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $p",
		 ERR_UNSUPPORTED},
		{": > $p", ERR_CORRUPT},
		{"head -c 200 images/base > $p", ERR_CORRUPT},
		{"head -c 100000 /dev/urandom > $p", ERR_UNSUPPORTED},
		{"true", ERR_NOT_FOUND},
	};
	struct store_layer layers[LAYERS];
	struct err err;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(things); i++) {
		assert_int_equal(help_run("rm -rf images/thing overlays/thing"), 0);
		assert_int_equal(help_run("p=images/thing; %s", things[i].make), 0);
		chain_refused("../images/thing", "qcow2", things[i].code);
		assert_int_equal(help_run("p=overlays/thing; %s", things[i].make), 0);
		assert_int_equal(store_open_chain(store, STORE_OVERLAYS, "thing", O_RDWR, layers,
						  LAYERS, &n, &err),
				 -1);
		assert_int_equal(err.code, things[i].code);
	}
	assert_int_equal(help_run("rm -rf images/thing overlays/thing"), 0);
}

/* what was looked at is what is handed out, whatever its name leads to by then */
static void test_chain_is_held(void **state)
{
	struct store_layer layers[LAYERS];
	struct qcow2_header header;
	struct err err = {0};
	size_t n = 0;

	write_layer("images/held", NULL);
	write_layer("overlays/holds", "../images/held");
	assert_int_equal(
		store_open_chain(store, STORE_OVERLAYS, "holds", O_RDWR, layers, LAYERS, &n, &err),
		0);
	assert_int_equal(help_run("ln -sf /etc/passwd images/held && mv images/base overlays/holds "
				  "&& cp overlays/holds images/base"),
			 0);
	assert_int_equal(n, 2);
	assert_int_equal(qcow2_read(layers[0].fd, QCOW2_ALLOW_BACKING, &header, &err), 0);
	assert_string_equal(header.backing_name, "../images/held");
	assert_int_equal(qcow2_read(layers[1].fd, 0, &header, &err), 0);
	store_close_chain(layers, n);
}

/* somebody swaps files and rewrites a header while chains are opened */
static void swap_for_ever(void)
{
	_cleanup_close_ int a = open("overlays/swapped", O_RDWR | O_CLOEXEC);
	unsigned char good[512], evil[512];

	if (pread(a, good, sizeof(good), 0) != sizeof(good))
		_exit(1);
	memcpy(evil, good, sizeof(evil));
	char *name = memmem(evil, sizeof(evil), "../images/good", 14);
	if (!name || symlink("/dev/zero", "images/link2") < 0)
		_exit(1);
	memcpy(name, "/etc/hostnames", 14);
	for (;;) {
		(void)!pwrite(a, evil, sizeof(evil), 0);
		(void)!renameat2(AT_FDCWD, "images/good", AT_FDCWD, "images/link2",
				 RENAME_EXCHANGE);
		(void)!pwrite(a, good, sizeof(good), 0);
		(void)!renameat2(AT_FDCWD, "images/good", AT_FDCWD, "images/link2",
				 RENAME_EXCHANGE);
	}
}

static void test_chain_while_files_are_swapped(void **state)
{
	struct store_layer layers[LAYERS];
	struct err err;
	struct stat st;
	size_t n = 0, whole = 0, refused = 0;

	write_layer("images/good", NULL);
	write_layer("overlays/swapped", "../images/good");
	assert_int_equal(stat("images/good", &st), 0);
	const ino_t good = st.st_ino;
	pid_t pid = fork();
	if (pid == 0)
		swap_for_ever();
	for (int i = 0; i < 200000 && (i < 5000 || whole < 20 || refused < 20); i++) {
		if (store_open_chain(store, STORE_OVERLAYS, "swapped", O_RDWR, layers, LAYERS, &n,
				     &err) < 0) {
			refused++;
			continue;
		}
		whole++;
		assert_int_equal(n, 2);
		assert_string_equal(layers[0].header.backing_name, "../images/good");
		assert_int_equal(fstat(layers[1].fd, &st), 0);
		assert_int_equal(st.st_ino, good);
		store_close_chain(layers, n);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(whole > 0 && refused > 0);
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
		cmocka_unit_test(test_chain_of_other_things),
		cmocka_unit_test(test_chain_is_held),
		cmocka_unit_test(test_chain_while_files_are_swapped),
		cmocka_unit_test(test_moves_never_replace),
		cmocka_unit_test(test_looks),
		cmocka_unit_test(test_open_refuses),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
