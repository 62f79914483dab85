/*
 * Merging in a QEMU that has the disks. What is needed is added to its nodes where it lacks: also
 * branches that the guest does not stand on are merged here. All disks copy side by side; nothing
 * is final before each of them is in step, and until then it can be called off. From state to
 * state here; nodes, jobs, the disk's own pace and what was left over are in the copy_*.c beside.
 *
 *   stream  what stands below @into and goes is copied up into it; QEMU then rewrites what its
 *           header names (block-stream, intermediate or not)
 *   commit  @into is copied down into what it stands on, which is written to from then on
 *           (block-commit, active). In its last state before the end the two are equal, and QEMU
 *           holds back the guest's requests: then the row is changed.
 */
#include <stdio.h>

#include "base/log.h"
#include "vdi-hostd/disk/merge_private.h"

#define POLL_MS 200

static void poll_jobs(struct merge *merge);

struct qmp *copy_qmp(struct merge *merge)
{
	return desktop_qmp(merge_desktop(merge));
}

/* ---- time ---- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

void copy_stop_timer(struct merge *merge)
{
	if (merge->timer)
		uv_close((uv_handle_t *)TAKE_PTR(merge->timer), on_timer_closed);
}

void copy_after(struct merge *merge, uint64_t ms, uv_timer_cb cb)
{
	copy_stop_timer(merge);
	merge->timer = mem_new(uv_timer_t);
	merge->timer->data = merge;
	uv_timer_init(merge->disks->env.loop, merge->timer);
	uv_timer_start(merge->timer, cb, ms, 0);
}

static void on_failed(uv_timer_t *timer)
{
	struct merge *merge = timer->data;
	struct err err = merge->failure;

	copy_stop_timer(merge);
	copy_fail(merge, &err);
}

/* An error may be the first that is heard of QEMU's end: copy_gone() comes before the timer then */
void copy_fail_soon(struct merge *merge, const struct err *err)
{
	if (err->code == ERR_CANCELLED)
		return; /* its monitor is being closed */
	merge->failure = *err;
	copy_after(merge, 0, on_failed);
}

static void on_poll(uv_timer_t *timer)
{
	struct merge *merge = timer->data;

	copy_stop_timer(merge);
	poll_jobs(merge);
}

static void poll_soon(struct merge *merge)
{
	copy_after(merge, merge->claimed || merge->state != MERGE_COPIES ? COPY_HURRY_MS : POLL_MS,
		   on_poll);
}

static void on_ordered(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (err)
		copy_fail_soon(merge, err);
	else
		poll_soon(merge);
}

/* The same command for each job that is not over. */
static void order(struct merge *merge, const char *command, bool commits_only)
{
	batch_init(&merge->batch, on_ordered, merge);
	for (size_t i = 0; i < merge->n_parts; i++)
		if (!merge->parts[i].over && (merge->parts[i].commit || !commits_only))
			batch_add(&merge->batch, copy_qmp(merge), command,
				  json_pack("{s:s}", "id", merge->parts[i].job), -1);
	batch_end(&merge->batch);
}

void copy_fail(struct merge *merge, const struct err *err)
{
	if (merge->state != MERGE_FINALIZES)
		merge->failure = *err;
	switch (merge->state) {
	case MERGE_IDLE:
	case MERGE_SYNCS:
		break;
	case MERGE_SWEEPS:
		merge->state = MERGE_IDLE;
		merge_copied(merge, err);
		break;
	case MERGE_PREPARES:
	case MERGE_COPIES:
	case MERGE_FLUSHES:
	case MERGE_COMPLETES:
		merge_unclaim(merge);
		merge->state = MERGE_CANCELS;
		order(merge, "job-cancel", false);
		break;
	case MERGE_FINALIZES:
	case MERGE_CANCELS:
		/* a job that is not there, or was refused: its end is seen in the list */
		poll_soon(merge);
		break;
	case MERGE_CLEANS:
		copy_cleaned(merge, NULL);
		break;
	}
}

/* ---- from state to state ---- */

static void on_claim_ended(void *data, struct desktop *desktop, const struct err *err)
{
	struct merge *merge = data;

	if (!merge->claim_ends)
		merge->claimed = NULL; /* QEMU is gone, or the daemon stops */
}

void merge_unclaim(struct merge *merge)
{
	struct desktop *desktop = TAKE_PTR(merge->claimed);

	if (!desktop)
		return;
	merge->claim_ends = true;
	desktop_end(desktop, NULL);
}

static bool claim(struct merge *merge)
{
	struct desktop *desktop = merge_desktop(merge);
	struct err err;

	merge->claim_ends = false;
	if (desktop_begin(desktop, on_claim_ended, merge, &err) < 0)
		return false; /* it goes on copying, and is asked again */
	merge->claimed = desktop;
	return true;
}

static void on_flushed(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (err) {
		copy_fail_soon(merge, err);
		return;
	}
	merge->flushed = true;
	merge->state = MERGE_COPIES;
	poll_jobs(merge);
}

/* QEMU keeps tables of its own in memory until somebody asks for a flush. */
static void on_data_synced(struct merge *merge, const struct err *err)
{
	if (err) {
		copy_fail(merge, err);
		return;
	}
	batch_init(&merge->batch, on_flushed, merge);
	for (size_t i = 0; i < merge->n_parts; i++) {
		char node[QEMU_NODE_MAX + 1], line[QEMU_NODE_MAX + 32];
		if (merge->parts[i].commit)
			continue;
		images_node(merge->parts[i].into, node);
		snprintf(line, sizeof(line), "qemu-io %s flush", node);
		batch_add(&merge->batch, copy_qmp(merge), "human-monitor-command",
			  json_pack("{s:s}", "command-line", line), -1);
	}
	batch_end(&merge->batch);
}

static void flush(struct merge *merge)
{
	merge->state = MERGE_FLUSHES;
	copy_sync_files(merge, on_data_synced);
}

static void finalize(struct merge *merge)
{
	struct err err;

	if (merge_committed(merge, false, &err) < 0) {
		copy_fail(merge, &err);
		return;
	}
	plan_crash_point("merge", "finalize", "before");
	merge->state = MERGE_FINALIZES;
	order(merge, "job-finalize", false);
}

/* What a stream wrote into its file's header is on the disk before what it led to is deleted. */
static void on_header_synced(struct merge *merge, const struct err *err)
{
	if (err)
		merge->failure = *err;
	copy_clean(merge);
}

static void on_concluded(struct merge *merge)
{
	struct err err;

	plan_crash_point("merge", "finalize", "after");
	for (size_t i = 0; i < merge->n_parts; i++)
		if (merge->parts[i].err.code)
			merge->failure = merge->parts[i].err;
	if (merge->failure.code && merge_committed(merge, true, &err) < 0)
		log_err("%s: %s", merge->what, err.msg);
	merge->state = MERGE_SYNCS;
	copy_sync_files(merge, on_header_synced);
}

static void on_jobs(void *data, json_t *result, const struct err *err)
{
	struct merge *merge = data;
	struct copy_tally tally;
	struct err broken;

	if (err) {
		copy_fail_soon(merge, err);
		return;
	}
	copy_count(merge, result, &tally);
	switch (merge->state) {
	case MERGE_IDLE:
	case MERGE_SWEEPS:
	case MERGE_PREPARES:
	case MERGE_FLUSHES:
	case MERGE_SYNCS:
	case MERGE_CLEANS:
		return;
	case MERGE_COPIES:
		if (copy_broke_off(merge, &tally, &broken)) {
			copy_fail(merge, &broken);
		} else if (tally.ready < merge->n_parts) {
			poll_soon(merge);
		} else if (!merge->flushed) {
			flush(merge);
		} else if (claim(merge)) {
			merge->state = MERGE_COMPLETES;
			order(merge, "job-complete", true);
		} else {
			poll_soon(merge);
		}
		return;
	case MERGE_COMPLETES:
		if (copy_broke_off(merge, &tally, &broken))
			copy_fail(merge, &broken);
		else if (tally.pending == merge->n_parts)
			finalize(merge);
		else
			poll_soon(merge);
		return;
	case MERGE_FINALIZES:
		if (tally.over == tally.found)
			on_concluded(merge);
		else
			poll_soon(merge);
		return;
	case MERGE_CANCELS:
		if (tally.over == tally.found)
			copy_clean(merge);
		else
			poll_soon(merge);
		return;
	}
}

static void poll_jobs(struct merge *merge)
{
	if (merge->cancelled && (merge->state == MERGE_COPIES)) {
		struct err err;
		err_set(&err, ERR_CANCELLED, "it was cancelled; the disks are as they were");
		copy_fail(merge, &err);
		return;
	}
	qmp_execute(copy_qmp(merge), "query-jobs", NULL, 0, on_jobs, merge);
}

void copy_cancel(struct merge *merge)
{
	/* seen at the next look, which is never far */
	merge->cancelled = true;
}

static void on_started(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (err) {
		copy_fail_soon(merge, err);
		return;
	}
	merge->state = MERGE_COPIES;
	plan_crash_point("merge", "copy", "after");
	poll_jobs(merge);
}

static void on_prepared(void *data, const struct err *err)
{
	struct merge *merge = data;
	struct err failed;
	int result = 0;

	if (err) {
		copy_fail_soon(merge, err);
		return;
	}
	plan_crash_point("merge", "copy", "before");
	batch_init(&merge->batch, on_started, merge);
	for (size_t i = 0; i < merge->n_parts && result == 0; i++)
		result = copy_start_part(merge, &merge->parts[i], &failed);
	if (result < 0)
		merge->batch.err = failed;
	batch_end(&merge->batch);
}

static void on_nodes(void *data, json_t *list, const struct err *err)
{
	struct merge *merge = data;
	struct err failed;
	int result = 0;

	if (err) {
		copy_fail_soon(merge, err);
		return;
	}
	copy_read_nodes(merge, list);
	batch_init(&merge->batch, on_prepared, merge);
	for (size_t i = 0; i < merge->n_parts && result == 0; i++)
		result = copy_prepare_part(merge, &merge->parts[i], &failed);
	if (result < 0)
		merge->batch.err = failed;
	batch_end(&merge->batch);
}

void copy_prepare(struct merge *merge)
{
	merge->state = MERGE_PREPARES;
	copy_ask_nodes(merge, on_nodes);
}

void copy_begin(struct merge *merge)
{
	merge->state = MERGE_SWEEPS;
	merge->failure = (struct err){0};
	merge->flushed = false;
	merge->n_added = 0;
	for (size_t i = 0; i < merge->n_parts; i++) {
		char node[QEMU_NODE_MAX + 1];
		images_node(merge->parts[i].into, node);
		snprintf(merge->parts[i].job, sizeof(merge->parts[i].job), MERGE_JOB_PREFIX "%s",
			 node);
	}
	copy_sweep(merge);
}

void copy_gone(struct merge *merge)
{
	copy_stop_timer(merge);
	if (merge->sync)
		TAKE_PTR(merge->sync)->merge = NULL;
	merge->state = MERGE_IDLE;
	free(TAKE_PTR(merge->nodes));
	merge->n_nodes = 0;
}
