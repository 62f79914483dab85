/* What is asked of a desktop that has a QEMU: pause, resume, reset. */
#include <stdio.h>

#include "vdi-hostd/desktop/private.h"

/* One command, then one state. */
static void refuse(struct desktop *desktop, const char *what, desktop_cb cb, void *data)
{
	struct err err;
	err_set(&err, ERR_CONFLICT, "desktop '%s' is %s: it cannot be %s", desktop->row.name,
		desktop_state_names[desktop->state], what);
	cb(data, NULL, &err);
}

static bool begin(struct desktop *desktop, const char *what, desktop_cb cb, void *data)
{
	struct err err;
	/* asked before the desktop is claimed, which would end the attempts to reconnect */
	if (!desktop->done && !desktop->qmp)
		err_set(&err, ERR_UNAVAILABLE,
			"desktop '%s' cannot be %s now: QEMU's monitor does not answer; try again, "
			"or stop it with force",
			desktop->row.name, what);
	else if (desktop_begin(desktop, cb, data, &err) == 0)
		return true;
	cb(data, NULL, &err);
	return false;
}

/* Its QEMU ended: desktop_on_end() knows in a moment how, and tells who asked. */
static bool ended_meanwhile(const struct desktop *desktop, const struct err *err)
{
	return err && desktop->watch && !proc_is_alive(desktop->pidfd);
}

static void on_paused(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	if (ended_meanwhile(desktop, err))
		return;
	if (!err)
		desktop_set_state(desktop, DESKTOP_PAUSED, desktop->disk_error.msg);
	desktop_end(desktop, err);
}

void desktop_pause(struct desktop *desktop, desktop_cb cb, void *data)
{
	if (desktop->state == DESKTOP_PAUSED && !desktop->done) {
		if (desktop_waits_for_room(desktop))
			desktop_hold(desktop, true);
		cb(data, desktop, NULL);
	} else if (desktop->state != DESKTOP_RUNNING && !desktop->done)
		refuse(desktop, "paused", cb, data);
	else if (begin(desktop, "paused", cb, data))
		qmp_execute(desktop->qmp, "stop", NULL, 0, on_paused, desktop);
}

static void on_resumed(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	if (ended_meanwhile(desktop, err))
		return;
	struct err again = desktop->disk_error;
	/* what paused it did so again at once */
	if (!err && again.code) {
		desktop_set_state(desktop, DESKTOP_PAUSED, again.msg);
		err = &again;
		desktop_room_wait(desktop);
	} else if (!err) {
		desktop_set_state(desktop, DESKTOP_RUNNING, "");
	}
	desktop_end(desktop, err);
}

void desktop_resume(struct desktop *desktop, desktop_cb cb, void *data)
{
	if (desktop->state == DESKTOP_RUNNING && !desktop->done)
		cb(data, desktop, NULL);
	else if (desktop->state != DESKTOP_PAUSED && !desktop->done)
		refuse(desktop, "resumed", cb, data);
	else if (begin(desktop, "resumed", cb, data)) {
		desktop_hold(desktop, false);
		qmp_execute(desktop->qmp, "cont", NULL, 0, on_resumed, desktop);
	}
}

static void on_reset(void *data, json_t *result, const struct err *err)
{
	if (!ended_meanwhile(data, err))
		desktop_end(data, err);
}

void desktop_reset(struct desktop *desktop, desktop_cb cb, void *data)
{
	bool has_guest = desktop->state == DESKTOP_RUNNING || desktop->state == DESKTOP_PAUSED;
	if (!has_guest && !desktop->done)
		refuse(desktop, "reset", cb, data);
	else if (begin(desktop, "reset", cb, data))
		qmp_execute(desktop->qmp, "system_reset", NULL, 0, on_reset, desktop);
}

void desktop_make_ready(struct desktop *desktop, desktop_cb cb, void *data)
{
	if (desktop->state == DESKTOP_PAUSED)
		desktop_resume(desktop, cb, data);
	else
		desktop_start(desktop, 0, cb, data);
}
