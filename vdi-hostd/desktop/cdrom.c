#include "vdi-hostd/desktop/cdrom.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"
#include "vdi-hostd/image/iso.h"

#define DRIVE        "cdrom0"
#define ASK_AGAIN_MS 500
#define MEDIUM       "medium0" /* its node, on medium0-file; so on the command line, too */

static const char no_iso[STR_UUID_LEN + 1] = "";

/*
 * struct cdrom - a change of a running desktop's disc
 * @awaiting: the guest is to open the tray; @opened: it is open
 * @pending: commands that QEMU has not answered; an undo ends only when there are none
 */
struct cdrom {
	struct desktop *desktop;
	char iso_id[STR_UUID_LEN + 1], old_id[STR_UUID_LEN + 1];
	bool force, awaiting, opened, emptied;
	int pending, asked;
	json_int_t old_set, new_set; /* descriptor sets of the discs that go and come, or -1 */
	void (*undo)(struct plan *plan, void *ctx);
};

static void write_intent(struct plan *plan, void *ctx);
static void erase_intent(struct plan *plan, void *ctx);
static void look(struct plan *plan, void *ctx);
static void open_tray(struct plan *plan, void *ctx);
static void ask_again(uv_timer_t *timer);
static void close_again(struct plan *plan, void *ctx);
static void remove_disc(struct plan *plan, void *ctx);
static void wait_answers(struct plan *plan, void *ctx);
static void insert_disc(struct plan *plan, void *ctx);
static void take_out(struct plan *plan, void *ctx);
static void close_tray(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step cdrom_plan[] = {
	{"intent", write_intent, erase_intent},
	{"look", look, wait_answers},
	{"open", open_tray, close_again},
	{"remove", remove_disc, wait_answers},
	{"insert", insert_disc, take_out},
	{"close", close_tray, wait_answers},
	{"settle", settle, NULL},
};

/* Is there an answer to come first? @undo is called again after it. */
static bool is_pending(struct cdrom *cdrom, void (*undo)(struct plan *plan, void *ctx))
{
	cdrom->undo = cdrom->pending > 0 ? undo : NULL;
	return cdrom->pending > 0;
}

/* One answer less; false where nobody waits for it any more, or the daemon ends. */
static bool take_answer(struct cdrom *cdrom)
{
	struct plan *plan = cdrom->desktop->plan;
	cdrom->pending--;
	if (!plan)
		return false;
	if (!plan_is_undoing(plan))
		return true;
	if (cdrom->undo && cdrom->pending == 0)
		cdrom->undo(plan, cdrom);
	return false;
}

static void answered(void *data, json_t *result, const struct err *err)
{
	struct cdrom *cdrom = data;
	/* a monitor that is closed tells desktop_cdrom_gone() */
	if (take_answer(cdrom) && !(err && err->code == ERR_CANCELLED))
		plan_end_step(cdrom->desktop->plan, err ? -1 : 0, err);
}

static void execute(struct cdrom *cdrom, const char *command, json_t *args, qmp_reply_cb cb)
{
	struct err err;
	if (!cdrom->desktop->qmp) {
		json_decref(args);
		err_set(&err, ERR_UNAVAILABLE, "QEMU's monitor is lost");
		plan_fail(cdrom->desktop->plan, &err);
		return;
	}
	cdrom->pending++;
	qmp_execute(cdrom->desktop->qmp, command, args, 0, cb, cdrom);
}

/* What nobody waits for: the next command meets its outcome, as QEMU takes them in order. */
static void tell_qemu(struct desktop *desktop, const char *command, json_t *args)
{
	if (desktop->qmp)
		qmp_execute(desktop->qmp, command, args, 0, NULL, NULL);
	else
		json_decref(args);
}

static json_t *drive(void)
{
	return json_pack("{s:s}", "id", DRIVE);
}

static void set_iso(struct desktop *desktop, const char *iso_id)
{
	memcpy(desktop->row.iso_id, iso_id, sizeof(desktop->row.iso_id));
}

static void write_intent(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	struct desktop *desktop = cdrom->desktop;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_CDROM;
	set_iso(desktop, cdrom->iso_id);
	plan_end_step(plan, desktop_save(desktop, &err), &err);
}

static void erase_intent(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	struct desktop *desktop = cdrom->desktop;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_NONE;
	set_iso(desktop, cdrom->emptied ? no_iso : cdrom->old_id);
	if (desktop_save(desktop, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
	plan_undone(plan);
}

static void wait_answers(struct plan *plan, void *ctx)
{
	if (!is_pending(ctx, wait_answers))
		plan_undone(plan);
}

/* The descriptor of the disc that goes: "/dev/fdset/N" is its file. */
static void on_nodes(void *data, json_t *result, const struct err *err)
{
	struct cdrom *cdrom = data;
	size_t i;
	json_t *node;
	json_array_foreach(result, i, node)
	{
		const char *name = json_string_value(json_object_get(node, "node-name"));
		const char *file = json_string_value(json_object_get(node, "file"));
		long long set;
		if (name && file && strcmp(name, MEDIUM "-file") == 0 &&
		    sscanf(file, "/dev/fdset/%lld", &set) == 1)
			cdrom->old_set = set;
	}
	answered(data, result, err);
}

static void look(struct plan *plan, void *ctx)
{
	execute(ctx, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), on_nodes);
}

static void stop_waiting(struct cdrom *cdrom)
{
	cdrom->awaiting = false;
	desktop_retry_stop(cdrom->desktop);
}

static bool is_open(json_t *drives)
{
	size_t i;
	json_t *each;
	json_array_foreach(drives, i, each)
	{
		const char *id = json_string_value(json_object_get(each, "qdev"));
		if (id && strcmp(id, DRIVE) == 0)
			return json_is_true(json_object_get(each, "tray_open"));
	}
	return false;
}

static void on_drives(void *data, json_t *result, const struct err *err)
{
	struct cdrom *cdrom = data;
	struct err locked;
	if (err || cdrom->opened || is_open(result)) {
		answered(data, result, err);
		return;
	}
	if (!take_answer(cdrom))
		return;
	if (cdrom->asked * ASK_AGAIN_MS >= CDROM_WAIT_MS) {
		err_set(&locked, ERR_TIMEOUT,
			"the guest of desktop '%s' keeps the tray locked; let it unmount the disc, "
			"or use force",
			cdrom->desktop->row.name);
		plan_fail(cdrom->desktop->plan, &locked);
		return;
	}
	/* QEMU has pressed the button for us; a guest that heeds it opens the tray itself, another
	 * one may only unlock it */
	cdrom->awaiting = true;
	desktop_retry_after(cdrom->desktop, ASK_AGAIN_MS, ask_again);
}

/* That it succeeds says nothing: a tray that the guest has locked stays closed. */
static void on_asked(void *data, json_t *result, const struct err *err)
{
	struct cdrom *cdrom = data;
	if (err || cdrom->opened)
		answered(data, result, err);
	else if (take_answer(cdrom))
		execute(cdrom, "query-block", NULL, on_drives);
}

static void open_tray(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	cdrom->asked++;
	execute(cdrom, "blockdev-open-tray",
		json_pack("{s:s, s:b}", "id", DRIVE, "force", cdrom->force), on_asked);
}

static void ask_again(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	stop_waiting(desktop->cdrom);
	open_tray(desktop->plan, desktop->cdrom);
}

static void close_again(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	if (cdrom->awaiting)
		stop_waiting(cdrom);
	if (is_pending(cdrom, close_again))
		return;
	tell_qemu(cdrom->desktop, "blockdev-close-tray", drive());
	plan_undone(plan);
}

static void drop_nodes(struct desktop *desktop)
{
	tell_qemu(desktop, "blockdev-del", json_pack("{s:s}", "node-name", MEDIUM));
	tell_qemu(desktop, "blockdev-del", json_pack("{s:s}", "node-name", MEDIUM "-file"));
}

static void drop_set(struct desktop *desktop, json_int_t set)
{
	if (set >= 0)
		tell_qemu(desktop, "remove-fd", json_pack("{s:I}", "fdset-id", set));
}

static void on_removed(void *data, json_t *result, const struct err *err)
{
	struct cdrom *cdrom = data;
	if (!err) {
		cdrom->emptied = true;
		drop_nodes(cdrom->desktop);
		drop_set(cdrom->desktop, cdrom->old_set);
	}
	answered(data, result, err);
}

static void remove_disc(struct plan *plan, void *ctx)
{
	execute(ctx, "blockdev-remove-medium", drive(), on_removed);
}

static json_t *make_file(long long set)
{
	char path[64];
	snprintf(path, sizeof(path), "/dev/fdset/%lld", set);
	return json_pack("{s:s, s:s, s:s, s:b, s:b}", "driver", "file", "node-name", MEDIUM "-file",
			 "filename", path, "read-only", 1, "auto-read-only", 0);
}

/* QEMU holds a copy of its own once it has opened the set. */
static void on_fd_added(void *data, json_t *result, const struct err *err)
{
	struct cdrom *cdrom = data;
	if (err) {
		answered(data, result, err);
		return;
	}
	cdrom->new_set = json_integer_value(json_object_get(result, "fdset-id"));
	if (!take_answer(cdrom))
		return;
	struct desktop *desktop = cdrom->desktop;
	tell_qemu(desktop, "blockdev-add", make_file(cdrom->new_set));
	tell_qemu(desktop, "blockdev-add",
		  json_pack("{s:s, s:s, s:s, s:b}", "driver", "raw", "node-name", MEDIUM, "file",
			    MEDIUM "-file", "read-only", 1));
	execute(cdrom, "blockdev-insert-medium",
		json_pack("{s:s, s:s}", "id", DRIVE, "node-name", MEDIUM), answered);
}

static void insert_disc(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	struct desktop *desktop = cdrom->desktop;
	_cleanup_close_ int fd = -1;
	struct err err;
	if (cdrom->iso_id[0] == '\0') {
		plan_next(plan);
		return;
	}
	if (isos_open(desktop->all->env.images, cdrom->iso_id, &fd, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	if (!desktop->qmp) {
		err_set(&err, ERR_UNAVAILABLE, "QEMU's monitor is lost");
		plan_fail(plan, &err);
		return;
	}
	cdrom->pending++;
	qmp_execute_fd(desktop->qmp, "add-fd", NULL, fd, 0, on_fd_added, cdrom);
}

static void take_out(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	if (is_pending(cdrom, take_out))
		return;
	tell_qemu(cdrom->desktop, "blockdev-remove-medium", drive());
	drop_nodes(cdrom->desktop);
	drop_set(cdrom->desktop, cdrom->new_set);
	plan_undone(plan);
}

static void close_tray(struct plan *plan, void *ctx)
{
	execute(ctx, "blockdev-close-tray", drive(), answered);
}

static void settle(struct plan *plan, void *ctx)
{
	struct cdrom *cdrom = ctx;
	struct err err;
	cdrom->desktop->row.op = DB_DESKTOP_OP_NONE;
	plan_end_step(plan, desktop_save(cdrom->desktop, &err), &err);
}

static void on_changed(void *ctx, const struct err *err)
{
	struct cdrom *cdrom = ctx;
	struct desktop *desktop = cdrom->desktop;
	desktop->plan = NULL;
	desktop->cdrom = NULL;
	free(cdrom);
	if (err)
		log_warn("desktop %s: its disc could not be changed: %s", desktop->row.name,
			 err->msg);
	else
		log_info("desktop %s: its disc was changed", desktop->row.name);
	desktop_end(desktop, err);
}

static void begin_plan(struct desktop *desktop, const char *iso_id, bool force)
{
	struct cdrom *cdrom = mem_new(struct cdrom);
	cdrom->desktop = desktop;
	cdrom->force = force;
	cdrom->old_set = cdrom->new_set = -1;
	memcpy(cdrom->iso_id, iso_id, sizeof(cdrom->iso_id));
	memcpy(cdrom->old_id, desktop->row.iso_id, sizeof(cdrom->old_id));
	desktop->cdrom = cdrom;
	desktop->plan = plan_start(desktop->all->env.loop, "desktop-cdrom", cdrom_plan,
				   ARRAY_LEN(cdrom_plan), cdrom, on_changed);
}

void desktop_cdrom_event(struct desktop *desktop, const char *name, json_t *event)
{
	struct cdrom *cdrom = desktop->cdrom;
	const char *id = json_string_value(json_object_get(event, "id"));
	if (!cdrom || strcmp(name, "DEVICE_TRAY_MOVED") != 0 || !id || strcmp(id, DRIVE) != 0 ||
	    !json_is_true(json_object_get(event, "tray-open")))
		return;
	cdrom->opened = true;
	if (!cdrom->awaiting)
		return;
	stop_waiting(cdrom);
	plan_next(desktop->plan);
}

void desktop_cdrom_gone(struct desktop *desktop, const struct err *err)
{
	if (!desktop->cdrom || !desktop->plan)
		return;
	if (desktop->cdrom->awaiting)
		stop_waiting(desktop->cdrom);
	plan_fail(desktop->plan, err);
}

void desktop_cdrom_go_on(struct desktop *desktop)
{
	struct err err;
	if (desktop_begin(desktop, desktop_nobody_asked, NULL, &err) < 0)
		return;
	char iso_id[STR_UUID_LEN + 1];
	memcpy(iso_id, desktop->row.iso_id, sizeof(iso_id));
	begin_plan(desktop, iso_id, true);
}

static void change(struct desktop *desktop, const char *iso_id, bool force, desktop_cb cb,
		   void *data)
{
	struct err err;
	if (!desktop->done && desktop_has_guest(desktop) && !desktop->qmp)
		err_set(&err, ERR_UNAVAILABLE,
			"the disc of desktop '%s' cannot be changed now: QEMU's monitor does not "
			"answer; try again",
			desktop->row.name);
	else if (desktop_begin(desktop, cb, data, &err) == 0) {
		/* one that is parked is started anew where its disc has changed */
		if (desktop_has_guest(desktop)) {
			begin_plan(desktop, iso_id, force);
			return;
		}
		char old[STR_UUID_LEN + 1];
		memcpy(old, desktop->row.iso_id, sizeof(old));
		set_iso(desktop, iso_id);
		int result = desktop_save(desktop, &err);
		if (result < 0)
			set_iso(desktop, old);
		desktop_end(desktop, result < 0 ? &err : NULL);
		return;
	}
	cb(data, NULL, &err);
}

void desktop_cdrom_insert(struct desktop *desktop, const char *ref, bool force, desktop_cb cb,
			  void *data)
{
	struct err err;
	const struct db_iso *iso = isos_find(desktop->all->env.images, ref, &err);
	if (!iso || isos_refuse_importing(iso, &err) < 0)
		cb(data, NULL, &err);
	else
		change(desktop, iso->id, force, cb, data);
}

void desktop_cdrom_eject(struct desktop *desktop, bool force, desktop_cb cb, void *data)
{
	change(desktop, no_iso, force, cb, data);
}

size_t desktops_with_iso(void *data, const char *iso_id, char *ret, size_t size)
{
	struct desktops *all = data;
	size_t n = 0, len = 0;
	ret[0] = '\0';
	for (struct desktop *d = all->by_id; d; d = d->by_id.next) {
		if (strcmp(d->row.iso_id, iso_id) != 0)
			continue;
		if (n++ == 0 || len + strlen(d->row.name) + 3 < size)
			len += (size_t)snprintf(ret + len, size - len, "%s%s", n > 1 ? ", " : "",
						d->row.name);
	}
	return n;
}
