#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

bool desktop_is_claimed(const struct desktop *desktop)
{
	return desktop->done;
}

struct db_desktop *desktop_edit(struct desktop *desktop)
{
	return &desktop->row;
}

const struct desktops_env *desktop_env(const struct desktop *desktop)
{
	return &desktop->all->env;
}

static int refuse_closing(const struct desktop *desktop, struct err *err)
{
	if (!desktop->all->closing)
		return 0;
	return err_set(err, ERR_CANCELLED, "the daemon stops: nothing is begun on desktop '%s'",
		       desktop->row.name);
}

int desktop_work_refuse(const struct desktop *desktop, struct err *err)
{
	if (!desktop->work.what)
		return 0;
	return err_set(err, ERR_BUSY,
		       "desktop '%s' is busy: %.100s; wait for that job, or cancel it",
		       desktop->row.name, desktop->work.what);
}

int desktop_work_begin(struct desktop *desktop, const struct desktop_work *work, struct err *err)
{
	enum db_desktop_op op = desktop->row.op;
	if (refuse_closing(desktop, err) < 0 || desktop_work_refuse(desktop, err) < 0)
		return -1;
	if (op == DB_DESKTOP_OP_CREATE || op == DB_DESKTOP_OP_DELETE)
		return err_set(err, ERR_BUSY, "desktop '%s' is being %s", desktop->row.name,
			       op == DB_DESKTOP_OP_CREATE ? "created" : "deleted");
	desktop->work = *work;
	desktop_forget_json(desktop);
	return 0;
}

static void answer(struct desktop *desktop, const struct err *err)
{
	void (*ready)(void *, const struct err *) = TAKE_PTR(desktop->work_ready);
	desktop->work_opened = !err;
	ready(desktop->work.data, err);
}

void desktop_work_open(struct desktop *desktop, void (*ready)(void *data, const struct err *err))
{
	struct err err;
	desktop->work_ready = ready;
	if (refuse_closing(desktop, &err) < 0)
		answer(desktop, &err);
	else
		desktop_work_look(desktop);
}

void desktop_work_look(struct desktop *desktop)
{
	bool runs = desktop->state == DESKTOP_RUNNING || desktop->state == DESKTOP_PAUSED;
	/* each plan ends here */
	if (desktop->all->closing || desktop->plan)
		return;
	bool has_qemu = desktop->qmp && (runs || desktop->park == PARK_IS);
	bool is_clean = !desktop->watch && desktop->row.pid == 0;
	if (desktop->work_ready && has_qemu)
		answer(desktop, NULL);
	else if (desktop->done)
		return; /* its end is heard of here as well */
	else if (desktop->park == PARK_IS && !desktop->work_opened)
		desktop_unpark(desktop);
	else if (desktop->work_ready && is_clean)
		desktop_park(desktop);
	else if (desktop->work_closed)
		TAKE_PTR(desktop->work_closed)(desktop->work.data);
}

void desktop_work_failed(struct desktop *desktop, const struct err *err)
{
	if (desktop->work_ready)
		answer(desktop, err);
}

void desktop_work_event(struct desktop *desktop, const char *name, json_t *event)
{
	if (desktop->work_opened)
		desktop->work.event(desktop->work.data, name, event);
}

void desktop_work_gone(struct desktop *desktop, const struct err *err)
{
	if (!desktop->work_opened)
		return;
	desktop->work_opened = false;
	desktop->work.gone(desktop->work.data, err);
}

void desktop_work_close(struct desktop *desktop, void (*closed)(void *data))
{
	desktop->work_opened = false;
	desktop->work_ready = NULL;
	desktop->work_closed = closed;
	desktop_park_drop(desktop);
}

void desktop_work_end(struct desktop *desktop)
{
	desktop->work_opened = false;
	desktop->work_ready = NULL;
	desktop->work_closed = NULL;
	desktop->work = (struct desktop_work){0};
	desktop_forget_json(desktop);
	desktop_park_drop(desktop);
}

void desktop_work_drop(struct desktop *desktop)
{
	struct err err;
	if (desktop->work_ready && refuse_closing(desktop, &err) < 0)
		answer(desktop, &err);
	desktop_forget_json(desktop);
}
