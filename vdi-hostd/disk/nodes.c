#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/private.h"

void batch_init(struct qmp_batch *batch, void (*done)(void *data, const struct err *err),
		void *data)
{
	*batch = (struct qmp_batch){.pending = 1, .done = done, .data = data};
}

static void settle_one(struct qmp_batch *batch)
{
	if (--batch->pending > 0)
		return;
	/* who is told may begin the next one in the same place */
	struct err err = batch->err;
	batch->done(batch->data, err.code ? &err : NULL);
}

static void on_answer(void *data, json_t *result, const struct err *err)
{
	struct qmp_batch *batch = data;

	if (err && !batch->err.code)
		batch->err = *err;
	settle_one(batch);
}

void batch_add(struct qmp_batch *batch, struct qmp *qmp, const char *command, json_t *args, int fd)
{
	batch->pending++;
	if (fd >= 0)
		qmp_execute_fd(qmp, command, args, fd, 0, on_answer, batch);
	else
		qmp_execute(qmp, command, args, 0, on_answer, batch);
}

void batch_end(struct qmp_batch *batch)
{
	settle_one(batch);
}

/*
 * The set of descriptors gets a number of our own, so that nothing has to wait for QEMU's answer:
 * the random digits of the file's name. Sets from the command line have small numbers.
 */
static json_int_t fdset_of(const char *file)
{
	unsigned int random = 0;
	const char *dot = strchr(file, '.');

	if (dot && dot - file >= 8)
		sscanf(dot - 8, "%8x", &random);
	return (json_int_t)((random & 0x3fffffff) | 0x40000000);
}

void nodes_add(struct qmp_batch *batch, struct qmp *qmp, const char *file, const char *backing,
	       bool writable, int fd)
{
	char node[QEMU_NODE_MAX + 1], protocol[QEMU_NODE_MAX + 8], path[64];
	json_int_t set = fdset_of(file);

	images_node(file, node);
	snprintf(protocol, sizeof(protocol), "%s-file", node);
	snprintf(path, sizeof(path), "/dev/fdset/%lld", (long long)set);
	batch_add(batch, qmp, "add-fd", json_pack("{s:I}", "fdset-id", set), fd);
	/* as qemu_argv.c does it at the start */
	batch_add(batch, qmp, "blockdev-add",
		  json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:s, s:{s:b}}", "driver", "file",
			    "node-name", protocol, "filename", path, "read-only", !writable,
			    "auto-read-only", 0, "discard", "unmap", "locking",
			    writable ? "auto" : "off", "cache", "direct", 0),
		  -1);
	batch_add(batch, qmp, "blockdev-add",
		  json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:o}", "driver", "qcow2", "node-name",
			    node, "file", protocol, "read-only", !writable, "auto-read-only", 0,
			    "discard", "unmap", "backing",
			    backing ? json_string(backing) : json_null()),
		  -1);
}

void nodes_delete(struct qmp_batch *batch, struct qmp *qmp, const char *file)
{
	char node[QEMU_NODE_MAX + 1], protocol[QEMU_NODE_MAX + 8];

	images_node(file, node);
	snprintf(protocol, sizeof(protocol), "%s-file", node);
	batch_add(batch, qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), -1);
	batch_add(batch, qmp, "blockdev-del", json_pack("{s:s}", "node-name", protocol), -1);
	batch_add(batch, qmp, "remove-fd", json_pack("{s:I}", "fdset-id", fdset_of(file)), -1);
}

bool nodes_on_top(json_t *blocks, const char *file)
{
	char node[QEMU_NODE_MAX + 1];
	size_t i;
	json_t *block;

	images_node(file, node);
	json_array_foreach(blocks, i, block)
	{
		const char *name = json_string_value(
			json_object_get(json_object_get(block, "inserted"), "node-name"));
		if (name && strcmp(name, node) == 0)
			return true;
	}
	return false;
}
