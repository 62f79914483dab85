/* Inside of disk/ only. */
#pragma once

#include "base/mem.h"
#include "base/plan.h"
#include "qmp/agent.h"
#include "vdi-hostd/db/snapshot.h"
#include "vdi-hostd/disk/disk.h"
#include "vdi-hostd/disk/freeze.h"
#include "vdi-hostd/disk/snapshot.h"

struct unsettled;
struct take;
struct revert;
struct merge;
struct held;
struct move;
struct recompose_run;

struct export;
struct backup;
struct verify;
struct restore;
struct capture;

struct disks {
	struct disks_env env;
	struct export *exports;
	struct backup *backups;
	struct verify *verifies;
	struct restore *restores;
	struct capture *captures;
	bool closing;
	uv_timer_t *retry; /* while anything is unsettled */
	struct unsettled *unsettled;
	struct take *takes;
	struct revert *reverts;
	struct merge *merges;
	struct held *held; /* desktops that somebody keeps frozen */
	struct move *moves;
	struct recompose_run *runs;
};

/* ---- snapshot.c ---- */

/** snapshot_tell() - log a change and write its event */
void snapshot_tell(struct disks *disks, const struct db_snapshot *row, const char *what);
/** snapshot_json() - one of the list; new reference */
json_t *snapshot_json(struct disks *disks, struct desktop *desktop, const char *id);

/* ---- nodes.c: block nodes of a desktop's QEMU ---- */

/**
 * struct qmp_batch - commands sent at once, which QEMU runs in order
 * @done: when the last is answered; @err: the first error. From a callback of QMP's.
 */
struct qmp_batch {
	size_t pending;
	struct err err;
	void (*done)(void *data, const struct err *err);
	void *data;
};

void batch_init(struct qmp_batch *batch, void (*done)(void *data, const struct err *err),
		void *data);
/** batch_add() - @args: stolen; @fd: sent along, or -1 */
void batch_add(struct qmp_batch *batch, struct qmp *qmp, const char *command, json_t *args, int fd);
/** batch_end() - no more are added; with none at all it is done inside this call */
void batch_end(struct qmp_batch *batch);

/**
 * nodes_add() - a file of the store as a node, named by images_node()
 * @backing: the node that it stands on; NULL: none, until a snapshot or a reopen gives it one
 * @fd:      read-write for what will be on top, else read-only; the caller's
 */
void nodes_add(struct qmp_batch *batch, struct qmp *qmp, const char *file, const char *backing,
	       bool writable, int fd);
/** nodes_delete() - with what nodes_add() made; one that is not there is for @batch an error */
void nodes_delete(struct qmp_batch *batch, struct qmp *qmp, const char *file);

/** nodes_on_top() - is this file what a device of the guest writes to? @blocks: of query-block */
bool nodes_on_top(json_t *blocks, const char *file);

/* ---- quiesce.c: the guest's file systems ---- */

struct quiesce;

/**
 * quiesce_begin() - bring them to rest
 * @cb:  fires once; @err: no agent that answers, or one that refuses. Either way quiesce_end() has
 *       to follow
 */
struct quiesce *quiesce_begin(struct desktop *desktop,
			      void (*cb)(void *data, const struct err *err), void *data);
/** quiesce_end() - let them go on, even where the begin failed or has not answered; it is freed as
 * @cb fires, maybe inside this call */
void quiesce_end(struct quiesce *quiesce, void (*cb)(void *data, const struct err *err),
		 void *data);
/**
 * quiesce_thaw() - let them go on, whoever brought them to rest; @cb as quiesce_end()'s
 */
struct quiesce *quiesce_thaw(struct desktop *desktop, void (*cb)(void *data, const struct err *err),
			     void *data);
/** quiesce_drop() - forget it without a word to the guest; NULL is fine */
void quiesce_drop(struct quiesce *quiesce);

/* ---- memory.c ---- */

struct memory;

/**
 * memory_save() - write the memory of a guest that stands still
 * @fd: taken
 * @cb: fires once, when it is on the disk; memory_drop() follows in any case
 */
struct memory *memory_save(struct desktop *desktop, int fd,
			   void (*cb)(void *data, const struct err *err), void *data);
void memory_drop(struct memory *memory);

/* ---- take.c: a moment is kept ---- */

typedef void (*taken_cb)(void *data, const struct db_snapshot *row, const struct err *err);

/**
 * take_begin() - what is written to now becomes @row's, new files come on top
 * @row: name, description, kind (DB_SNAPSHOT_MEMORY or not), id; the rest is filled in
 */
void take_begin(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row,
		enum disks_quiesce quiesce, taken_cb cb, void *data);
void takes_free(struct disks *disks);

void reverts_free(struct disks *disks);

/* ---- exports, backups, restores, captures: the end of the daemon, and its start ---- */

void backups_free(struct disks *disks);
void verifies_free(struct disks *disks);
void restores_free(struct disks *disks);
void captures_free(struct disks *disks);
/** backups_reconcile() - what was interrupted is undone */
void backups_reconcile(struct disks *disks);

/* ---- settle.c: what a crash or a lost QEMU left half done ---- */

/**
 * settle_forward() - the new files are on top: row and desktop say so, in one transaction
 * One whose memory is not whole, @complete false, is no snapshot: it is deleted from then on.
 */
int settle_forward(struct disks *disks, struct desktop *desktop, struct db_snapshot *row,
		   bool complete, struct err *err) warn_unused;
/** settle_back() - as if it had never been asked for; while no QEMU has its files */
int settle_back(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row,
		struct err *err) warn_unused;
/** settle_stopped() - all that is half done of a desktop without a QEMU; synchronous */
int settle_stopped(struct disks *disks, struct desktop *desktop, struct err *err) warn_unused;
/** settle_refuse() - ERR_BUSY while something of it is unsettled */
int settle_refuse(struct disks *disks, struct desktop *desktop, struct err *err) warn_unused;
/** settle_later() - as soon as its QEMU can be asked, or is gone */
void settle_later(struct disks *disks, struct desktop *desktop);
/** settle_after_crash() - the same; a QEMU that it has is asked what an earlier daemon began in it
 */
void settle_after_crash(struct disks *disks, struct desktop *desktop);
/** settle_now() - try all of them at once */
void settle_now(struct disks *disks);
void settle_free(struct disks *disks);

/* ---- layers.c: which file stands on which ---- */

#define LAYERS_MAX 256

/**
 * struct layer - a file in overlays/ that something of the desktop's leads to
 * @below:   index of what it stands on, or -1 (an image, or nothing)
 * @above:   how many stand on it
 * @only:    one of these
 * @is_top:  the desktop writes to it, or may again
 * @is_named: a snapshot keeps it
 */
struct layer {
	char file[96];
	int below, above, only;
	unsigned int disk;
	bool is_top, is_named;
	int64_t allocated, virtual_size;
	char image_id[STR_UUID_LEN + 1]; /* what its chain may end in, or "" */
};

struct layers {
	struct layer list[LAYERS_MAX];
	size_t n;
};

/** layers_load() - of everything that the rows name */
int layers_load(struct disks *disks, struct desktop *desktop, struct layers *ret,
		struct err *err) warn_unused;
/** layers_find() - or NULL */
struct layer *layers_find(struct layers *layers, const char *file);
/** layers_drop() - delete a file that no row names any more, and those below that nothing else
 * stands on; what is gone already is fine */
int layers_drop(struct disks *disks, struct desktop *desktop, const char *file,
		struct err *err) warn_unused;
/** layers_drop_all() - with all of the desktop's own below it */
int layers_drop_all(struct disks *disks, const char *file, struct err *err) warn_unused;

/* ---- merge.c, copy.c: files of a desktop's that are needed no more go, what they hold stays ----
 */

#define MERGE_JOB_PREFIX "merge-" /* of the jobs' ids in QEMU */

/**
 * merge_begin() - a job: @row's files are merged away and the row goes, then all others that
 * nothing names and only one stands on
 * @row: NULL for the others alone
 * @all: then every chain's image as well
 */
int merge_begin(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row,
		bool all, int64_t speed, const char **ret_job, struct err *err) warn_unused;
/**
 * merge_look() - begin what nobody has to ask for; false: the desktop is busy, ask again
 * @stale: also where that is only to end what an earlier daemon began in its QEMU
 */
bool merge_look(struct disks *disks, struct desktop *desktop, bool stale);
void merges_free(struct disks *disks);

/* ---- freeze.c ---- */

/** held_find() - does somebody keep it frozen? */
bool held_find(struct disks *disks, const char *desktop_id);
void held_free(struct disks *disks);
/* ---- recompose.c, recompose_all.c ---- */

/** recompose_settle() - finish or undo what was interrupted, while no QEMU has the files */
int recompose_settle(struct disks *disks, struct desktop *desktop, struct err *err) warn_unused;
void moves_free(struct disks *disks);
/** runs_free() - their jobs end */
void runs_free(struct disks *disks);
