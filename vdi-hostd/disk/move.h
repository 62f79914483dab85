/* Inside of disk/ only: one desktop on its way to another version of its image, or back. */
#pragma once

#include "base/plan.h"
#include "vdi-hostd/disk/disk.h"

enum move_action { MOVE_NONE, MOVE_NEXT_START, MOVE_NOW, MOVE_RESTART, MOVE_REFUSED };

typedef void (*move_cb)(void *data, const struct err *err);

struct move {
	struct disks *disks;
	struct desktop *desktop; /* while it is claimed */
	char desktop_id[STR_UUID_LEN + 1];
	char image_id[STR_UUID_LEN + 1];
	char what[128];
	bool restart; /* it ran, and runs again afterwards */
	bool ends;
	struct err err; /* why it was not moved, while it is started again */
	const char *plan_name;
	const struct plan_step *steps;
	size_t n_steps;
	struct plan *plan;
	move_cb cb;
	void *data;
	struct move *prev, *next;
};

/**
 * move_begin() - a desktop that is not disposable, to @image
 * @restart: it runs: stop it, and start it again
 * @cb: fires exactly once, maybe inside this call
 */
void move_begin(struct disks *disks, struct desktop *desktop, const struct db_image *image,
		bool restart, move_cb cb, void *data);

/** recompose_refuse_running(), recompose_refuse_snapshots() - ERR_CONFLICT says what to do first */
int recompose_refuse_running(struct desktop *desktop, struct err *err) warn_unused;
int recompose_refuse_snapshots(struct disks *disks, struct desktop *desktop,
			       struct err *err) warn_unused;
