/* Inside of desktop/ only: a NIC that comes, goes or changes. */
#pragma once

#include "vdi-hostd/desktop/private.h"

#define NIC_UNPLUG_MS 20000 /* what a guest gets for letting go of a NIC */

/*
 * struct nic_change - one under way
 * @row, @old: as it shall be, and as it was (no MAC: not there)
 * @asked: the privileged half has not answered yet; an undo waits for that
 * @first_err: of commands that were sent one after the other
 */
struct nic_change {
	struct desktop *desktop;
	struct db_nic row, old;
	struct tap tap;
	bool asked, unplugging;
	struct err first_err;
	void (*undo)(struct plan *plan, void *ctx);
};

/* nic_plug.c: the steps that QEMU takes; without a guest they are nothing */
void nic_plug(struct plan *plan, void *ctx);
void nic_unplug_again(struct plan *plan, void *ctx);
void nic_unplug(struct plan *plan, void *ctx);
void nic_set_cable(struct plan *plan, void *ctx);
