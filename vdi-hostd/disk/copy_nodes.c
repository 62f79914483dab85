/*
 * What a merge needs in QEMU is added to its nodes where it lacks, and goes again.
 *
 * QEMU opens lower files read-only and cannot open them otherwise by itself: a descriptor that may
 * write is added to the same set, and the protocol node opened anew.
 */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/merge_private.h"

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

void copy_read_nodes(struct merge *merge, json_t *list)
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

void copy_ask_nodes(struct merge *merge, qmp_reply_cb cb)
{
	qmp_execute(copy_qmp(merge), "query-named-block-nodes", json_pack("{s:b}", "flat", 1), 0,
		    cb, merge);
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
	batch_add(&merge->batch, copy_qmp(merge), "add-fd",
		  json_pack("{s:I}", "fdset-id", node->fdset), layers[0].fd);
	images_chain_close(layers, n);
	batch_add(&merge->batch, copy_qmp(merge), "blockdev-reopen", file_options(node, false), -1);
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
		nodes_add(&merge->batch, copy_qmp(merge), chain[i].file,
			  i + 1 < n ? chain[i + 1].node : NULL, i == 0, chain[i].fd);
		memcpy(merge->added[merge->n_added++], chain[i].file, sizeof(chain[i].file));
	}
	return 0;
}

int copy_prepare_part(struct merge *merge, struct merge_part *part, struct err *err)
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

static void delete_node(struct merge *merge, const char *file)
{
	const struct merge_node *node = find_node(merge, file, "-file");
	char name[QEMU_NODE_MAX + 1];

	images_node(file, name);
	batch_add(&merge->batch, copy_qmp(merge), "blockdev-del",
		  json_pack("{s:s}", "node-name", name), -1);
	if (!node)
		return;
	batch_add(&merge->batch, copy_qmp(merge), "blockdev-del",
		  json_pack("{s:s}", "node-name", node->name), -1);
	batch_add(&merge->batch, copy_qmp(merge), "remove-fd",
		  json_pack("{s:I}", "fdset-id", node->fdset), -1);
}

static bool is_written(struct merge *merge, const char *file)
{
	const struct db_desktop *row = desktop_row(merge_desktop(merge));

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (strcmp(row->disks[i].file, file) == 0)
			return true;
	return false;
}

void copy_cleaned(void *data, const struct err *ignored)
{
	struct merge *merge = data;

	if (ignored && ignored->code == ERR_CANCELLED)
		return;
	merge->state = MERGE_IDLE;
	merge_copied(merge, merge->failure.code ? &merge->failure : NULL);
}

/* What was added for this goes again, and what was merged away; errors are none of a guest's. */
void copy_clean(struct merge *merge)
{
	bool merged = merge->state == MERGE_SYNCS;

	merge->state = MERGE_CLEANS;
	batch_init(&merge->batch, copy_cleaned, merge);
	for (size_t i = 0; i < merge->n_parts; i++) {
		const struct merge_part *part = &merge->parts[i];
		const char *file = part->commit ? part->layer : part->into;
		const struct merge_node *node = find_node(merge, file, "-file");
		batch_add(&merge->batch, copy_qmp(merge), "job-dismiss",
			  json_pack("{s:s}", "id", part->job), -1);
		if (merged && !part->whole && !part->err.code)
			delete_node(merge, part->commit ? part->into : part->layer);
		if (part->reopened && node && !is_written(merge, file))
			batch_add(&merge->batch, copy_qmp(merge), "blockdev-reopen",
				  file_options(node, true), -1);
	}
	while (merge->n_added > 0)
		nodes_delete(&merge->batch, copy_qmp(merge), merge->added[--merge->n_added]);
	batch_end(&merge->batch);
}
