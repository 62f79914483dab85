/*
 * The store: a folder with images/ (read-only files), overlays/ (what desktops write to), isos/,
 * backups/, states/ (the memory of desktops that stand still) and tmp/ (files in the making,
 * removed at the next start). Files are named by plain names only, and a chain of backing files is
 * followed only inside the store.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/qcow2.h"

struct store;

enum store_folder {
	STORE_IMAGES,
	STORE_OVERLAYS,
	STORE_TMP,
	STORE_ISOS,
	STORE_BACKUPS,
	STORE_STATES,
};

/** store_open() - open the store at @path, making its folders (mode 0700) where they lack */
int store_open(const char *path, struct store **ret, struct err *err) warn_unused;
void store_free(struct store *store);

/** store_open_file() - a regular file of the store; @flags: O_RDONLY or O_RDWR */
int store_open_file(struct store *store, enum store_folder folder, const char *file, int flags,
		    int *ret_fd, struct err *err) warn_unused;

/**
 * store_create_tmp() - a new file in tmp/, open for reading and writing
 * @mode: exactly this, whatever the umask
 */
int store_create_tmp(struct store *store, const char *file, unsigned int mode, int *ret_fd,
		     struct err *err) warn_unused;

/**
 * store_move() - move a file between folders, never over another (ERR_EXISTS); durable on return
 */
int store_move(struct store *store, enum store_folder from, const char *file, enum store_folder to,
	       const char *to_file, struct err *err) warn_unused;

/**
 * store_delete() - remove a file; one that is not there is no error
 *
 * Durable on return but in overlays/ and tmp/: one that a power cut brings back is a file that no
 * row names.
 */
int store_delete(struct store *store, enum store_folder folder, const char *file,
		 struct err *err) warn_unused;

/** store_has() - is there such a file? */
int store_has(struct store *store, enum store_folder folder, const char *file, bool *ret,
	      struct err *err) warn_unused;

/** store_each() - the names in a folder; @cb returns 0 to go on, else the walk ends with that */
int store_each(struct store *store, enum store_folder folder,
	       int (*cb)(void *data, const char *file), void *data, struct err *err) warn_unused;

/** store_allocated() - bytes that a file takes on disk */
int store_allocated(struct store *store, enum store_folder folder, const char *file, int64_t *ret,
		    struct err *err) warn_unused;

/** store_space() - bytes free (for us) and in total where the store lies */
int store_space(struct store *store, int64_t *ret_free, int64_t *ret_total,
		struct err *err) warn_unused;

/**
 * store_create_overlay() - a linked clone of a file of the store, durable and whole when it shows
 * @file:         in overlays/; ERR_EXISTS if there is one
 * @folder, @backing: the qcow2 file that it stands on; @backing NULL: on nothing, an empty disk
 * @virtual_size: bytes; 0: the backing file's; less than that is ERR_INVALID
 */
int store_create_overlay(struct store *store, const char *file, enum store_folder folder,
			 const char *backing, uint64_t virtual_size, struct err *err) warn_unused;

/** store_backing_name() - what the header of a file of the store says of another: "../images/FILE"
 */
void store_backing_name(enum store_folder folder, const char *file, char ret[160]);

/**
 * struct store_layer - one file of a chain
 * @fd: the top one read-write (if asked for), the rest read-only
 */
struct store_layer {
	int fd;
	char file[128];
	enum store_folder folder;
	struct qcow2_header header;
};

/**
 * store_open_chain() - open a file and all that it stands on, top first
 * @flags:  O_RDONLY or O_RDWR, for the top
 * @layers: room for @max; the descriptors are the caller's
 *
 * Every header is read on the descriptor that is handed out. Errors: ERR_CORRUPT where a header is
 * bad, names no file of the store or a file stands on itself; ERR_NOT_FOUND, ERR_UNSUPPORTED (no
 * regular file), ERR_LIMIT (over @max).
 */
int store_open_chain(struct store *store, enum store_folder folder, const char *file, int flags,
		     struct store_layer *layers, size_t max, size_t *ret_n,
		     struct err *err) warn_unused;

/** store_close_chain() - close what store_open_chain() opened */
void store_close_chain(struct store_layer *layers, size_t n);

/** store_folder_fd(), store_folder_name() - one of its folders, borrowed; "images" */
int store_folder_fd(const struct store *store, enum store_folder folder);
const char *store_folder_name(enum store_folder folder);

/**
 * store_read_backing() - the next file of a chain, as one file's header says
 * @ret: "" where the file stands on nothing
 * Errors as of store_open_chain(). May be called from any thread, as all of this header may.
 */
int store_read_backing(struct store *store, enum store_folder folder, const char *file,
		       enum store_folder *ret_folder, char ret[128], struct err *err) warn_unused;
