/*
 * A desktop's disks as they are at one moment, for who reads them for long (a capture, an export)
 * while the desktop lives on: what was written to until then stands still below new files, and is
 * merged with them again afterwards.
 */
#pragma once

#include "vdi-hostd/disk/disk.h"

/** enum disks_quiesce - is the guest's agent asked to bring its file systems to rest? */
enum disks_quiesce {
	DISKS_QUIESCE_AUTO,    /* where there is an agent that answers */
	DISKS_QUIESCE_REQUIRE, /* else the freeze fails (ERR_UNAVAILABLE), also of a stopped one */
	DISKS_QUIESCE_NO,
};

/**
 * struct disks_frozen - what to read
 * @layers:   of each disk, top first, all open for reading only; none of them is written to before
 *            disks_unfreeze(). The receiver's: images_chain_close() each disk's
 * @n_layers: 0 for a disk that the desktop does not have
 * @bytes:    the virtual size of each disk
 * @image_id: what the system disk stands on
 * @quiesced: the guest's file systems were at rest, or the guest was off; else as after a power cut
 */
struct disks_frozen {
	struct image_layer layers[DB_DISKS][QEMU_CHAIN_MAX];
	size_t n_layers[DB_DISKS];
	int64_t bytes[DB_DISKS];
	char image_id[STR_UUID_LEN + 1];
	bool quiesced;
};

/** disks_frozen_cb - @frozen: borrowed, its descriptors are the receiver's; NULL on failure, which
 * leaves everything as it was */
typedef void (*disks_frozen_cb)(void *data, const struct disks_frozen *frozen,
				const struct err *err);

/**
 * disks_freeze() - stopped or running; the desktop goes on at once
 * @cb: fires exactly once, maybe inside this call
 *
 * The caller holds the desktop's work (desktop_work_begin()) until it has unfrozen it, and no
 * operation of it: a freeze claims one for itself. One freeze a desktop: ERR_BUSY. After a crash
 * of the daemon there is no freeze any more: the next start merges what it left.
 */
void disks_freeze(struct disks *disks, struct desktop *desktop, enum disks_quiesce quiesce,
		  disks_frozen_cb cb, void *data);

/**
 * disks_unfreeze() - the files may be merged again, which is done in the background as a job of
 * its own
 *
 * The caller has closed the layers, and calls desktop_work_end() before this. Idempotent; a desktop
 * that is gone by then is none of the caller's concern.
 */
void disks_unfreeze(struct disks *disks, struct desktop *desktop);
