/*
 * Many linked clones of one image, made and deleted through the store as the daemon does it,
 * against as many plain files that are made, synced and deleted, and against some of `qemu-img
 * create`. Prints JSON; `bench_clones FOLDER COUNT`.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"
#include "storage/qcow2.h"
#include "storage/store.h"

#define SIZE     (UINT64_C(20) << 30)
#define BASE     "base.qcow2"
#define QEMU_IMG "/usr/bin/qemu-img"
#define SAMPLE   50 /* of qemu-img, which takes its time */
#define BYTES    4096
#define ROUNDS   3

extern char **environ;

/* struct times - milliseconds for one of a kind, the best of the rounds */
struct times {
	double made, gone;
};

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "bench_clones: %s: %s\n", what, err ? err->msg : "failed");
	exit(1);
}

static double since(uint64_t start, int n)
{
	return (double)(uv_hrtime() - start) / 1e6 / n;
}

static void keep(struct times *best, double made, double gone)
{
	if (best->made == 0 || made + gone < best->made + best->gone)
		*best = (struct times){made, gone};
}

static void name(char ret[32], const char *prefix, int i)
{
	snprintf(ret, 32, "%s%d", prefix, i);
}

static void time_clones(struct store *store, int n, struct times *best)
{
	struct err err;
	char file[32];
	uint64_t start = uv_hrtime();

	for (int i = 0; i < n; i++) {
		name(file, "clone-", i);
		if (store_create_overlay(store, file, STORE_IMAGES, BASE, 0, &err) < 0)
			die("store_create_overlay", &err);
	}
	double made = since(start, n);
	start = uv_hrtime();
	for (int i = 0; i < n; i++) {
		name(file, "clone-", i);
		if (store_delete(store, STORE_OVERLAYS, file, &err) < 0)
			die("store_delete", &err);
	}
	keep(best, made, since(start, n));
}

/* each durable by itself, its name included, and durably gone */
static void time_files(int n, struct times *best)
{
	char file[32], bytes[BYTES] = {1};
	_cleanup_close_ int folder = open("plain", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t start = uv_hrtime();

	for (int i = 0; i < n; i++) {
		name(file, "plain/", i);
		_cleanup_close_ int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, bytes, BYTES) != BYTES || fsync(fd) < 0)
			die(file, NULL);
	}
	double made = since(start, n);
	start = uv_hrtime();
	for (int i = 0; i < n; i++) {
		name(file, "plain/", i);
		if (unlink(file) < 0 || fsync(folder) < 0)
			die(file, NULL);
	}
	keep(best, made, since(start, n));
}

static double time_qemu_img(void)
{
	char *const argv[] = {
		"qemu-img",           "create",     "-q", "-f", "qcow2", "-F", "qcow2", "-b",
		"store/images/" BASE, "qemu.qcow2", NULL};
	uint64_t start = uv_hrtime();
	pid_t pid;
	int status;

	for (int i = 0; i < SAMPLE; i++) {
		if (posix_spawn(&pid, QEMU_IMG, NULL, NULL, argv, environ) != 0 ||
		    waitpid(pid, &status, 0) != pid || status != 0 || unlink("qemu.qcow2") < 0)
			die(QEMU_IMG, NULL);
	}
	return since(start, SAMPLE);
}

static void make_base(void)
{
	struct err err;
	_cleanup_close_ int fd =
		open("store/images/" BASE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || qcow2_write(fd, SIZE, NULL, NULL, &err) < 0)
		die(BASE, fd < 0 ? NULL : &err);
}

int main(int argc, char **argv)
{
	int n = argc == 3 ? atoi(argv[2]) : 0;
	struct times clones = {0}, files = {0};
	struct store *store;
	struct err err;
	double qemu = 0;

	if (n < 1 || chdir(argv[1]) < 0)
		die("usage: bench_clones FOLDER COUNT", NULL);
	mkdir("store", 0700);
	mkdir("plain", 0700); /* what uses them says so if they could not be made */
	if (store_open("store", &store, &err) < 0)
		die("store_open", &err);
	make_base();
	/* in turns, so that each sees the same load of the machine */
	for (int i = 0; i < ROUNDS; i++) {
		time_clones(store, n, &clones);
		time_files(n, &files);
		double now = time_qemu_img();
		qemu = qemu == 0 || now < qemu ? now : qemu;
	}
	store_free(store);
	printf("{\"clone_ms\": %.4f, \"delete_ms\": %.4f, \"file_ms\": %.4f, \"file_delete_ms\": "
	       "%.4f, \"qemu_img_ms\": %.4f}\n",
	       clones.made, clones.gone, files.made, files.gone, qemu);
	return 0;
}
