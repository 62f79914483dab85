/* What an earlier daemon left in the QEMU: its jobs are ended, its nodes go. */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/merge_private.h"

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

static void on_sweep_timer(uv_timer_t *timer)
{
	struct merge *merge = timer->data;

	copy_stop_timer(merge);
	copy_sweep(merge);
}

/* One that ended meanwhile cannot be cancelled any more: the next look tells. */
static void on_sweep_ordered(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (!err || err->code != ERR_CANCELLED)
		copy_after(merge, COPY_HURRY_MS, on_sweep_timer);
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
	copy_prepare(merge);
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
		batch_add(&merge->batch, copy_qmp(merge), "blockdev-del",
			  json_pack("{s:s}", "node-name", node->name), -1);
		batch_add(&merge->batch, copy_qmp(merge), "blockdev-del",
			  json_pack("{s:s}", "node-name", name), -1);
	}
}

static void on_left_nodes(void *data, json_t *list, const struct err *err)
{
	struct merge *merge = data;
	const struct db_desktop *row = desktop_row(merge_desktop(merge));
	struct image_layer chains[DB_DISKS][QEMU_CHAIN_MAX];
	size_t n[DB_DISKS] = {0};
	bool known = true;

	if (err) {
		copy_fail_soon(merge, err);
		return;
	}
	copy_read_nodes(merge, list);
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
		copy_fail_soon(merge, err);
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
		batch_add(&merge->batch, copy_qmp(merge), sweep_command(merge, id, status),
			  json_pack("{s:s}", "id", id), -1);
	}
	if (left > 0) {
		batch_end(&merge->batch);
		return;
	}
	if (!merge->swept)
		copy_ask_nodes(merge, on_left_nodes);
	else
		on_tidy(merge, NULL);
}

void copy_sweep(struct merge *merge)
{
	qmp_execute(copy_qmp(merge), "query-jobs", NULL, 0, on_swept, merge);
}
