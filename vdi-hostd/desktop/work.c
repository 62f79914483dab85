#include <string.h>

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

int desktop_work_begin(struct desktop *desktop, const struct desktop_work *work, struct err *err)
{
	if (desktop->work.what)
		return err_set(err, ERR_BUSY,
			       "desktop '%s' is busy: %.100s; wait for that job, or cancel it",
			       desktop->row.name, desktop->work.what);
	desktop->work = *work;
	return 0;
}

void desktop_work_open(struct desktop *desktop, void (*ready)(void *data, const struct err *err))
{
	struct err err;
	if (!desktop->qmp) {
		err_set(&err, ERR_UNAVAILABLE, "desktop '%s' has no QEMU", desktop->row.name);
		ready(desktop->work.data, &err);
		return;
	}
	desktop->work_opened = true;
	ready(desktop->work.data, NULL);
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

void desktop_work_end(struct desktop *desktop)
{
	desktop->work_opened = false;
	desktop->work = (struct desktop_work){0};
}
