/*
 * Merging in a QEMU that has the disks. What is needed is added to its nodes where it lacks: also
 * branches that the guest does not stand on are merged here. All disks copy side by side; nothing
 * is final before each of them is in step, and until then it can be called off.
 *
 *   stream  what stands below @into and goes is copied up into it; QEMU then rewrites what its
 *           header names (block-stream, intermediate or not)
 *   commit  @into is copied down into what it stands on, which is written to from then on
 *           (block-commit, active). In its last state before the end the two are equal, and QEMU
 *           holds back the guest's requests: then the row is changed.
 *
 * QEMU opens lower files read-only and cannot open them otherwise by itself: a descriptor that may
 * write is added to the same set, and the protocol node opened anew.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "vdi-hostd/disk/private.h"

#define POLL_MS  200
#define HURRY_MS 10 /* while the desktop is claimed */

static void poll_jobs(struct merge *merge);
static void sync_files(struct merge *merge, void (*synced)(struct merge *, const struct err *));
static void fail(struct merge *merge, const struct err *err);

static struct desktop *desktop_of(struct merge *merge)
{
	return desktops_find(merge->disks->env.desktops, merge->desktop_id, NULL);
}

static struct qmp *qmp_of(struct merge *merge)
{
	return desktop_qmp(desktop_of(merge));
}

/* ---- time ---- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_timer(struct merge *merge)
{
	if (merge->timer)
		uv_close((uv_handle_t *)TAKE_PTR(merge->timer), on_timer_closed);
}

static void after(struct merge *merge, uint64_t ms, uv_timer_cb cb)
{
	stop_timer(merge);
	merge->timer = mem_new(uv_timer_t);
	merge->timer->data = merge;
	uv_timer_init(merge->disks->env.loop, merge->timer);
	uv_timer_start(merge->timer, cb, ms, 0);
}

static void on_failed(uv_timer_t *timer)
{
	struct merge *merge = timer->data;
	struct err err = merge->failure;

	stop_timer(merge);
	fail(merge, &err);
}

/* An error may be the first that is heard of QEMU's end: copy_gone() comes before the timer then */
static void fail_soon(struct merge *merge, const struct err *err)
{
	if (err->code == ERR_CANCELLED)
		return; /* its monitor is being closed */
	merge->failure = *err;
	after(merge, 0, on_failed);
}

/* ---- nodes ---- */

static struct merge_node *find_node(struct merge *merge, const char *file, const char *suffix)
{
	char name[QEMU_NODE_MAX + 8], node[QEMU_NODE_MAX + 1];

	images_node(file, node);
	snprintf(name, sizeof(name), "%s%s", node, suffix);
	for (size_t i = 0; i < merge->n_nodes; i++)
		if (strcmp(merge->nodes[i].name, name) == 0)
			return &merge->nodes[i];
	return NULL;
}

static void read_nodes(struct merge *merge, json_t *list)
{
	json_t *item;
	size_t i;

	free(TAKE_PTR(merge->nodes));
	merge->nodes = mem_calloc(json_array_size(list) + 1, sizeof(*merge->nodes));
	merge->n_nodes = 0;
	json_array_foreach(list, i, item)
	{
		struct merge_node *node = &merge->nodes[merge->n_nodes];
		const char *name = json_string_value(json_object_get(item, "node-name"));
		const char *path = json_string_value(json_object_get(item, "file"));
		long long set = -1;
		if (!name || !path || str_copy(node->name, sizeof(node->name), name) < 0)
			continue;
		sscanf(path, "/dev/fdset/%lld", &set);
		node->fdset = set;
		node->read_only = json_is_true(json_object_get(item, "ro"));
		merge->n_nodes++;
	}
}

static json_t *file_options(const struct merge_node *node, bool read_only)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/fdset/%lld", (long long)node->fdset);
	return json_pack("{s:[{s:s, s:s, s:s, s:b, s:b, s:s, s:s, s:{s:b}}]}", "options", "driver",
			 "file", "node-name", node->name, "filename", path, "read-only",
			 (int)read_only, "auto-read-only", 0, "discard", "unmap", "locking", "off",
			 "cache", "direct", 0);
}

/* Its protocol node may be written to; one that was on top when it was opened is so already. */
static int make_writable(struct merge *merge, struct merge_part *part, const char *file,
			 struct err *err)
{
	struct merge_node *node = find_node(merge, file, "-file");
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t n;

	if (!node)
		return err_set(err, ERR_CORRUPT, "QEMU has no node for %.80s", file);
	if (!node->read_only)
		return 0;
	if (images_chain_open(merge->disks->env.images, file, part->image_id, layers, &n, err) < 0)
		return -1;
	batch_add(&merge->batch, qmp_of(merge), "add-fd",
		  json_pack("{s:I}", "fdset-id", node->fdset), layers[0].fd);
	images_chain_close(layers, n);
	batch_add(&merge->batch, qmp_of(merge), "blockdev-reopen", file_options(node, false), -1);
	part->reopened = true;
	return 0;
}

/* A branch that QEMU does not know: from the lowest file that it lacks up to @into. */
static int graft(struct merge *merge, struct merge_part *part, const struct image_layer *chain,
		 size_t n, struct err *err)
{
	for (size_t i = n; i-- > 0;) {
		if (find_node(merge, chain[i].file, ""))
			continue;
		if (merge->n_added == ARRAY_LEN(merge->added))
			return err_set(err, ERR_LIMIT, "too many files are merged at once");
		nodes_add(&merge->batch, qmp_of(merge), chain[i].file,
			  i + 1 < n ? chain[i + 1].node : NULL, i == 0, chain[i].fd);
		memcpy(merge->added[merge->n_added++], chain[i].file, sizeof(chain[i].file));
	}
	return 0;
}

static int prepare_part(struct merge *merge, struct merge_part *part, struct err *err)
{
	struct image_layer chain[QEMU_CHAIN_MAX];
	size_t n;

	part->reopened = part->over = false;
	part->err = (struct err){0};
	part->done = part->total = 0;
	if (find_node(merge, part->into, ""))
		return make_writable(merge, part, part->commit ? part->layer : part->into, err);
	if (images_chain_open(merge->disks->env.images, part->into, part->image_id, chain, &n,
			      err) < 0)
		return -1;
	int result = graft(merge, part, chain, n, err);
	images_chain_close(chain, n);
	return result;
}

/* ---- jobs ---- */

static struct merge_part *find_part(struct merge *merge, const char *job)
{
	for (size_t i = 0; i < merge->n_parts; i++)
		if (strcmp(merge->parts[i].job, job) == 0)
			return &merge->parts[i];
	return NULL;
}

static json_t *stream_args(struct merge *merge, const struct merge_part *part, struct err *err)
{
	struct image_layer chain[QEMU_CHAIN_MAX];
	char node[QEMU_NODE_MAX + 1], name[160];
	size_t n, at = 0;

	if (images_chain_read(merge->disks->env.images, part->into, part->image_id, chain, &n,
			      err) < 0)
		return NULL;
	images_chain_close(chain, n);
	while (at < n && strcmp(chain[at].file, part->layer) != 0)
		at++;
	images_node(part->into, node);
	json_t *args =
		json_pack("{s:s, s:s, s:b, s:b, s:I}", "job-id", part->job, "device", node,
			  "auto-finalize", 0, "auto-dismiss", 0, "speed", (json_int_t)merge->speed);
	if (!part->whole && at + 1 < n) {
		store_backing_name(chain[at + 1].folder, chain[at + 1].file, name);
		json_object_set_new(args, "base-node", json_string(chain[at + 1].node));
		json_object_set_new(args, "backing-file", json_string(name));
	}
	return args;
}

static int start_part(struct merge *merge, struct merge_part *part, struct err *err)
{
	char into[QEMU_NODE_MAX + 1], layer[QEMU_NODE_MAX + 1];

	images_node(part->into, into);
	if (!part->commit) {
		json_t *args = stream_args(merge, part, err);
		if (!args)
			return -1;
		batch_add(&merge->batch, qmp_of(merge), "block-stream", args, -1);
		return 0;
	}
	images_node(part->layer, layer);
	batch_add(&merge->batch, qmp_of(merge), "block-commit",
		  json_pack("{s:s, s:s, s:s, s:b, s:b, s:I}", "job-id", part->job, "device", into,
			    "base-node", layer, "auto-finalize", 0, "auto-dismiss", 0, "speed",
			    (json_int_t)merge->speed),
		  -1);
	return 0;
}

static void on_poll(uv_timer_t *timer)
{
	struct merge *merge = timer->data;

	stop_timer(merge);
	poll_jobs(merge);
}

static void poll_soon(struct merge *merge)
{
	after(merge, merge->claimed || merge->state != MERGE_COPIES ? HURRY_MS : POLL_MS, on_poll);
}

static void on_ordered(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (err)
		fail_soon(merge, err);
	else
		poll_soon(merge);
}

/* The same command for each job that is not over. */
static void order(struct merge *merge, const char *command, bool commits_only)
{
	batch_init(&merge->batch, on_ordered, merge);
	for (size_t i = 0; i < merge->n_parts; i++)
		if (!merge->parts[i].over && (merge->parts[i].commit || !commits_only))
			batch_add(&merge->batch, qmp_of(merge), command,
				  json_pack("{s:s}", "id", merge->parts[i].job), -1);
	batch_end(&merge->batch);
}

/* ---- cleaning ---- */

static void on_cleaned(void *data, const struct err *ignored)
{
	struct merge *merge = data;

	if (ignored && ignored->code == ERR_CANCELLED)
		return;
	merge->state = MERGE_IDLE;
	merge_copied(merge, merge->failure.code ? &merge->failure : NULL);
}

static void delete_node(struct merge *merge, const char *file)
{
	const struct merge_node *node = find_node(merge, file, "-file");
	char name[QEMU_NODE_MAX + 1];

	images_node(file, name);
	batch_add(&merge->batch, qmp_of(merge), "blockdev-del",
		  json_pack("{s:s}", "node-name", name), -1);
	if (!node)
		return;
	batch_add(&merge->batch, qmp_of(merge), "blockdev-del",
		  json_pack("{s:s}", "node-name", node->name), -1);
	batch_add(&merge->batch, qmp_of(merge), "remove-fd",
		  json_pack("{s:I}", "fdset-id", node->fdset), -1);
}

static bool is_written(struct merge *merge, const char *file)
{
	const struct db_desktop *row = desktop_row(desktop_of(merge));

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (strcmp(row->disks[i].file, file) == 0)
			return true;
	return false;
}

/* What was added for this goes again, and what was merged away; errors are none of a guest's. */
static void clean(struct merge *merge)
{
	bool merged = merge->state == MERGE_SYNCS;

	merge->state = MERGE_CLEANS;
	batch_init(&merge->batch, on_cleaned, merge);
	for (size_t i = 0; i < merge->n_parts; i++) {
		const struct merge_part *part = &merge->parts[i];
		const char *file = part->commit ? part->layer : part->into;
		const struct merge_node *node = find_node(merge, file, "-file");
		batch_add(&merge->batch, qmp_of(merge), "job-dismiss",
			  json_pack("{s:s}", "id", part->job), -1);
		if (merged && !part->whole && !part->err.code)
			delete_node(merge, part->commit ? part->into : part->layer);
		if (part->reopened && node && !is_written(merge, file))
			batch_add(&merge->batch, qmp_of(merge), "blockdev-reopen",
				  file_options(node, true), -1);
	}
	while (merge->n_added > 0)
		nodes_delete(&merge->batch, qmp_of(merge), merge->added[--merge->n_added]);
	batch_end(&merge->batch);
}

static void fail(struct merge *merge, const struct err *err)
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
		on_cleaned(merge, NULL);
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
	struct desktop *desktop = desktop_of(merge);
	struct err err;

	merge->claim_ends = false;
	if (desktop_begin(desktop, on_claim_ended, merge, &err) < 0)
		return false; /* it goes on copying, and is asked again */
	merge->claimed = desktop;
	return true;
}

/* ---- what is merged is on the disk before any header says so ---- */

static void flush_next(struct merge *merge);

static void on_file_synced(uv_fs_t *req)
{
	struct merge_sync *sync = req->data;
	struct merge *merge = sync->merge;
	struct err err;
	int result = (int)req->result;

	uv_fs_req_cleanup(req);
	close(sync->fd);
	free(sync);
	if (!merge)
		return; /* its QEMU went meanwhile */
	merge->sync = NULL;
	merge->n_synced++;
	if (result < 0) {
		err_set_sys(&err, err_from_errno(-result), -result,
			    "what was merged cannot be written to the disk");
		merge->synced(merge, &err);
		return;
	}
	flush_next(merge);
}

static void flush_next(struct merge *merge)
{
	struct image_layer chain[QEMU_CHAIN_MAX];
	struct err err;
	size_t n;

	while (merge->n_synced < merge->n_parts && merge->parts[merge->n_synced].commit)
		merge->n_synced++; /* QEMU does so for commits, before it calls them equal */
	if (merge->n_synced == merge->n_parts) {
		merge->synced(merge, NULL);
		return;
	}
	const struct merge_part *part = &merge->parts[merge->n_synced];
	if (images_chain_read(merge->disks->env.images, part->into, part->image_id, chain, &n,
			      &err) < 0) {
		merge->synced(merge, &err);
		return;
	}
	merge->sync = mem_new(struct merge_sync);
	merge->sync->merge = merge;
	merge->sync->fd = TAKE_FD(chain[0].fd);
	merge->sync->req.data = merge->sync;
	images_chain_close(chain, n);
	uv_fs_fdatasync(merge->disks->env.loop, &merge->sync->req, merge->sync->fd, on_file_synced);
}

static void sync_files(struct merge *merge, void (*synced)(struct merge *, const struct err *))
{
	merge->synced = synced;
	merge->n_synced = 0;
	flush_next(merge);
}

static void on_flushed(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (err) {
		fail_soon(merge, err);
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
		fail(merge, err);
		return;
	}
	batch_init(&merge->batch, on_flushed, merge);
	for (size_t i = 0; i < merge->n_parts; i++) {
		char node[QEMU_NODE_MAX + 1], line[QEMU_NODE_MAX + 32];
		if (merge->parts[i].commit)
			continue;
		images_node(merge->parts[i].into, node);
		snprintf(line, sizeof(line), "qemu-io %s flush", node);
		batch_add(&merge->batch, qmp_of(merge), "human-monitor-command",
			  json_pack("{s:s}", "command-line", line), -1);
	}
	batch_end(&merge->batch);
}

static void flush(struct merge *merge)
{
	merge->state = MERGE_FLUSHES;
	sync_files(merge, on_data_synced);
}

static void finalize(struct merge *merge)
{
	struct err err;

	if (merge_committed(merge, false, &err) < 0) {
		fail(merge, &err);
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
	clean(merge);
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
	sync_files(merge, on_header_synced);
}

static void take_status(struct merge *merge, struct merge_part *part, json_t *job, bool *ready,
			bool *pending)
{
	const char *status = json_string_value(json_object_get(job, "status"));
	const char *words = json_string_value(json_object_get(job, "error"));

	part->done = json_integer_value(json_object_get(job, "current-progress"));
	part->total = json_integer_value(json_object_get(job, "total-progress"));
	if (!status)
		return;
	part->over = strcmp(status, "concluded") == 0;
	if (part->over && words)
		err_set(&part->err, ERR_IO, "QEMU could not merge %.60s: %.120s", part->into,
			words);
	*pending = strcmp(status, "pending") == 0;
	*ready = *pending || strcmp(status, "ready") == 0;
}

struct tally {
	size_t found, over, ready, pending;
};

static void count(struct merge *merge, json_t *jobs, struct tally *ret)
{
	int64_t done = 0, total = 0;
	json_t *job;
	size_t i;

	*ret = (struct tally){0};
	json_array_foreach(jobs, i, job)
	{
		const char *id = json_string_value(json_object_get(job, "id"));
		struct merge_part *part = id ? find_part(merge, id) : NULL;
		bool ready = false, pending = false;
		if (!part)
			continue;
		take_status(merge, part, job, &ready, &pending);
		ret->found++;
		ret->over += part->over;
		ret->ready += ready;
		ret->pending += pending;
		done += part->done;
		total += part->total;
	}
	if (merge->job)
		job_progress(merge->job, done, total);
}

/* One that ended before it was told to. */
static bool broke_off(struct merge *merge, const struct tally *tally, struct err *err)
{
	for (size_t i = 0; i < merge->n_parts; i++) {
		if (!merge->parts[i].err.code)
			continue;
		*err = merge->parts[i].err;
		return true;
	}
	if (tally->over == 0 && tally->found == merge->n_parts)
		return false;
	err_set(err, ERR_UNAVAILABLE, "QEMU ended a merge by itself");
	return true;
}

static void on_jobs(void *data, json_t *result, const struct err *err)
{
	struct merge *merge = data;
	struct tally tally;
	struct err broken;

	if (err) {
		fail_soon(merge, err);
		return;
	}
	count(merge, result, &tally);
	switch (merge->state) {
	case MERGE_IDLE:
	case MERGE_SWEEPS:
	case MERGE_PREPARES:
	case MERGE_FLUSHES:
	case MERGE_SYNCS:
	case MERGE_CLEANS:
		return;
	case MERGE_COPIES:
		if (broke_off(merge, &tally, &broken)) {
			fail(merge, &broken);
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
		if (broke_off(merge, &tally, &broken))
			fail(merge, &broken);
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
			clean(merge);
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
		fail(merge, &err);
		return;
	}
	qmp_execute(qmp_of(merge), "query-jobs", NULL, 0, on_jobs, merge);
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
		fail_soon(merge, err);
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
		fail_soon(merge, err);
		return;
	}
	plan_crash_point("merge", "copy", "before");
	batch_init(&merge->batch, on_started, merge);
	for (size_t i = 0; i < merge->n_parts && result == 0; i++)
		result = start_part(merge, &merge->parts[i], &failed);
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
		fail_soon(merge, err);
		return;
	}
	read_nodes(merge, list);
	batch_init(&merge->batch, on_prepared, merge);
	for (size_t i = 0; i < merge->n_parts && result == 0; i++)
		result = prepare_part(merge, &merge->parts[i], &failed);
	if (result < 0)
		merge->batch.err = failed;
	batch_end(&merge->batch);
}

/* ---- what an earlier daemon left ---- */

/* A commit that waits for its last word, and the row was changed already: it gets it. */
static const char *sweep_command(struct merge *merge, const char *id, const char *status)
{
	if (strcmp(status, "concluded") == 0)
		return "job-dismiss";
	if (strcmp(status, "pending") == 0 &&
	    merge_is_committed(merge, id + strlen(MERGE_JOB_PREFIX)))
		return "job-finalize";
	return "job-cancel";
}

static void sweep(struct merge *merge);

static void on_sweep_timer(uv_timer_t *timer)
{
	struct merge *merge = timer->data;

	stop_timer(merge);
	sweep(merge);
}

/* One that ended meanwhile cannot be cancelled any more: the next look tells. */
static void on_sweep_ordered(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (!err || err->code != ERR_CANCELLED)
		after(merge, HURRY_MS, on_sweep_timer);
}

static void ask_nodes(struct merge *merge, qmp_reply_cb cb)
{
	qmp_execute(qmp_of(merge), "query-named-block-nodes", json_pack("{s:b}", "flat", 1), 0, cb,
		    merge);
}

static void on_tidy(void *data, const struct err *ignored)
{
	struct merge *merge = data;

	if (ignored && ignored->code == ERR_CANCELLED)
		return;
	if (merge->n_parts == 0) {
		merge->state = MERGE_IDLE;
		merge_copied(merge, NULL);
		return;
	}
	merge->state = MERGE_PREPARES;
	ask_nodes(merge, on_nodes);
}

/* A file of the desktop's that it does not stand on: an earlier daemon had it added, or merged. */
static bool is_left(struct merge *merge, const struct image_layer (*chains)[QEMU_CHAIN_MAX],
		    const size_t *n, const char *name)
{
	char any[QEMU_NODE_MAX + 1], file[96];

	snprintf(file, sizeof(file), "%s-00000000.qcow2", merge->desktop_id);
	images_node(file, any);
	if (strlen(name) != strlen(any) || strncmp(name, any, strlen(any) - 8) != 0)
		return false;
	for (unsigned int d = 0; d < DB_DISKS; d++)
		for (size_t i = 0; i < n[d]; i++)
			if (strcmp(chains[d][i].node, name) == 0)
				return false;
	return true;
}

static void delete_left(struct merge *merge, const struct image_layer (*chains)[QEMU_CHAIN_MAX],
			const size_t *n)
{
	char name[QEMU_NODE_MAX + 8];

	/* which of them stands on which is not told: the second round finds the lower ones free */
	for (size_t i = 0; i < 2 * merge->n_nodes; i++) {
		const struct merge_node *node = &merge->nodes[i % merge->n_nodes];
		if (!is_left(merge, chains, n, node->name))
			continue;
		snprintf(name, sizeof(name), "%.*s-file", QEMU_NODE_MAX, node->name);
		batch_add(&merge->batch, qmp_of(merge), "blockdev-del",
			  json_pack("{s:s}", "node-name", node->name), -1);
		batch_add(&merge->batch, qmp_of(merge), "blockdev-del",
			  json_pack("{s:s}", "node-name", name), -1);
	}
}

static void on_left_nodes(void *data, json_t *list, const struct err *err)
{
	struct merge *merge = data;
	const struct db_desktop *row = desktop_row(desktop_of(merge));
	struct image_layer chains[DB_DISKS][QEMU_CHAIN_MAX];
	size_t n[DB_DISKS] = {0};
	bool known = true;

	if (err) {
		fail_soon(merge, err);
		return;
	}
	read_nodes(merge, list);
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		const char *image_id = i == DB_DISK_SYSTEM ? row->image_id : "";
		if (row->disks[i].file[0] &&
		    images_chain_read(merge->disks->env.images, row->disks[i].file, image_id,
				      chains[i], &n[i], NULL) < 0)
			known = false;
		images_chain_close(chains[i], n[i]);
	}
	batch_init(&merge->batch, on_tidy, merge);
	if (known)
		delete_left(merge, (const struct image_layer(*)[QEMU_CHAIN_MAX])chains, n);
	batch_end(&merge->batch);
}

static void on_swept(void *data, json_t *jobs, const struct err *err)
{
	struct merge *merge = data;
	size_t i, left = 0;
	json_t *job;

	if (err) {
		fail_soon(merge, err);
		return;
	}
	batch_init(&merge->batch, on_sweep_ordered, merge);
	json_array_foreach(jobs, i, job)
	{
		const char *id = json_string_value(json_object_get(job, "id"));
		const char *status = json_string_value(json_object_get(job, "status"));
		if (!id || !status || strncmp(id, MERGE_JOB_PREFIX, strlen(MERGE_JOB_PREFIX)) != 0)
			continue;
		left++;
		batch_add(&merge->batch, qmp_of(merge), sweep_command(merge, id, status),
			  json_pack("{s:s}", "id", id), -1);
	}
	if (left > 0) {
		batch_end(&merge->batch);
		return;
	}
	if (!merge->swept)
		ask_nodes(merge, on_left_nodes);
	else
		on_tidy(merge, NULL);
}

static void sweep(struct merge *merge)
{
	qmp_execute(qmp_of(merge), "query-jobs", NULL, 0, on_swept, merge);
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
	sweep(merge);
}

void copy_gone(struct merge *merge)
{
	stop_timer(merge);
	if (merge->sync)
		TAKE_PTR(merge->sync)->merge = NULL;
	merge->state = MERGE_IDLE;
	free(TAKE_PTR(merge->nodes));
	merge->n_nodes = 0;
}
