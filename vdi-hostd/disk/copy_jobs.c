/* A merge's jobs in QEMU: begun, and how far they are. */
#include <string.h>

#include "vdi-hostd/disk/merge_private.h"

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

int copy_start_part(struct merge *merge, struct merge_part *part, struct err *err)
{
	char into[QEMU_NODE_MAX + 1], layer[QEMU_NODE_MAX + 1];

	images_node(part->into, into);
	if (!part->commit) {
		json_t *args = stream_args(merge, part, err);
		if (!args)
			return -1;
		batch_add(&merge->batch, copy_qmp(merge), "block-stream", args, -1);
		return 0;
	}
	images_node(part->layer, layer);
	batch_add(&merge->batch, copy_qmp(merge), "block-commit",
		  json_pack("{s:s, s:s, s:s, s:b, s:b, s:I}", "job-id", part->job, "device", into,
			    "base-node", layer, "auto-finalize", 0, "auto-dismiss", 0, "speed",
			    (json_int_t)merge->speed),
		  -1);
	return 0;
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

void copy_count(struct merge *merge, json_t *jobs, struct copy_tally *ret)
{
	int64_t done = 0, total = 0;
	json_t *job;
	size_t i;

	*ret = (struct copy_tally){0};
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
bool copy_broke_off(struct merge *merge, const struct copy_tally *tally, struct err *err)
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
