#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define RECONNECT_MS 1000

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

void desktop_timer_stop(uv_timer_t **timer)
{
	if (*timer)
		uv_close((uv_handle_t *)TAKE_PTR(*timer), on_timer_closed);
}

void desktop_timer_start(struct desktop *desktop, uv_timer_t **timer, uint64_t ms, uv_timer_cb cb)
{
	desktop_timer_stop(timer);
	*timer = mem_new(uv_timer_t);
	(*timer)->data = desktop;
	uv_timer_init(desktop->all->env.loop, *timer);
	uv_timer_start(*timer, cb, ms, 0);
}

void desktop_retry_stop(struct desktop *desktop)
{
	desktop_timer_stop(&desktop->retry);
}

void desktop_retry_after(struct desktop *desktop, uint64_t ms, uv_timer_cb cb)
{
	desktop_timer_start(desktop, &desktop->retry, ms, cb);
}

void desktop_monitor_close(struct desktop *desktop)
{
	struct qmp *qmp = TAKE_PTR(desktop->qmp);
	struct err err;
	if (!qmp)
		return;
	qmp_close(qmp);
	err_set(&err, desktop->all->closing ? ERR_CANCELLED : ERR_UNAVAILABLE,
		"the QEMU of desktop '%s' is gone, or does not answer", desktop->row.name);
	desktop_cdrom_gone(desktop, &err);
	desktop_nic_gone(desktop, &err);
	desktop_work_gone(desktop, &err);
}

int desktop_monitor_connect(struct desktop *desktop, uint64_t deadline_ms, struct err *err)
{
	char path[256];
	if (desktop_path(desktop, DESKTOP_QMP_SOCKET, path, sizeof(path), err) < 0)
		return -1;
	desktop_monitor_close(desktop);
	return qmp_connect(desktop->all->env.loop, path, &desktop_monitor_ops, desktop, deadline_ms,
			   &desktop->qmp, err);
}

void desktop_take_status(struct desktop *desktop, json_t *status)
{
	const char *name = json_string_value(json_object_get(status, "status"));
	desktop->disk_error = (struct err){0};
	if (json_is_true(json_object_get(status, "running"))) {
		desktop_set_state(desktop, DESKTOP_RUNNING, "");
	} else if (name && strcmp(name, "io-error") == 0 && !desktop->row.held) {
		desktop_set_state(desktop, DESKTOP_PAUSED,
				  "paused: the disk reported an error; resume tries it again");
		desktop_room_ask(desktop);
	} else {
		desktop_set_state(desktop, DESKTOP_PAUSED, "");
	}
}

static void on_reconnect_status(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	if (err)
		return; /* the monitor's end says more */
	if (desktop->state == DESKTOP_RUNNING || desktop->state == DESKTOP_PAUSED)
		desktop_take_status(desktop, result);
	desktop_work_look(desktop);
}

static void reconnect(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	struct err err;
	desktop_retry_stop(desktop);
	if (!desktop->watch || desktop->qmp)
		return;
	if (desktop_monitor_connect(desktop, 0, &err) < 0)
		desktop_monitor_retry(desktop);
	else
		qmp_execute(desktop->qmp, "query-status", NULL, 0, on_reconnect_status, desktop);
}

void desktop_monitor_retry(struct desktop *desktop)
{
	desktop_retry_after(desktop, RECONNECT_MS, reconnect);
}

/*
 * A monitor that ended while its process lives on: the guest runs undisturbed, only we are blind.
 * Say so and come back; a process that is ending is heard of by its pidfd.
 */
static void on_closed(struct qmp *qmp, void *owner, const struct err *err)
{
	struct desktop *desktop = owner;
	desktop_monitor_close(desktop);
	if (desktop->park == PARK_IS)
		desktop_park_drop(desktop);
	if (desktop->done || desktop->plan || !desktop->watch)
		return;
	if (err->code != ERR_UNAVAILABLE) {
		char reason[ERR_MSG_MAX];
		snprintf(reason, sizeof(reason), "QEMU's monitor is lost: %.200s", err->msg);
		desktop_set_state(desktop, desktop->state, reason);
	}
	desktop_monitor_retry(desktop);
}

static void on_stopped(struct desktop *desktop)
{
	if (desktop->state == DESKTOP_RUNNING && !desktop->done)
		desktop_set_state(desktop, DESKTOP_PAUSED, desktop->disk_error.msg);
}

static void on_resumed(struct desktop *desktop)
{
	desktop->disk_error = (struct err){0};
	if (desktop->state == DESKTOP_PAUSED && !desktop->done)
		desktop_set_state(desktop, DESKTOP_RUNNING, "");
}

/*
 * Disks are opened with werror=stop: a write that failed paused the guest, and nothing was lost.
 * The STOP event follows, and the answer to a resume that met the error again may come in between.
 */
static void on_io_error(struct desktop *desktop, json_t *data)
{
	const char *action = json_string_value(json_object_get(data, "action"));
	if (!action || strcmp(action, "stop") != 0)
		return;
	bool full = json_is_true(json_object_get(data, "nospace"));
	const char *why = json_string_value(json_object_get(data, "reason"));
	if (full)
		err_set(&desktop->disk_error, ERR_LIMIT, DESKTOP_FULL);
	else
		err_set(&desktop->disk_error, ERR_IO,
			"paused: the disk reported '%.100s'; resume tries it again",
			why ? why : "an error");
	/* the end of a start looks at it; a stop goes on whatever the disk does */
	if (desktop->state == DESKTOP_RUNNING || desktop->state == DESKTOP_PAUSED)
		desktop_set_state(desktop, DESKTOP_PAUSED, desktop->disk_error.msg);
	if (full)
		desktop_room_wait(desktop);
}

static void on_event(struct qmp *qmp, void *owner, const char *name, json_t *data)
{
	struct desktop *desktop = owner;
	if (strcmp(name, "STOP") == 0)
		on_stopped(desktop);
	else if (strcmp(name, "RESUME") == 0)
		on_resumed(desktop);
	else if (strcmp(name, "SHUTDOWN") == 0)
		desktop->guest_ended = json_is_true(json_object_get(data, "guest"));
	else if (strcmp(name, "BLOCK_IO_ERROR") == 0)
		on_io_error(desktop, data);
	else if (strcmp(name, "GUEST_PANICKED") == 0)
		desktop_set_state(desktop, desktop->state, "the guest's kernel panicked");
	desktop_cdrom_event(desktop, name, data);
	desktop_nic_event(desktop, name, data);
	desktop_work_event(desktop, name, data);
}

const struct qmp_ops desktop_monitor_ops = {
	.event = on_event,
	.closed = on_closed,
};
