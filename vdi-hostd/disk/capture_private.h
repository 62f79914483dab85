/* What the files of captures share. */
#pragma once

#include "storage/bulk.h"
#include "vdi-hostd/disk/capture.h"
#include "vdi-hostd/disk/private.h"
#include "vdi-hostd/image/tool.h"

#define CAPTURE_LONG_MS (UINT64_C(14) * 60 * 60 * 1000)
#define CAPTURE_TRIM_MS (UINT64_C(5) * 60 * 1000)

/*
 * struct capture - one under way. An undo ends only when nothing works any more: then nothing
 * points here.
 */
struct capture {
	struct disks *disks; /* NULL once the daemon stops */
	struct images *images;
	uv_loop_t *loop;
	char desktop_id[STR_UUID_LEN + 1], desktop_name[STR_NAME_MAX + 1];
	struct job *job; /* NULL once it was settled */
	struct plan *plan;
	struct db_image row;
	bool flatten, publish, trim, shutdown;
	enum disks_quiesce want;

	struct agent *agent;
	bool trimmed, quiesced, linked;
	bool restart; /* it ran, and was shut down for this */
	bool works;   /* the desktop's work is ours */
	bool frozen;  /* to be unfrozen */
	bool made;    /* the image's row is there */
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t n_layers;
	char tmp_file[64];
	int tmp;
	bool asked; /* an answer of the desktop's is under way */
	struct image_tool *tool;
	struct bulk *bulk, *sync;
	struct err failed;                             /* the first of those that did */
	void (*waiting)(struct plan *plan, void *ctx); /* an undo, for the end of the work */
	struct capture *prev, *next;
};

/** capture_desktop() - or NULL: it is gone, or the daemon stops */
struct desktop *capture_desktop(struct capture *capture);
/** capture_part_done() - of a step that works on files; the step ends with the last */
void capture_part_done(struct capture *capture, const struct err *err);
/** capture_answered() - what the desktop was asked for has come */
void capture_answered(struct capture *capture, const struct err *err);
/** capture_is_busy() - in an undo: is there something to wait for? Then @undo is called again */
bool capture_is_busy(struct capture *capture, void (*undo)(struct plan *plan, void *ctx));
/** capture_stop_work() - the undo of steps that leave nothing */
void capture_stop_work(struct plan *plan, void *ctx);

/* capture_guest.c: the steps that the desktop takes */
void capture_trim(struct plan *plan, void *ctx);
void capture_close_agent(struct plan *plan, void *ctx);
void capture_shut_down(struct plan *plan, void *ctx);
void capture_freeze(struct plan *plan, void *ctx);
/** capture_start_again() - where it was shut down for this; idempotent */
void capture_start_again(struct capture *capture);

/* capture_file.c: the steps of the new version, and their undos */
void capture_add_row(struct plan *plan, void *ctx);
void capture_drop_row(struct plan *plan, void *ctx);
void capture_copy(struct plan *plan, void *ctx);
void capture_drop_tmp(struct plan *plan, void *ctx);
void capture_verify(struct plan *plan, void *ctx);
void capture_place(struct plan *plan, void *ctx);
void capture_commit(struct plan *plan, void *ctx);
