/*
 * Images: named, versioned, immutable once published; and the overlays that desktops run on. Rows
 * in the database, files in the store (storage/); the row says what is wanted before a file is
 * touched.
 */
#pragma once

#include <uv.h>

#include "storage/store.h"
#include "vdi-hostd/db/image.h"
#include "vdi-hostd/job/job.h"
#include "vdi-hostd/priv/priv.h"

struct images;

/**
 * images_new() - load the rows, open the store below @state_dir
 * What an interrupted import or delete left is cleaned up here (rows without files and files in
 * the making; never a file that a row names).
 */
int images_new(uv_loop_t *loop, struct db *db, struct jobs *jobs, struct priv *priv,
	       const char *state_dir, struct images **ret, struct err *err) warn_unused;
/** images_free() - running imports are cancelled: their jobs end in this call, their files and rows
 * go while the loop runs on (the database has to stay open until it ends) */
void images_free(struct images *images);

/**
 * images_making() - a version that somebody else makes: its row is there before its file
 * @row: name, owner, parent and the like; id, version, file and state are filled in
 */
int images_making(struct images *images, struct db_image *row, struct err *err) warn_unused;
/** images_made() - its file is in images/, whole and durable: it is a draft, or published */
int images_made(struct images *images, struct db_image *row, bool publish,
		struct err *err) warn_unused;
/** images_unmake() - nothing came of it: its row goes, and its file where there is one */
void images_unmake(struct images *images, const struct db_image *row);

/** images_hold(), images_unhold() - for who works on files of the store: until the last has let go
 * it outlives images_free() */
void images_hold(struct images *images);
void images_unhold(struct images *images);
/** images_store() - for who makes files of other folders than images/; borrowed */
struct store *images_store(struct images *images);

/** images_find() - by "name" (the newest published, else the newest), "name:version" or id;
 * borrowed */
const struct db_image *images_find(struct images *images, const char *ref, struct err *err);

struct image_import {
	const char *name;
	int fd;     /* taken */
	int format; /* enum storage_format, or 0: recognised by its magic */
	bool publish;
	const char *owner, *description, *sha256;
};

/** images_import() - @ret_job_id: the job that does it */
int images_import(struct images *images, const struct image_import *import, const char **ret_job_id,
		  struct err *err) warn_unused;
int images_publish(struct images *images, const char *ref, struct err *err) warn_unused;
int images_retire(struct images *images, const char *ref, struct err *err) warn_unused;
/** images_delete() - while something stands on it, ERR_CONFLICT names what */
int images_delete(struct images *images, const char *ref, struct err *err) warn_unused;

/** struct image_update - what is NULL or 0 stays; the disk itself never changes */
struct image_update {
	const char *owner, *description;
	int64_t depth_max;
};

int images_update(struct images *images, const char *ref, const struct image_update *update,
		  struct err *err) warn_unused;

/** images_refuse_broken() - ERR_CORRUPT where it, or what it stands on, was found to be broken */
int images_refuse_broken(struct images *images, const struct db_image *row,
			 struct err *err) warn_unused;

void images_each(struct images *images, void (*cb)(void *data, const struct db_image *row),
		 void *data);

/**
 * images_layer_file() - a new name for a file of a desktop's disks: ID-XXXXXXXX.qcow2
 * Every file of a desktop's begins with its id, so that a chain cannot lead into another's.
 */
void images_layer_file(const char *desktop_id, char ret[96]);

/** images_node() - what a file of the store is called in QEMU, wherever it stands in a chain */
void images_node(const char *file, char ret[QEMU_NODE_MAX + 1]);

/**
 * images_overlay_create() - a linked clone of an image, durable when the call returns
 * @file: its name in the store's overlays/ folder; an existing one is ERR_EXISTS
 * @virtual_size: bytes; at least the image's; 0: the image's
 */
int images_overlay_create(struct images *images, const struct db_image *image, const char *file,
			  int64_t virtual_size, struct err *err) warn_unused;

/** images_overlay_renew() - the same for a desktop that is there already: of a retired one, too */
int images_overlay_renew(struct images *images, const struct db_image *image, const char *file,
			 int64_t virtual_size, struct err *err) warn_unused;

/**
 * images_layer_create() - a file on top of another of the same desktop's, durable on return
 * @below: in overlays/, from now on not to be written to; NULL: an empty disk
 * @virtual_size: bytes; 0: as below
 */
int images_layer_create(struct images *images, const char *file, const char *below,
			int64_t virtual_size, struct err *err) warn_unused;

/** images_overlay_adopt() - a file that was made in tmp/ becomes a disk of its own */
int images_overlay_adopt(struct images *images, const char *file, const char *made,
			 struct err *err) warn_unused;
/** images_overlay_delete() - idempotent */
int images_overlay_delete(struct images *images, const char *file, struct err *err) warn_unused;
/** images_overlay_allocated() - bytes on disk */
int images_overlay_allocated(struct images *images, const char *file, int64_t *ret,
			     struct err *err) warn_unused;

/**
 * struct image_layer - one file of a chain
 * @fd: -1 where only its measures were asked for
 */
struct image_layer {
	enum store_folder folder;
	char file[128];
	char node[QEMU_NODE_MAX + 1];
	int64_t virtual_size, allocated; /* bytes */
	int fd;
};

/**
 * images_chain_open() - a disk of a desktop for QEMU, top (read-write) first, the rest read-only
 * @file: in overlays/
 * @image_id: the only image that the chain may lead to, or "" for none
 * @ret: room for QEMU_CHAIN_MAX; images_chain_close() them
 *
 * Headers are checked on these very descriptors. QEMU can write to the top's: a chain that leads
 * to another desktop's file or to another image is ERR_CORRUPT.
 */
int images_chain_open(struct images *images, const char *file, const char *image_id,
		      struct image_layer *ret, size_t *ret_n, struct err *err) warn_unused;
/** images_chain_read() - the same, the top read-only as well */
int images_chain_read(struct images *images, const char *file, const char *image_id,
		      struct image_layer *ret, size_t *ret_n, struct err *err) warn_unused;
/**
 * images_layers() - the files of a desktop's own that one of them stands on, itself first; measured
 * only
 * @ret: room for QEMU_CHAIN_MAX
 *
 * Ends at an image, and where a file is missing. ERR_NOT_FOUND when @file itself is.
 */
int images_layers(struct images *images, const char *file, struct image_layer *ret, size_t *ret_n,
		  struct err *err) warn_unused;
/**
 * images_state_create() - a file for a guest's memory, in the making; images_state_keep() makes it
 * last once it is on the disk
 */
int images_state_create(struct images *images, const char *file, int *ret_fd,
			struct err *err) warn_unused;
int images_state_keep(struct images *images, const char *file, struct err *err) warn_unused;
int images_state_open(struct images *images, const char *file, int *ret_fd,
		      struct err *err) warn_unused;
/** images_state_delete() - finished or not; idempotent */
int images_state_delete(struct images *images, const char *file, struct err *err) warn_unused;
int images_state_allocated(struct images *images, const char *file, int64_t *ret,
			   struct err *err) warn_unused;
void images_chain_close(struct image_layer *layers, size_t n);

/** images_chain() - the files that an image is made of, top first; @ret: room for QEMU_CHAIN_MAX */
int images_chain(struct images *images, const struct db_image *image, struct image_layer *ret,
		 size_t *ret_n, struct err *err) warn_unused;
/** images_open() - the same, open for reading; images_chain_close() them */
int images_open(struct images *images, const struct db_image *image, struct image_layer *ret,
		size_t *ret_n, struct err *err) warn_unused;
/** images_disk_free() - bytes free in the store */
int images_disk_free(struct images *images, int64_t *ret_free, int64_t *ret_total,
		     struct err *err) warn_unused;

/* How much room the store has: nothing new is begun when it is critical. */
enum images_space { IMAGES_SPACE_OK, IMAGES_SPACE_LOW, IMAGES_SPACE_CRITICAL };
extern const char *const images_space_names[]; /* ends with NULL */

/**
 * struct images_space_limits - what is to stay free; all 0: no limits
 * @low_percent, @critical_percent: of the store's file system
 * @critical_mib: and so much in any case; twice that is low
 */
struct images_space_limits {
	int64_t low_percent, critical_percent, critical_mib;
};

/**
 * images_space_watch() - look now and then; each change of the level is an event of topic `host`:
 * space_low, space_critical, space_ok
 * Without it nothing is ever refused.
 */
void images_space_watch(struct images *images, const struct images_space_limits *limits);
/** images_space() - the level now */
enum images_space images_space(struct images *images);
/** images_space_level() - that of so much room; @was: the one before */
enum images_space images_space_level(const struct images_space_limits *limits,
				     enum images_space was, int64_t free_bytes, int64_t total);

/**
 * images_space_check() - may something that fills the store be begun?
 * @what: what cannot be done, for the message: "desktop 'ada' cannot be started"
 *
 * Errors: ERR_LIMIT while the room is critical.
 */
int images_space_check(struct images *images, const char *what, struct err *err) warn_unused;
