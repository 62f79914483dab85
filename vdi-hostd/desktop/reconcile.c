/*
 * After a start of the daemon: what the rows say, held against what runs. A desktop that runs is
 * adopted and never notices; what a crash interrupted is undone (create, start) or gone on with
 * (stop, delete).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

struct reconcile {
	struct desktops *all;
	size_t left; /* desktops that have no settled state yet, and one for the walk itself */
	void (*done)(void *data);
	void *data;
};

struct item {
	struct reconcile *reconcile;
	struct desktop *desktop;
};

static void autostart(struct desktops *all);

static void item_done(struct reconcile *reconcile)
{
	if (--reconcile->left > 0)
		return;
	struct desktops *all = reconcile->all;
	reconcile->done(reconcile->data);
	free(reconcile);
	autostart(all);
}

static struct item *item_new(struct reconcile *reconcile, struct desktop *desktop)
{
	struct item *item = mem_new(struct item);
	item->reconcile = reconcile;
	item->desktop = desktop;
	reconcile->left++;
	return item;
}

/* Hold the process that the row names, or one that a crash kept from being written down. */
static int hold_process(struct desktop *desktop, struct err *err)
{
	struct db_desktop *row = &desktop->row;
	bool this_boot = strcmp(row->boot_id, desktop->all->boot_id) == 0;
	int pidfd;
	bool may_lack_pid = row->op == DB_DESKTOP_OP_START || row->op == DB_DESKTOP_OP_PARK;
	if (row->pid == 0 && !may_lack_pid)
		return err_set(err, ERR_NOT_FOUND, "desktop '%s' had no QEMU", row->name);
	if (row->pid == 0 || !this_boot ||
	    proc_open((pid_t)row->pid, row->start_time, &pidfd, err) < 0) {
		pid_t pid;
		uint64_t start;
		if (desktop_process_find(desktop, &pid, &start, err) < 0 ||
		    proc_open(pid, start, &pidfd, err) < 0)
			return -1;
		row->pid = pid;
		row->start_time = start;
		memcpy(row->boot_id, desktop->all->boot_id, sizeof(row->boot_id));
	}
	return desktop_process_adopt(desktop, pidfd, err);
}

static void on_adopted(void *data, json_t *result, const struct err *err)
{
	_cleanup_free_ struct item *item = data;
	struct desktop *desktop = item->desktop;
	if (desktop->all->closing) {
		item_done(item->reconcile);
		return;
	}
	if (err) {
		char reason[ERR_MSG_MAX];
		snprintf(reason, sizeof(reason), "QEMU runs, its monitor does not answer: %.180s",
			 err->msg);
		desktop_set_state(desktop, DESKTOP_RUNNING, reason);
	} else {
		desktop_take_status(desktop, result);
		if (desktop->row.op == DB_DESKTOP_OP_CDROM)
			desktop_cdrom_go_on(desktop);
		else
			desktop_nics_settle(desktop);
	}
	item_done(item->reconcile);
}

static void on_uuid(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	const char *uuid = json_string_value(json_object_get(result, "UUID"));
	if (!err && (!uuid || strcmp(uuid, desktop->row.id) != 0))
		log_err("desktop %s: the QEMU at its socket says it is %s", desktop->row.name,
			uuid ? uuid : "nobody");
}

static void adopt(struct reconcile *reconcile, struct desktop *desktop)
{
	struct err err;
	/* a bridge may have been lost and made again; a tap lives as long as its QEMU */
	desktop_taps_attach(desktop);
	struct item *item = item_new(reconcile, desktop);
	if (desktop_monitor_connect(desktop, 0, &err) < 0) {
		desktop_monitor_retry(desktop);
		on_adopted(item, NULL, &err);
		return;
	}
	qmp_execute(desktop->qmp, "query-uuid", NULL, 0, on_uuid, desktop);
	qmp_execute(desktop->qmp, "query-status", NULL, 0, on_adopted, item);
}

/* It had a QEMU, and it is gone: died while nobody watched, or ended with the host. */
static void settle_dead(struct desktop *desktop)
{
	struct err words, err = {0};
	bool this_boot = strcmp(desktop->row.boot_id, desktop->all->boot_id) == 0;
	desktop_last_words(desktop, &words);
	desktop_cleanup(desktop, &err);
	if (this_boot)
		desktop_set_state(desktop, DESKTOP_FAILED, words.msg);
	else
		desktop_set_state(desktop, DESKTOP_STOPPED, "the host was restarted");
	desktop_renew_ended(desktop);
	if (desktop_save(desktop, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
}

/* The plan's context is the desktop: who waits for the undo is found through `done`. */
static void undone(void *data, struct desktop *desktop, const struct err *err)
{
	_cleanup_free_ struct item *item = data;
	item_done(item->reconcile);
}

static void on_undone_start(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	desktop_set_state(desktop, DESKTOP_STOPPED, "its start was interrupted and undone");
	desktop_end(desktop, NULL);
}

static void on_unparked(struct desktop *desktop)
{
	desktop_end(desktop, NULL);
}

static void on_undone_create(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	log_info("desktop %s: its creation was interrupted and undone", desktop->row.name);
	desktop_cb done = TAKE_PTR(desktop->done);
	void *data = desktop->done_data;
	desktop_forget(desktop);
	done(data, NULL, NULL);
}

static void reconcile_one(struct reconcile *reconcile, struct desktop *desktop)
{
	struct db_desktop *row = &desktop->row;
	struct err err;
	bool runs = hold_process(desktop, &err) == 0;
	if (!runs && desktop_renew_settle(desktop, &err) < 0)
		log_err("desktop %s: %s", row->name, err.msg);
	switch (row->op) {
	case DB_DESKTOP_OP_CREATE:
		desktop->done = undone;
		desktop->done_data = item_new(reconcile, desktop);
		desktop_create_undo(desktop, on_undone_create);
		return;
	case DB_DESKTOP_OP_START:
		desktop->done = undone;
		desktop->done_data = item_new(reconcile, desktop);
		desktop_start_undo(desktop, on_undone_start);
		return;
	case DB_DESKTOP_OP_STOP:
		if (runs && desktop_monitor_connect(desktop, 0, &err) < 0)
			log_warn("desktop %s: %s", row->name, err.msg);
		desktop_stop_go_on(desktop);
		return;
	case DB_DESKTOP_OP_DELETE:
		desktop_delete_go_on(desktop, undone, item_new(reconcile, desktop));
		return;
	case DB_DESKTOP_OP_PARK:
		if (runs && desktop_monitor_connect(desktop, 0, &err) < 0)
			log_warn("desktop %s: %s", row->name, err.msg);
		desktop->done = undone;
		desktop->done_data = item_new(reconcile, desktop);
		desktop->when_settled = on_unparked;
		desktop_unpark(desktop);
		return;
	case DB_DESKTOP_OP_CDROM: /* without a QEMU the row says it all */
		if (!runs)
			row->op = DB_DESKTOP_OP_NONE;
		break;
	case DB_DESKTOP_OP_RECOMPOSE: /* disk/ settles it */
	case DB_DESKTOP_OP_DROP_PREVIOUS:
	case DB_DESKTOP_OP_NONE:
		break;
	}
	if (runs)
		adopt(reconcile, desktop);
	else if (row->pid)
		settle_dead(desktop);
}

/*
 * Once a boot, not once a daemon: a restarted daemon must not start what was stopped on purpose.
 * What was wanted and went down with the host comes back where its restart policy says so.
 */
static void autostart(struct desktops *all)
{
	char last[STR_UUID_LEN + 1] = "";
	struct err err;
	if (all->closing)
		return;
	if (db_meta_get(all->env.db, "autostart_boot_id", last, sizeof(last), &err) == 0 &&
	    strcmp(last, all->boot_id) == 0)
		return;
	if (db_meta_set(all->env.db, "autostart_boot_id", all->boot_id, &err) < 0)
		log_err("autostart: %s", err.msg);
	struct desktop *desktop, *next;
	HASH_ITER (by_id, all->by_id, desktop, next) {
		bool comes_back = desktop->row.wanted && desktop->row.restart != DB_RESTART_NEVER;
		bool is_down =
			desktop->state == DESKTOP_STOPPED || desktop->state == DESKTOP_FAILED;
		if (!desktop->done && is_down && (desktop->row.autostart || comes_back))
			desktop_start(desktop, 0, desktop_nobody_asked, NULL);
	}
}

void desktops_reconcile(struct desktops *all, void (*done)(void *data), void *data)
{
	struct reconcile *reconcile = mem_new(struct reconcile);
	reconcile->all = all;
	reconcile->done = done;
	reconcile->data = data;
	reconcile->left = 1;
	struct desktop *desktop, *next;
	HASH_ITER (by_id, all->by_id, desktop, next) {
		reconcile_one(reconcile, desktop);
	}
	item_done(reconcile);
}
