/*
 * A linked clone: our own writer with fdatasync, and the store's whole operation (durable and
 * named), against `qemu-img create`. Prints JSON; `bench_overlay FOLDER`.
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

#define RUNS        60
#define SIZE        (UINT64_C(20) << 30)
#define BASE        "base.qcow2"
#define QEMU_IMG    "/usr/bin/qemu-img"
#define MICROSECOND 1000.0

extern char **environ;

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "bench_overlay: %s: %s\n", what, err ? err->msg : "failed");
	exit(1);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double median(double *times, size_t n)
{
	qsort(times, n, sizeof(*times), compare);
	return times[n / 2];
}

static void write_file(const char *path, const char *backing)
{
	struct err err;
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || qcow2_write(fd, SIZE, backing, backing ? "qcow2" : NULL, &err) < 0)
		die(path, fd < 0 ? NULL : &err);
	if (fdatasync(fd) < 0)
		die("fdatasync", NULL);
}

static double time_own(void)
{
	uint64_t start = uv_hrtime();
	write_file("own.qcow2", "store/images/" BASE);
	uint64_t end = uv_hrtime();
	unlink("own.qcow2");
	return (double)(end - start) / MICROSECOND;
}

static double time_store(struct store *store)
{
	struct err err;
	uint64_t start = uv_hrtime();
	if (store_create_overlay(store, "own.qcow2", STORE_IMAGES, BASE, 0, &err) < 0)
		die("store_create_overlay", &err);
	uint64_t end = uv_hrtime();
	if (store_delete(store, STORE_OVERLAYS, "own.qcow2", &err) < 0)
		die("store_delete", &err);
	return (double)(end - start) / MICROSECOND;
}

static double time_qemu_img(void)
{
	char *const argv[] = {
		"qemu-img",           "create",     "-q", "-f", "qcow2", "-F", "qcow2", "-b",
		"store/images/" BASE, "qemu.qcow2", NULL};
	pid_t pid;
	int status;
	uint64_t start = uv_hrtime();
	if (posix_spawn(&pid, QEMU_IMG, NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		die(QEMU_IMG, NULL);
	uint64_t end = uv_hrtime();
	unlink("qemu.qcow2");
	return (double)(end - start) / MICROSECOND;
}

int main(int argc, char **argv)
{
	struct store *store;
	struct err err;
	if (argc != 2 || chdir(argv[1]) < 0)
		die("usage: bench_overlay FOLDER", NULL);
	mkdir("store", 0700); /* store_open() says so if it could not be made */
	if (store_open("store", &store, &err) < 0)
		die("store_open", &err);
	write_file("store/images/" BASE, NULL);
	/* in turns, so that each sees the same load of the machine */
	double own[RUNS], whole[RUNS], qemu[RUNS];
	for (size_t i = 0; i < RUNS; i++) {
		own[i] = time_own();
		whole[i] = time_store(store);
		qemu[i] = time_qemu_img();
	}
	store_free(store);
	printf("{\"own_us\": %.1f, \"store_us\": %.1f, \"qemu_img_us\": %.1f}\n", median(own, RUNS),
	       median(whole, RUNS), median(qemu, RUNS));
	return 0;
}
