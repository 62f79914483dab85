/* The files of the store as they are, whatever they are: for who looks after the whole of it. */
#pragma once

#include "storage/store.h"

/**
 * struct scan_file - one name in a folder
 * @regular: a regular file by a name of ours; the rest was put there by others
 * @changed_ms: when its bytes or its name last changed, ms since 1970
 */
struct scan_file {
	enum store_folder folder;
	const char *file;
	bool regular;
	unsigned int mode;
	int64_t allocated, changed_ms;
};

/**
 * scan_folder() - everything in a folder; @cb returns 0 to go on, else the walk ends with that
 * What goes while it is looked at is left out.
 */
int scan_folder(struct store *store, enum store_folder folder,
		int (*cb)(void *data, const struct scan_file *file), void *data,
		struct err *err) warn_unused;

/** scan_look() - one file; ERR_NOT_FOUND */
int scan_look(struct store *store, enum store_folder folder, const char *file,
	      struct scan_file *ret, struct err *err) warn_unused;

/** scan_set_mode() - of a regular file */
int scan_set_mode(struct store *store, enum store_folder folder, const char *file,
		  unsigned int mode, struct err *err) warn_unused;

/**
 * scan_set_aside() - move a file to tmp/, where the next start removes it; not durable
 * @tmp: its new name; ERR_EXISTS
 */
int scan_set_aside(struct store *store, enum store_folder folder, const char *file, const char *tmp,
		   struct err *err) warn_unused;
