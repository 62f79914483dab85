/* What the files of backups share. */
#pragma once

#include "storage/bulk.h"
#include "vdi-hostd/disk/backup.h"
#include "vdi-hostd/disk/private.h"

/* for tables; and so that the store is not full after it */
#define BACKUP_SPARE_BYTES (INT64_C(16) << 20)
#define BACKUP_LONG_MS     (UINT64_C(14) * 60 * 60 * 1000)

/* of a backup's bitmaps in QEMU; the rest is its id */
#define BACKUP_BITMAP_PREFIX "vdi-"

enum { BACKUP_NAME_MAX = 48 }; /* of its bitmaps, nodes and jobs there */

/** struct backup - one being made. An undo ends only when nothing is under way: then nothing points
 * here any more */
struct backup {
	struct disks *disks;
	struct desktop *desktop;
	char what[80];
	struct job *job; /* NULL once it was settled, or for one that a crash interrupted */
	struct plan *plan;
	struct db_backup row;
	struct db_backup parent; /* the newest before it; with an id only where there is one */
	bool full, quiesced;
	char reason[160]; /* why it is full where it was not asked to be */
	enum disks_quiesce want;
	int fds[DB_DISKS];
	int64_t need;        /* bytes that it will take, at most */
	int64_t done, total; /* of the last look at QEMU's jobs */
	bool in_qemu;        /* something of it may be there */

	/* what is under way */
	struct qmp_batch batch;
	json_t *answer; /* of the last query */
	bool busy;      /* a command was sent to QEMU */
	void (*then)(struct backup *backup, const struct err *err);
	struct quiesce *quiesce;
	uv_timer_t *timer;
	uint64_t pause_ms;
	struct bulk *bulk;
	unsigned int disk; /* that is being worked on */

	bool opened;                                   /* the desktop's QEMU is held */
	bool stopping;                                 /* the daemon is */
	void (*waiting)(struct plan *plan, void *ctx); /* an undo, for the end of the work */
	bool undoing;                                  /* what is under way is the undo's own */
	struct backup *prev, *next;
};

/** backup_has() - does the desktop have this disk? */
bool backup_has(const struct backup *backup, unsigned int disk);
/** backup_proceed() - what was under way has ended: a step goes on, or the undo that waits */
void backup_proceed(struct backup *backup, const struct err *err);
/** backup_is_busy() - in an undo: is there something to wait for? Then @undo is called again */
bool backup_is_busy(struct backup *backup, void (*undo)(struct plan *plan, void *ctx));

/** backup_free() - nothing is under way any more */
void backup_free(struct backup *backup);

/* backup_files.c: the steps of its row and its files, and their undos */
void backup_add_row(struct plan *plan, void *ctx);
void backup_drop_row(struct plan *plan, void *ctx);
void backup_make_files(struct plan *plan, void *ctx);
void backup_drop_files(struct plan *plan, void *ctx);
void backup_sum_files(struct plan *plan, void *ctx);
void backup_sync_files(struct plan *plan, void *ctx);
void backup_commit_row(struct plan *plan, void *ctx);

/* backup_quiesce.c: the steps that ask the guest's agent; an undo of both */
void backup_quiesce(struct plan *plan, void *ctx);
void backup_thaw(struct plan *plan, void *ctx);
void backup_unquiesce(struct plan *plan, void *ctx);

/* backup_look.c: what is in QEMU; can it be an incremental one? */
void backup_look(struct plan *plan, void *ctx);

/* backup_live.c: the steps that QEMU takes */
void backup_sweep(struct plan *plan, void *ctx);
void backup_add_nodes(struct plan *plan, void *ctx);
void backup_begin_jobs(struct plan *plan, void *ctx);
void backup_await_jobs(struct plan *plan, void *ctx);
void backup_detach(struct plan *plan, void *ctx);
/** backup_drop_live() - the undo of all of them */
void backup_drop_live(struct plan *plan, void *ctx);
/** backup_qmp() - of the QEMU that holds the disks, or NULL */
struct qmp *backup_qmp(struct backup *backup);
/**
 * backup_ask() - @args: stolen
 * @then: with what it answered in backup->answer, unless that came too late
 */
void backup_ask(struct backup *backup, const char *command, json_t *args,
		void (*then)(struct backup *backup, const struct err *err));
/** backup_bitmap_name() - of the bitmap that begins with this backup */
void backup_bitmap_name(const struct db_backup *row, char ret[BACKUP_NAME_MAX]);
/** backup_source_node() - what the guest writes to */
void backup_source_node(const struct backup *backup, unsigned int disk,
			char ret[QEMU_NODE_MAX + 1]);
/** backup_poke() - a job of QEMU's changed its state */
void backup_poke(struct backup *backup);

/* backups.c */
json_t *backup_json(const struct db_backup *row);
/** backup_tell() - log a change and write its event */
void backup_tell(struct disks *disks, const struct db_backup *row, const char *what);
/** backup_delete_files() - with the row's; idempotent */
int backup_delete_files(struct disks *disks, const struct db_backup *row,
			struct err *err) warn_unused;
/** backup_chain() - it and all that it stands on, top first; room for QEMU_CHAIN_MAX */
int backup_chain(struct disks *disks, const char *id, struct db_backup *ret, size_t *ret_n,
		 struct err *err) warn_unused;
/** backup_find() - by id, or "latest:DESKTOP" */
int backup_find(struct disks *disks, const char *ref, struct db_backup *ret,
		struct err *err) warn_unused;
