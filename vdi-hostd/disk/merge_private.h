/* What the files of merging share. */
#pragma once

#include "vdi-hostd/disk/private.h"

/**
 * struct merge_part - one disk's file that is merged
 * @layer:  it goes (stream), or is what is left (commit); "" for the image (@whole)
 * @into:   what stands on it
 * @commit: @into is what the desktop writes to and the cheaper one to copy: it goes
 * @whole:  all that is below @into: it stands alone then
 */
struct merge_part {
	unsigned int disk;
	char layer[96], into[96];
	char image_id[STR_UUID_LEN + 1];
	bool commit, whole;

	/* copy.c */
	char job[QEMU_NODE_MAX + 8];
	bool reopened, over; /* @into's file was read-only; its job is concluded */
	int64_t done, total;
	struct err err;
};

struct merge_node {
	char name[QEMU_NODE_MAX + 8];
	json_int_t fdset;
	bool read_only;
};

enum merge_state {
	MERGE_IDLE,      /* no QEMU */
	MERGE_SWEEPS,    /* jobs that an earlier daemon left are ended */
	MERGE_PREPARES,  /* nodes are looked up, added and made writable */
	MERGE_COPIES,    /* until each is in step */
	MERGE_FLUSHES,   /* what was copied goes to the disk */
	MERGE_COMPLETES, /* commits stand still, the desktop is claimed */
	MERGE_FINALIZES, /* no way back */
	MERGE_SYNCS,     /* the headers go to the disk */
	MERGE_CANCELS,
	MERGE_CLEANS,
};

/** struct merge_sync - @merge: NULL once nobody waits for it */
struct merge_sync {
	struct merge *merge;
	uv_fs_t req;
	int fd;
};

struct merge {
	struct disks *disks;
	char desktop_id[STR_UUID_LEN + 1];
	char what[128];
	struct db_snapshot row; /* to be deleted; id "" for none */
	bool all;               /* the image as well */
	int64_t speed;          /* bytes a second, or 0 */
	struct job *job;
	bool cancelled;
	bool open, swept; /* QEMU is there; and nothing of an earlier daemon's goes on in it */

	struct merge_part parts[DB_DISKS];
	size_t n_parts;

	/* copy.c */
	enum merge_state state;
	struct desktop *claimed;
	bool claim_ends;
	struct qmp_batch batch;
	struct err failure;
	uv_timer_t *timer;
	struct merge_node *nodes;
	size_t n_nodes;
	char added[2 * QEMU_CHAIN_MAX][128];
	size_t n_added;
	struct merge_sync *sync;
	void (*synced)(struct merge *merge, const struct err *err);
	size_t n_synced;
	bool flushed;

	struct merge *prev, *next;
};

/* ---- merge.c ---- */

/** merge_desktop() - whose files they are */
struct desktop *merge_desktop(struct merge *merge);
/** merge_copied() - copy.c is through with the parts; on success the desktop is claimed */
void merge_copied(struct merge *merge, const struct err *err);

/* ---- merge_rows.c ---- */

/**
 * merge_committed() - the row of the desktop says what is written to by commits, and the snapshot's
 * that it is being deleted
 * @back: what failed is as it was before
 */
int merge_committed(struct merge *merge, bool back, struct err *err) warn_unused;
/** merge_is_committed() - is it what a commit left, as the rows say? @node: of what stood on top */
bool merge_is_committed(struct merge *merge, const char *node);
/** merge_delete_row() - the snapshot's files are merged, or stay for the several that stand on
 * them: what is left of it goes */
int merge_delete_row(struct merge *merge, struct err *err) warn_unused;
/** merge_settle_parts() - after the copying: rows and files that are needed no more go */
int merge_settle_parts(struct merge *merge, struct err *err) warn_unused;

/* ---- merge_choose.c ---- */

/** merge_choose() - fill in the parts; none: all is done */
int merge_choose(struct merge *merge, struct err *err) warn_unused;

/* ---- copy.c: the parts in QEMU ---- */

/** copy_begin() - QEMU is open; ends in merge_copied() unless copy_gone() comes before */
void copy_begin(struct merge *merge);
/** copy_gone() - QEMU is not there any more, or the daemon stops */
void copy_gone(struct merge *merge);
/** copy_cancel() - as far as it is possible still */
void copy_cancel(struct merge *merge);
/** copy_prepare() - nothing of an earlier daemon's is in the way: begin with the nodes */
void copy_prepare(struct merge *merge);
/** merge_unclaim() - the desktop is free again */
void merge_unclaim(struct merge *merge);
struct qmp *copy_qmp(struct merge *merge);

#define COPY_HURRY_MS 10 /* while the desktop is claimed */

/** copy_after() - call @cb once; a timer that runs already is stopped */
void copy_after(struct merge *merge, uint64_t ms, uv_timer_cb cb);
void copy_stop_timer(struct merge *merge);
/** copy_fail() - from any state on the way back, as far as there is one */
void copy_fail(struct merge *merge, const struct err *err);
/** copy_fail_soon() - the same; it may be the first that is heard of QEMU's end, and copy_gone()
 * comes before it then */
void copy_fail_soon(struct merge *merge, const struct err *err);

/* ---- copy_nodes.c ---- */

void copy_ask_nodes(struct merge *merge, qmp_reply_cb cb);
/** copy_read_nodes() - @list: the answer */
void copy_read_nodes(struct merge *merge, json_t *list);
/** copy_prepare_part() - its files can be copied into, once merge->batch is answered */
int copy_prepare_part(struct merge *merge, struct merge_part *part, struct err *err) warn_unused;
/** copy_clean() - what was added goes again, and what was merged away; ends in merge_copied() */
void copy_clean(struct merge *merge);
/** copy_cleaned() - the end of it, @data: the merge */
void copy_cleaned(void *data, const struct err *ignored);

/* ---- copy_jobs.c ---- */

struct copy_tally {
	size_t found, over, ready, pending;
};

/** copy_start_part() - its job, with merge->batch */
int copy_start_part(struct merge *merge, struct merge_part *part, struct err *err) warn_unused;
/** copy_count() - how far they are; @jobs: of query-jobs */
void copy_count(struct merge *merge, json_t *jobs, struct copy_tally *ret);
/** copy_broke_off() - did one end before it was told to? @err: why */
bool copy_broke_off(struct merge *merge, const struct copy_tally *tally, struct err *err);

/* ---- copy_sync.c ---- */

/** copy_sync_files() - @synced: what was streamed into is on the disk */
void copy_sync_files(struct merge *merge,
		     void (*synced)(struct merge *merge, const struct err *err));

/* ---- copy_sweep.c ---- */

/** copy_sweep() - ends in copy_prepare(), or merge_copied() where there is nothing to do */
void copy_sweep(struct merge *merge);
