/* A start that goes on where a guest was, out of a file with its memory. */
#include <string.h>

#include "vdi-hostd/desktop/private.h"

#define POLL_MS 50

static void ask(uv_timer_t *timer);

static void on_status(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	const char *status = json_string_value(json_object_get(result, "status"));
	struct err failed;

	if (err && err->code == ERR_CANCELLED)
		return; /* closed by the way back, or by the daemon's end */
	if (!err && status && strcmp(status, "completed") == 0) {
		plan_next(desktop->plan);
	} else if (!err && status && strcmp(status, "failed") == 0) {
		err_set(&failed, ERR_CORRUPT, "QEMU cannot read the guest's memory");
		plan_fail(desktop->plan, &failed);
	} else {
		/* QEMU ends where it cannot: its last words say more than a lost answer */
		desktop_retry_after(desktop, POLL_MS, ask);
	}
}

static void ask(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;

	desktop_retry_stop(desktop);
	if (desktop->qmp)
		qmp_execute(desktop->qmp, "query-migrate", NULL, 0, on_status, desktop);
}

void desktop_load_memory(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;

	if (desktop->memory_fd < 0) {
		plan_next(plan);
		return;
	}
	qmp_execute_fd(desktop->qmp, "getfd", json_pack("{s:s}", "fdname", "memory"),
		       desktop->memory_fd, 0, NULL, NULL);
	qmp_execute(desktop->qmp, "migrate-incoming", json_pack("{s:s}", "uri", "fd:memory"), 0,
		    NULL, NULL);
	qmp_execute(desktop->qmp, "query-migrate", NULL, 0, on_status, desktop);
}

void desktop_unload_memory(struct plan *plan, void *ctx)
{
	desktop_retry_stop(ctx);
	plan_undone(plan);
}

void desktop_start_from(struct desktop *desktop, int memory_fd, desktop_cb cb, void *data)
{
	struct err err;

	if (desktop->done || desktop->watch) {
		close(memory_fd);
		err_set(&err, ERR_BUSY, "desktop '%s' has a QEMU, or is about to get one",
			desktop->row.name);
		cb(data, NULL, &err);
		return;
	}
	desktop->memory_fd = memory_fd;
	desktop_start(desktop, 0, cb, data);
}
