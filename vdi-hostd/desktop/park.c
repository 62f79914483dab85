/*
 * A parked QEMU: it holds the disks of a desktop that is stopped, so that what works on them can do
 * so whether the guest runs or not, and when it is started meanwhile.
 */
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

static void quit(struct plan *plan, void *ctx);
static void clean_up(struct plan *plan, void *ctx);

/* No way back: what a crash interrupts is begun again. */
static const struct plan_step unpark_plan[] = {
	{"quit", quit, NULL},
	{"cleanup", clean_up, NULL},
};

static void on_gone(struct desktop *desktop)
{
	desktop_retry_stop(desktop);
	plan_next(desktop->plan);
}

static void quit(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (desktop->watch)
		desktop_process_quit(desktop, on_gone);
	else
		plan_next(plan);
}

static void clean_up(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err = {0};
	desktop->row.op = DB_DESKTOP_OP_NONE;
	desktop_cleanup(desktop, &err);
	plan_end_step(plan, err.code ? -1 : 0, &err);
}

/* Whoever waited for its being there, or gone. */
static void settled(struct desktop *desktop)
{
	void (*then)(struct desktop *) = TAKE_PTR(desktop->when_settled);
	if (then)
		then(desktop);
	else
		desktop_work_look(desktop);
}

static void on_unparked(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	desktop->ended = NULL;
	desktop_retry_stop(desktop);
	/* one that does not even heed SIGKILL is tried again; a guest is not let run in it */
	desktop->park = desktop->watch ? PARK_IS : PARK_NONE;
	desktop_monitor_close(desktop);
	if (err)
		log_err("desktop %s: its parked QEMU cannot be ended: %s", desktop->row.name,
			err->msg);
	else
		log_info("desktop %s: its disks are closed", desktop->row.name);
	settled(desktop);
}

void desktop_unpark(struct desktop *desktop)
{
	desktop->park = PARK_ENDS;
	desktop->plan = plan_start(desktop->all->env.loop, "desktop-unpark", unpark_plan,
				   ARRAY_LEN(unpark_plan), desktop, on_unparked);
}

static void on_parked(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	desktop->park = err ? PARK_NONE : PARK_IS;
	if (!err)
		log_info("desktop %s: its disks are open, its guest waits", desktop->row.name);
	/* a start that waited for it tries for itself; cancelled is what nobody needs any more */
	if (err && err->code != ERR_CANCELLED && !desktop->when_settled)
		desktop_work_failed(desktop, err);
	else
		desktop_work_look(desktop);
	settled(desktop);
}

void desktop_park(struct desktop *desktop)
{
	const struct db_desktop *row = &desktop->row;
	struct parked *parked = &desktop->parked;
	*parked = (struct parked){.memory_mib = row->memory_mib,
				  .vcpus = row->vcpus,
				  .boot = row->boot,
				  .nics_changed = desktop->nics_changed};
	memcpy(parked->iso_id, row->iso_id, sizeof(parked->iso_id));
	desktop->park = PARK_BEGINS;
	desktop->plan = desktop_park_plan(desktop, on_parked);
}

/* Its disks are no matter: who changes those of a parked desktop does so through its QEMU. */
bool desktop_park_fits(const struct desktop *desktop)
{
	const struct db_desktop *row = &desktop->row;
	const struct parked *parked = &desktop->parked;
	return desktop->qmp && !row->disposable && !row->next_image_id[0] &&
	       parked->memory_mib == row->memory_mib && parked->vcpus == row->vcpus &&
	       parked->boot == row->boot && parked->nics_changed == desktop->nics_changed &&
	       strcmp(parked->iso_id, row->iso_id) == 0;
}

void desktop_park_drop(struct desktop *desktop)
{
	if (desktop->park == PARK_BEGINS && !desktop->all->closing)
		plan_cancel(desktop->plan, NULL);
	else
		desktop_work_look(desktop);
}

void desktop_park_ended(struct desktop *desktop)
{
	struct err ignored = {0};
	log_warn("desktop %s: its parked QEMU ended", desktop->row.name);
	desktop->row.op = DB_DESKTOP_OP_NONE;
	desktop_cleanup(desktop, &ignored);
	desktop_work_look(desktop);
}

void desktop_when_settled(struct desktop *desktop, void (*then)(struct desktop *desktop))
{
	if (desktop->park == PARK_BEGINS || desktop->park == PARK_ENDS)
		desktop->when_settled = then;
	else
		then(desktop);
}
