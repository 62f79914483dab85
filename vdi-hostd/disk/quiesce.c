/*
 * The guest's agent is asked to bring the file systems to rest for the moment in which the disks
 * are kept, and to let them go on. A guest that does not thaw hangs: so the second is asked in any
 * case, also of one that did not answer the first.
 */
#include "vdi-hostd/disk/private.h"

/* an agent that is there answers at once; freezing waits for what is being written */
#define PING_MS   3000
#define FREEZE_MS 8000
#define THAW_MS   5000

struct quiesce {
	struct agent *agent;
	struct err err; /* why there is no agent */
	uv_timer_t *soon;
	void (*cb)(void *data, const struct err *err);
	void *data;
	bool ends;
};

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_timer(struct quiesce *quiesce)
{
	if (quiesce->soon)
		uv_close((uv_handle_t *)TAKE_PTR(quiesce->soon), on_timer_closed);
}

void quiesce_drop(struct quiesce *quiesce)
{
	if (!quiesce)
		return;
	stop_timer(quiesce);
	quiesce->cb = NULL;
	agent_close(TAKE_PTR(quiesce->agent));
	free(quiesce);
}

static void tell(struct quiesce *quiesce, const struct err *err)
{
	void (*cb)(void *, const struct err *) = TAKE_PTR(quiesce->cb);
	void *data = quiesce->data;

	if (quiesce->ends)
		quiesce_drop(quiesce);
	if (cb)
		cb(data, err);
}

static void on_frozen(void *data, json_t *result, const struct err *err)
{
	struct quiesce *quiesce = data;

	if (!quiesce->ends && (!err || err->code != ERR_CANCELLED))
		tell(quiesce, err);
}

static void on_ping(void *data, json_t *result, const struct err *err)
{
	struct quiesce *quiesce = data;

	if (quiesce->ends || (err && err->code == ERR_CANCELLED))
		return;
	if (err)
		tell(quiesce, err);
	else
		agent_execute(quiesce->agent, "guest-fsfreeze-freeze", NULL, FREEZE_MS, 0,
			      on_frozen, quiesce);
}

static void fail_soon(uv_timer_t *timer)
{
	struct quiesce *quiesce = timer->data;

	stop_timer(quiesce);
	tell(quiesce, &quiesce->err);
}

struct quiesce *quiesce_begin(struct desktop *desktop,
			      void (*cb)(void *data, const struct err *err), void *data)
{
	struct quiesce *quiesce = mem_new(struct quiesce);
	uv_loop_t *loop = desktop_env(desktop)->loop;
	char path[256];

	quiesce->cb = cb;
	quiesce->data = data;
	if (desktop_agent_path(desktop, path, sizeof(path), &quiesce->err) == 0 &&
	    agent_connect(loop, path, NULL, NULL, &quiesce->agent, &quiesce->err) == 0) {
		agent_execute(quiesce->agent, "guest-ping", NULL, PING_MS, 0, on_ping, quiesce);
		return quiesce;
	}
	quiesce->soon = mem_new(uv_timer_t);
	quiesce->soon->data = quiesce;
	uv_timer_init(loop, quiesce->soon);
	uv_timer_start(quiesce->soon, fail_soon, 0, 0);
	return quiesce;
}

static void on_thawed(void *data, json_t *result, const struct err *err)
{
	if (!err || err->code != ERR_CANCELLED)
		tell(data, err);
}

void quiesce_end(struct quiesce *quiesce, void (*cb)(void *data, const struct err *err), void *data)
{
	quiesce->ends = true;
	quiesce->cb = cb;
	quiesce->data = data;
	stop_timer(quiesce);
	if (quiesce->agent)
		agent_execute(quiesce->agent, "guest-fsfreeze-thaw", NULL, THAW_MS, 0, on_thawed,
			      quiesce);
	else
		tell(quiesce, &quiesce->err);
}
