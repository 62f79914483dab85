/* What the files of exports share. */
#pragma once

#include "storage/bulk.h"
#include "storage/tar.h"
#include "vdi-hostd/disk/export.h"
#include "vdi-hostd/disk/private.h"
#include "vdi-hostd/image/tool.h"

/*
 * struct export - one under way. At most one of @tool, @stream and @bulk works at a time, and an
 * undo ends only when none does: then nothing points here any more.
 */
struct export
{
	struct disks *disks; /* NULL once the daemon stops */
	struct images *images;
	uv_loop_t *loop;
	struct job *job; /* NULL once it was settled */
	struct plan *plan;
	struct export_target target;
	enum storage_format format;
	bool compress, chain;
	bool direct; /* qemu-img writes to the target; else what it made is copied there */
	char name[STR_NAME_MAX + 1];
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t n_layers;
	char tmp_file[48]; /* in tmp/, where the target cannot be written to directly */
	int tmp;
	struct tar tar;
	int64_t from, span; /* bytes done when the piece of work began, and of it */
	int64_t total;
	struct image_tool *tool;
	struct stream *stream;
	struct bulk *bulk;
	/* of a desktop's disk */
	char desktop_id[STR_UUID_LEN + 1]; /* "" for an image */
	unsigned int disk;
	enum disks_quiesce want;
	bool works, asked, frozen, quiesced;
	void (*waiting)(struct plan * plan, void *ctx); /* an undo, for the end of the work */
	struct export *prev, *next;
};

/** export_proceed() - what was under way has ended: a step goes on, or the undo that waits */
void export_proceed(struct export *export, const struct err *err);

/* export_source.c */
/** export_open_source() - an image's files, or the claim on a desktop whose disk is read later */
int export_open_source(struct export *export, const struct disks_export *wanted,
		       struct err *err) warn_unused;
/** export_freeze() - the step that opens a desktop's */
void export_freeze(struct plan *plan, void *ctx);
/** export_let_go() - nothing of it is read any more */
void export_let_go(struct export *export);
