/*
 * A folder of files that name each other, opened as a chain. The input is a row of files: a byte
 * for the kind (above 0x80: the next one may follow), a byte for the name, two for the length, then
 * the bytes of a header.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/store.h"

#define LAYERS 4
#define FILES  8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"overlays/top", "overlays/a", "overlays/b", "images/a",
				    "images/b",     "images/c",   "images/d",   "backups/a"};
#define NAMES (sizeof(names) / sizeof(names[0]))

enum { REGULAR, FIFO, FOLDER, LINK, HARD_LINK, KINDS };

static struct store *store;
static char folder[] = "/tmp/fuzz-chain-XXXXXX";
static int top = -1;

static void remove_files(void)
{
	for (size_t i = 0; i < NAMES; i++)
		if (unlinkat(top, names[i], 0) < 0)
			unlinkat(top, names[i], AT_REMOVEDIR);
}

static void remove_all(void)
{
	static const char *const folders[] = {"images", "overlays", "tmp",
					      "isos",   "backups",  "states"};

	remove_files();
	store_free(store);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		unlinkat(top, folders[i], AT_REMOVEDIR);
	close(top);
	rmdir(folder);
}

static void prepare(void)
{
	struct err err;

	if (!mkdtemp(folder) || store_open(folder, &store, &err) < 0)
		abort();
	top = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		abort();
	atexit(remove_all);
}

static void make_regular(const char *name, const uint8_t *data, size_t size)
{
	int fd = openat(top, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return; /* there is something else of that name */
	/* tables have to lie inside the file: a hole after the header makes room for them */
	if (pwrite(fd, data, size, 0) != (ssize_t)size || ftruncate(fd, 1 << 20) < 0)
		abort();
	close(fd);
}

static void make_file(unsigned int kind, const char *name, const char *other, const uint8_t *data,
		      size_t size)
{
	switch (kind % KINDS) {
	case REGULAR:
		make_regular(name, data, size);
		break;
	case FIFO:
		mkfifoat(top, name, 0600);
		break;
	case FOLDER:
		mkdirat(top, name, 0700);
		break;
	case LINK:
		(void)!symlinkat("/dev/zero", top, name);
		break;
	case HARD_LINK:
		(void)!linkat(top, other, top, name, 0);
		break;
	}
}

static void make_folder(const uint8_t *data, size_t size)
{
	for (int i = 0; i < FILES && size >= 4; i++) {
		size_t len = data[2] | (size_t)data[3] << 8;
		const uint8_t kind = data[0], at = data[1];
		data += 4;
		size -= 4;
		len = len < size ? len : size;
		make_file(kind, names[at % NAMES], names[(at / NAMES) % NAMES], data, len);
		data += len;
		size -= len;
	}
}

/* what was accepted keeps its promises */
static void check_layers(const struct store_layer *layers, size_t n)
{
	struct stat st, other;

	if (n < 1 || n > LAYERS || layers[n - 1].header.backing_name[0] != '\0')
		abort();
	for (size_t i = 0; i < n; i++) {
		int mode = fcntl(layers[i].fd, F_GETFL) & O_ACCMODE;
		if (fstat(layers[i].fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		    mode != (i == 0 ? O_RDWR : O_RDONLY))
			abort();
		for (size_t k = 0; k < i; k++)
			if (fstat(layers[k].fd, &other) < 0 || other.st_ino == st.st_ino)
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_layer layers[LAYERS];
	struct err err;
	size_t n;

	if (!store)
		prepare();
	remove_files();
	make_folder(data, size);
	int before = dup(STDOUT_FILENO);
	close(before);
	if (store_open_chain(store, STORE_OVERLAYS, "top", O_RDWR, layers, LAYERS, &n, &err) == 0) {
		check_layers(layers, n);
		store_close_chain(layers, n);
	}
	/* nothing stays open */
	int after = dup(STDOUT_FILENO);
	close(after);
	if (after != before)
		abort();
	return 0;
}
