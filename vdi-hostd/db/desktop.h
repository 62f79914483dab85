/* Rows of `desktop`. */
#pragma once

#include "vdi-hostd/db/db.h"

/** enum db_desktop_op - the plan under way, written before its first side effect */
enum db_desktop_op {
	DB_DESKTOP_OP_NONE,
	DB_DESKTOP_OP_CREATE,
	DB_DESKTOP_OP_START,
	DB_DESKTOP_OP_STOP,
	DB_DESKTOP_OP_DELETE,
	DB_DESKTOP_OP_PARK, /* its QEMU, if there is one, never let the guest run */
	DB_DESKTOP_OP_CDROM,
	DB_DESKTOP_OP_RECOMPOSE,     /* to be undone: @previous is what holds */
	DB_DESKTOP_OP_DROP_PREVIOUS, /* @previous is to be deleted */
	DB_DESKTOP_OP_LAST = DB_DESKTOP_OP_DROP_PREVIOUS,
};

/** enum db_desktop_boot - what the firmware tries first; the other comes second */
enum db_desktop_boot { DB_BOOT_DISK, DB_BOOT_CDROM };

enum { DB_DISK_SYSTEM, DB_DISK_DATA, DB_DISKS };

/**
 * struct db_disk - a disk of a desktop
 * @file:  the file that is written to, in the store's overlays/ folder; "" for none
 * @bytes: its virtual size
 */
struct db_disk {
	char file[96];
	int64_t bytes;
};

enum db_desktop_restart { DB_RESTART_NEVER, DB_RESTART_ON_FAILURE, DB_RESTART_ALWAYS };

struct db_desktop {
	char id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1];
	int64_t slot; /* unique, 1..PRIV_SLOT_MAX */
	char image_id[STR_UUID_LEN + 1];
	int64_t memory_mib, vcpus;
	/* the system disk stands on the image; the data disk is the user's, whatever the image */
	struct db_disk disks[DB_DISKS];
	bool disposable;                    /* its system disk begins anew with each start */
	char snapshot_id[STR_UUID_LEN + 1]; /* the one that its disks stand on, or "" */
	char iso_id[STR_UUID_LEN + 1];      /* in its CD drive, or "" */
	enum db_desktop_boot boot;
	char next_image_id[STR_UUID_LEN + 1];     /* what its next start stands on, or "" */
	char previous_image_id[STR_UUID_LEN + 1]; /* with @previous: the way back, or "" */
	struct db_disk previous;
	char owner[STR_NAME_MAX + 1];
	char profile[STR_NAME_MAX + 1];
	bool autostart;
	enum db_desktop_restart restart;
	bool wanted; /* someone started it and nobody stopped it */
	enum db_desktop_op op;
	bool failed; /* with state_reason */
	char state_reason[ERR_MSG_MAX];
	int64_t pid; /* 0: none */
	uint64_t start_time;
	char boot_id[STR_UUID_LEN + 1];
	int64_t started_at, created_at;
	bool held; /* paused by a full store, and then on purpose: it does not go on by itself */
};

int db_desktop_insert(struct db *db, const struct db_desktop *row, struct err *err) warn_unused;
int db_desktop_update(struct db *db, const struct db_desktop *row, struct err *err) warn_unused;
int db_desktop_delete(struct db *db, const char *id, struct err *err) warn_unused;
int db_desktop_free_slot(struct db *db, int64_t *ret, struct err *err) warn_unused;
int db_desktop_each(struct db *db, int (*cb)(void *data, const struct db_desktop *row), void *data,
		    struct err *err) warn_unused;
