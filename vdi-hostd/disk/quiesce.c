/*
 * The guest's agent is asked to bring the file systems to rest for the moment in which the disks
 * are kept, and to let them go on. A guest that does not thaw hangs: so once the first was sent the
 * second is, whatever came of the first.
 */
#include <string.h>

#include "vdi-hostd/disk/private.h"

/* an agent that is there answers at once; freezing waits for what is being written */
#define PING_MS   3000
#define FREEZE_MS 8000
#define THAW_MS   5000

/*
 * struct quiesce
 * @err:     why there is no agent
 * @looking: QEMU has not said yet whether the guest has opened its end; who is dropped meanwhile is
 *           freed by that answer
 * @froze:   the guest may be at rest
 */
struct quiesce {
	uv_loop_t *loop;
	struct desktop *desktop;
	struct agent *agent;
	struct err err;
	void (*cb)(void *data, const struct err *err);
	void *data;
	void (*opened)(struct quiesce *quiesce);
	bool looking, dropped, froze, ends;
};

void quiesce_drop(struct quiesce *quiesce)
{
	if (!quiesce)
		return;
	quiesce->cb = NULL;
	quiesce->dropped = true;
	agent_close(TAKE_PTR(quiesce->agent));
	if (!quiesce->looking)
		free(quiesce);
}

static void tell(struct quiesce *quiesce, const struct err *err)
{
	void (*cb)(void *, const struct err *) = TAKE_PTR(quiesce->cb);
	void *data = quiesce->data;
	struct err copy = err ? *err : (struct err){0};

	if (quiesce->ends)
		quiesce_drop(quiesce);
	if (cb)
		cb(data, err ? &copy : NULL);
}

static bool is_open(json_t *chardevs)
{
	size_t i;
	json_t *chardev;

	json_array_foreach(chardevs, i, chardev)
	{
		const char *label = json_string_value(json_object_get(chardev, "label"));
		if (label && strcmp(label, "agent") == 0)
			return json_is_true(json_object_get(chardev, "frontend-open"));
	}
	return false;
}

static void on_looked(void *data, json_t *result, const struct err *err);

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void without_monitor(uv_timer_t *timer)
{
	struct quiesce *quiesce = timer->data;
	struct err err;

	uv_close((uv_handle_t *)timer, on_timer_closed);
	err_set(&err, ERR_UNAVAILABLE, "the monitor of desktop '%s' does not answer",
		quiesce->dropped ? "" : desktop_row(quiesce->desktop)->name);
	on_looked(quiesce, NULL, &err);
}

/* There is no monitor, or none any more: who asked hears of it from the loop. */
static void look_no_more(struct quiesce *quiesce)
{
	uv_timer_t *timer = mem_new(uv_timer_t);

	quiesce->looking = true;
	timer->data = quiesce;
	uv_timer_init(quiesce->loop, timer);
	uv_timer_start(timer, without_monitor, 0, 0);
}

/* An agent that runs holds its end of the channel open: where none does, nobody need be waited for.
 */
static void on_looked(void *data, json_t *result, const struct err *err)
{
	struct quiesce *quiesce = data;
	char path[256];

	quiesce->looking = false;
	if (quiesce->dropped) {
		free(quiesce);
		return;
	}
	if (err && err->code == ERR_CANCELLED) {
		look_no_more(quiesce);
		return;
	}
	if (err)
		quiesce->err = *err;
	else if (!is_open(result))
		err_set(&quiesce->err, ERR_UNAVAILABLE,
			"no agent runs in the guest of desktop '%s'",
			desktop_row(quiesce->desktop)->name);
	else if (desktop_agent_path(quiesce->desktop, path, sizeof(path), &quiesce->err) == 0 &&
		 agent_connect(quiesce->loop, path, NULL, NULL, &quiesce->agent, &quiesce->err) ==
			 0) {
		quiesce->opened(quiesce);
		return;
	}
	tell(quiesce, &quiesce->err);
}

static struct quiesce *look(struct desktop *desktop, void (*opened)(struct quiesce *quiesce),
			    void (*cb)(void *data, const struct err *err), void *data)
{
	struct quiesce *quiesce = mem_new(struct quiesce);

	quiesce->loop = desktop_env(desktop)->loop;
	quiesce->desktop = desktop;
	quiesce->cb = cb;
	quiesce->data = data;
	quiesce->opened = opened;
	if (desktop_qmp(desktop)) {
		quiesce->looking = true;
		qmp_execute(desktop_qmp(desktop), "query-chardev", NULL, 0, on_looked, quiesce);
	} else {
		look_no_more(quiesce);
	}
	return quiesce;
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
	if (err) {
		tell(quiesce, err);
		return;
	}
	quiesce->froze = true;
	agent_execute(quiesce->agent, "guest-fsfreeze-freeze", NULL, FREEZE_MS, 0, on_frozen,
		      quiesce);
}

static void freeze(struct quiesce *quiesce)
{
	agent_execute(quiesce->agent, "guest-ping", NULL, PING_MS, 0, on_ping, quiesce);
}

struct quiesce *quiesce_begin(struct desktop *desktop,
			      void (*cb)(void *data, const struct err *err), void *data)
{
	return look(desktop, freeze, cb, data);
}

static void on_thawed(void *data, json_t *result, const struct err *err)
{
	if (!err || err->code != ERR_CANCELLED)
		tell(data, err);
}

static void thaw(struct quiesce *quiesce)
{
	agent_execute(quiesce->agent, "guest-fsfreeze-thaw", NULL, THAW_MS, 0, on_thawed, quiesce);
}

void quiesce_end(struct quiesce *quiesce, void (*cb)(void *data, const struct err *err), void *data)
{
	quiesce->ends = true;
	quiesce->cb = cb;
	quiesce->data = data;
	if (quiesce->froze)
		thaw(quiesce);
	else
		tell(quiesce, quiesce->err.code ? &quiesce->err : NULL);
}

struct quiesce *quiesce_thaw(struct desktop *desktop, void (*cb)(void *data, const struct err *err),
			     void *data)
{
	struct quiesce *quiesce = look(desktop, thaw, cb, data);

	quiesce->ends = true;
	return quiesce;
}
