/*
 * What is done to the disks of desktops as a whole, stopped or running: snapshots, merges,
 * captures, backups, moves to another version of the image. The store's files are image/'s, a
 * desktop's life is desktop/'s; here is what connects them. One header a verb; this one has what
 * they share.
 */
#pragma once

#include "vdi-hostd/desktop/operation.h"
#include "vdi-hostd/job/job.h"

struct disks;

/** struct disks_env - what it stands on; borrowed for its life */
struct disks_env {
	uv_loop_t *loop;
	struct db *db;
	struct priv *priv;
	struct jobs *jobs;
	struct images *images;
	struct networks *networks;
	struct desktops *desktops;
	int64_t merge_rate; /* bytes a second for merges that nobody asked for; 0: no limit */
};

int disks_new(const struct disks_env *env, struct disks **ret, struct err *err) warn_unused;

/**
 * disks_reconcile() - settle what an earlier daemon left half done; desktops are reconciled already
 * @done: from the loop or inside this call, when desktops may be used; long work may go on after it
 */
void disks_reconcile(struct disks *disks, void (*done)(void *data), void *data);

/**
 * disks_free() - after desktops_free(), which has told all that was under way (ERR_CANCELLED); it
 * is left to the next start
 */
void disks_free(struct disks *disks);
