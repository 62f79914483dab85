/* What the files of taking a snapshot share. */
#pragma once

#include "vdi-hostd/disk/private.h"

struct take {
	struct disks *disks;
	struct desktop *desktop;
	struct db_snapshot row;
	enum disks_quiesce want;
	struct plan *plan;
	struct quiesce *quiesce;
	struct qmp_batch batch;
	struct err unquiesced; /* why the guest was not brought to rest */
	bool live;             /* a QEMU has the disks */
	bool asked;            /* it was told to switch over */
	bool forward;          /* it did */
	struct memory *memory;
	bool halted;     /* by us */
	bool saved;      /* the memory is whole */
	bool unknown;    /* it cannot be asked whether it did */
	bool ends, dead; /* who asked is being told; only the memory is left */
	taken_cb cb;
	void *data;
	struct take *prev, *next;
};

/* ---- take.c ---- */

struct qmp *take_qmp(struct take *take);
/** take_is_lost() - nobody waits for its steps any more */
bool take_is_lost(struct take *take);
int take_no_qemu(const struct take *take, struct err *err);
/** take_step_done() - the answers of a step's commands, and of its undo's; @data: the take */
void take_step_done(void *data, const struct err *err);

/* ---- take_guest.c: steps of the plan ---- */

void take_quiesce(struct plan *plan, void *ctx);
void take_unquiesce(struct plan *plan, void *ctx);
void take_halt(struct plan *plan, void *ctx);
void take_let_run(struct plan *plan, void *ctx);
void take_save_memory(struct plan *plan, void *ctx);
void take_stop_saving(struct plan *plan, void *ctx);
void take_thaw(struct plan *plan, void *ctx);
