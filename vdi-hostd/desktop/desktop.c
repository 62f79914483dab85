#include "vdi-hostd/desktop/desktop.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/desktop/private.h"
#include "vdi-hostd/image/iso.h"
#include "vdi-hostd/image/quota.h"

const char *const desktop_state_names[] = {
	[DESKTOP_STOPPED] = "stopped",     [DESKTOP_STARTING] = "starting",
	[DESKTOP_RUNNING] = "running",     [DESKTOP_PAUSED] = "paused",
	[DESKTOP_SUSPENDED] = "suspended", [DESKTOP_STOPPING] = "stopping",
	[DESKTOP_FAILED] = "failed",       NULL,
};

const char *const desktop_restart_names[] = {
	[DB_RESTART_NEVER] = "never",
	[DB_RESTART_ON_FAILURE] = "on-failure",
	[DB_RESTART_ALWAYS] = "always",
	NULL,
};

const char *const desktop_boot_names[] = {
	[DB_BOOT_DISK] = "disk",
	[DB_BOOT_CDROM] = "cdrom",
	NULL,
};

_Static_assert(ARRAY_LEN(desktop_state_names) == DESKTOP_FAILED + 2, "a state lacks its name");

struct desktop *desktop_add(struct desktops *all, const struct db_desktop *row)
{
	struct desktop *desktop = mem_new(struct desktop);
	desktop->all = all;
	desktop->row = *row;
	desktop->state = row->failed ? DESKTOP_FAILED : DESKTOP_STOPPED;
	desktop->pidfd = -1;
	desktop->memory_fd = -1;
	desktop->wait_status = -1;
	HASH_ADD(by_id, all->by_id, row.id, strlen(desktop->row.id), desktop);
	HASH_ADD(by_name, all->by_name, row.name, strlen(desktop->row.name), desktop);
	return desktop;
}

void desktop_remove(struct desktop *desktop)
{
	struct desktops *all = desktop->all;
	plan_drop(TAKE_PTR(desktop->plan));
	desktop_monitor_close(desktop);
	free(TAKE_PTR(desktop->cdrom));
	desktop_work_drop(desktop);
	desktop_process_release(desktop);
	desktop_retry_stop(desktop);
	desktop_timer_stop(&desktop->restart);
	desktop_taps_close(desktop);
	desktop_nic_drop(desktop);
	if (desktop->memory_fd >= 0)
		close(desktop->memory_fd);
	HASH_DELETE(by_id, all->by_id, desktop);
	HASH_DELETE(by_name, all->by_name, desktop);
	json_decref(desktop->json);
	free(desktop);
}

static int load_row(void *data, const struct db_desktop *row)
{
	desktop_add(data, row);
	return 0;
}

int desktops_new(const struct desktops_env *env, struct desktops **ret, struct err *err)
{
	struct desktops *all = mem_new(struct desktops);
	all->env = *env;
	if (proc_boot_id(all->boot_id, err) < 0 ||
	    db_desktop_each(env->db, load_row, all, err) < 0 || desktop_nics_load(all, err) < 0) {
		desktops_free(all);
		return -1;
	}
	*ret = all;
	return 0;
}

void desktops_free(struct desktops *all)
{
	if (!all)
		return;
	all->closing = true;
	desktop_timer_stop(&all->room);
	desktop_timer_stop(&all->lease);
	struct desktop *desktop, *next;
	struct err err;
	err_set(&err, ERR_CANCELLED,
		"the daemon stops; what was begun is settled by its next start");
	HASH_ITER (by_id, all->by_id, desktop, next) {
		desktop_end(desktop, &err);
	}
	HASH_ITER (by_id, all->by_id, desktop, next) {
		desktop_remove(desktop);
	}
	free(all);
}

void desktops_keep(struct desktops *all, const struct desktop_keeper *keeper)
{
	all->keeper = keeper ? *keeper : (struct desktop_keeper){0};
}

size_t desktops_count(struct desktops *all)
{
	return HASH_CNT(by_id, all->by_id);
}

struct desktop *desktops_find(struct desktops *all, const char *ref, struct err *err)
{
	struct desktop *desktop = NULL;
	HASH_FIND(by_name, all->by_name, ref, strlen(ref), desktop);
	if (!desktop)
		HASH_FIND(by_id, all->by_id, ref, strlen(ref), desktop);
	if (!desktop)
		err_set(err, ERR_NOT_FOUND,
			"there is no desktop '%.63s'; `vdictl desktop list` shows those there are",
			ref);
	return desktop;
}

static int compare_names(const struct desktop *a, const struct desktop *b)
{
	return strcmp(a->row.name, b->row.name);
}

void desktops_each(struct desktops *all, void (*cb)(void *data, struct desktop *desktop),
		   void *data)
{
	HASH_SRT(by_name, all->by_name, compare_names);
	struct desktop *desktop, *next;
	HASH_ITER (by_name, all->by_name, desktop, next) {
		cb(data, desktop);
	}
}

const struct db_desktop *desktop_row(const struct desktop *desktop)
{
	return &desktop->row;
}

enum desktop_state desktop_state(const struct desktop *desktop)
{
	return desktop->state;
}

struct qmp *desktop_qmp(struct desktop *desktop)
{
	bool is_passing = desktop->park == PARK_BEGINS || desktop->park == PARK_ENDS;
	return is_passing ? NULL : desktop->qmp;
}

void desktop_forget_json(struct desktop *desktop)
{
	json_decref(TAKE_PTR(desktop->json));
}

void desktop_set_state(struct desktop *desktop, enum desktop_state state, const char *reason)
{
	enum desktop_state old = desktop->state;
	desktop_forget_json(desktop);
	if (old == state && strcmp(desktop->row.state_reason, reason) == 0)
		return;
	desktop->state = state;
	desktop->row.failed = state == DESKTOP_FAILED;
	snprintf(desktop->row.state_reason, sizeof(desktop->row.state_reason), "%s", reason);
	if (state == DESKTOP_FAILED)
		log_warn("desktop %s: %s -> failed: %s", desktop->row.name,
			 desktop_state_names[old], reason);
	else
		log_info("desktop %s: %s -> %s%s%s", desktop->row.name, desktop_state_names[old],
			 desktop_state_names[state], reason[0] ? ": " : "", reason);

	desktop_tell(desktop, desktop_state_names[old]);
}

static void tell(struct desktop *desktop, const char *was, const char *reason)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:s, s:s, s:s?}", "name", desktop->row.name, "state",
				 desktop_state_names[desktop->state], "was", was, "reason",
				 reason[0] ? reason : NULL);
	if (db_event_append(desktop->all->env.db, "desktop", desktop->row.id, data, &err) < 0)
		log_err("desktop %s: its event is lost: %s", desktop->row.name, err.msg);
	json_decref(data);
}

void desktop_tell(struct desktop *desktop, const char *was)
{
	tell(desktop, was, desktop->row.state_reason);
}

static void say(struct desktop *desktop, enum log_level level, const char *fmt, va_list args)
	printf_like(3, 0);

static void say(struct desktop *desktop, enum log_level level, const char *fmt, va_list args)
{
	char what[ERR_MSG_MAX];
	vsnprintf(what, sizeof(what), fmt, args);
	log_write(level, "desktop %s: %s", desktop->row.name, what);
	tell(desktop, desktop_state_names[desktop->state], what);
}

void desktop_warn(struct desktop *desktop, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(desktop, LOG_LEVEL_WARN, fmt, args);
	va_end(args);
}

void desktop_note(struct desktop *desktop, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(desktop, LOG_LEVEL_INFO, fmt, args);
	va_end(args);
}

int desktop_save(struct desktop *desktop, struct err *err)
{
	desktop_forget_json(desktop);
	return db_desktop_update(desktop->all->env.db, &desktop->row, err);
}

int desktop_claim(struct desktop *desktop, desktop_cb cb, void *data, struct err *err)
{
	if (desktop->done)
		return err_set(err, ERR_BUSY,
			       "desktop '%s' is in the middle of another operation (state %s); try "
			       "again when it is over",
			       desktop->row.name, desktop_state_names[desktop->state]);
	desktop->done = cb;
	desktop->done_data = data;
	desktop->failure = (struct err){0};
	desktop->force = false;
	/* a plan's is not ours: that of one that parks or unparks */
	if (!desktop->plan)
		desktop_retry_stop(desktop);
	return 0;
}

int desktop_begin(struct desktop *desktop, desktop_cb cb, void *data, struct err *err)
{
	if (!desktop->done && (desktop->park == PARK_BEGINS || desktop->park == PARK_ENDS))
		return err_set(err, ERR_BUSY,
			       "the disks of desktop '%s' are just being %s for other work; try "
			       "again in a moment",
			       desktop->row.name,
			       desktop->park == PARK_BEGINS ? "opened" : "closed");
	return desktop_claim(desktop, cb, data, err);
}

void desktop_nobody_asked(void *data, struct desktop *desktop, const struct err *err)
{
}

void desktop_end(struct desktop *desktop, const struct err *err)
{
	desktop_cb done = TAKE_PTR(desktop->done);
	if (done)
		done(desktop->done_data, err ? NULL : desktop, err);
	bool is_blind = desktop->watch && !desktop->qmp && !desktop->done && !desktop->plan;
	if (is_blind && desktop->park == PARK_NONE && !desktop->all->closing)
		desktop_monitor_retry(desktop);
	desktop_work_look(desktop);
}

bool desktop_has_guest(const struct desktop *desktop)
{
	return desktop->row.pid && desktop->park == PARK_NONE &&
	       desktop->row.op != DB_DESKTOP_OP_PARK;
}

static json_t *time_json(int64_t ms)
{
	if (ms == 0)
		return json_null();
	char text[STR_TIME_MAX];
	str_format_time(ms, text);
	return json_string(text);
}

static json_t *text_json(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *version_json(struct desktops *all, const char *image_id)
{
	char text[STR_NAME_MAX + 32];
	const struct db_image *image =
		image_id[0] ? images_find(all->env.images, image_id, NULL) : NULL;
	if (!image)
		return json_null();
	snprintf(text, sizeof(text), "%s:%lld", image->name, (long long)image->version);
	return json_string(text);
}

static json_t *make_json(struct desktop *desktop)
{
	static const char *const of_first_nic[] = {"network", "mac", "ip"};
	const struct db_desktop *row = &desktop->row;
	struct desktops *all = desktop->all;
	const struct db_image *image = images_find(all->env.images, row->image_id, NULL);
	const struct db_iso *iso =
		row->iso_id[0] ? isos_find(all->env.images, row->iso_id, NULL) : NULL;
	json_t *nics = desktop_nics_to_json(desktop), *first = json_array_get(nics, 0);
	json_t *ret = json_object();
	json_object_set_new_nocheck(ret, "id", json_string_nocheck(row->id));
	json_object_set_new_nocheck(ret, "name", json_string_nocheck(row->name));
	json_object_set_new_nocheck(ret, "state",
				    json_string_nocheck(desktop_state_names[desktop->state]));
	json_object_set_new_nocheck(ret, "state_reason", text_json(row->state_reason));
	json_object_set_new_nocheck(ret, "image", image ? json_string(image->name) : json_null());
	json_object_set_new_nocheck(ret, "image_version",
				    image ? json_integer(image->version) : json_null());
	json_object_set_new_nocheck(ret, "memory_mib", json_integer(row->memory_mib));
	json_object_set_new_nocheck(ret, "vcpus", json_integer(row->vcpus));
	json_object_set_new_nocheck(ret, "disk_bytes",
				    json_integer(row->disks[DB_DISK_SYSTEM].bytes));
	json_object_set_new_nocheck(ret, "data_disk_bytes",
				    row->disks[DB_DISK_DATA].file[0]
					    ? json_integer(row->disks[DB_DISK_DATA].bytes)
					    : json_null());
	json_object_set_new_nocheck(ret, "disposable", json_boolean(row->disposable));
	json_object_set_new_nocheck(ret, "next_image", version_json(all, row->next_image_id));
	json_object_set_new_nocheck(ret, "previous_image",
				    version_json(all, row->previous_image_id));
	json_object_set_new_nocheck(ret, "iso", iso ? json_string(iso->name) : json_null());
	json_object_set_new_nocheck(ret, "boot",
				    json_string_nocheck(desktop_boot_names[row->boot]));
	for (size_t i = 0; i < ARRAY_LEN(of_first_nic); i++) {
		json_t *value = json_object_get(first, of_first_nic[i]);
		json_object_set_nocheck(ret, of_first_nic[i], value ? value : json_null());
	}
	json_object_set_new_nocheck(ret, "nics", nics);
	json_object_set_new_nocheck(
		ret, "work", desktop->work.what ? json_string(desktop->work.what) : json_null());
	bool has_guest = desktop_has_guest(desktop);
	json_object_set_new_nocheck(ret, "pid", has_guest ? json_integer(row->pid) : json_null());
	json_object_set_new_nocheck(ret, "owner", text_json(row->owner));
	json_object_set_new_nocheck(ret, "pool", json_null());
	json_object_set_new_nocheck(ret, "profile", text_json(row->profile));
	json_object_set_new_nocheck(ret, "autostart", json_boolean(row->autostart));
	json_object_set_new_nocheck(ret, "restart",
				    json_string_nocheck(desktop_restart_names[row->restart]));
	json_object_set_new_nocheck(ret, "started_at", time_json(has_guest ? row->started_at : 0));
	json_object_set_new_nocheck(ret, "created_at", time_json(row->created_at));
	return ret;
}

json_t *desktop_to_json(struct desktop *desktop)
{
	if (!desktop->json)
		desktop->json = make_json(desktop);
	return json_incref(desktop->json);
}

int desktop_update(struct desktop *desktop, const struct desktop_update *update, struct err *err)
{
	struct desktops *all = desktop->all;
	if (desktop->done)
		return err_set(err, ERR_BUSY,
			       "desktop '%s' is in the middle of another operation; try again when "
			       "it is over",
			       desktop->row.name);
	struct db_desktop old = desktop->row;
	struct db_desktop *row = &desktop->row;
	int64_t bytes = row->disks[DB_DISK_SYSTEM].bytes + row->disks[DB_DISK_DATA].bytes;
	if (update->owner && strcmp(update->owner, row->owner) != 0 &&
	    images_quota_charge_check(all->env.images, update->owner, bytes, err) < 0)
		return -1;
	if (update->name && strcmp(update->name, row->name) != 0) {
		if (desktops_find(all, update->name, NULL))
			return err_set(err, ERR_EXISTS, "there is a desktop '%s' already",
				       update->name);
		HASH_DELETE(by_name, all->by_name, desktop);
		snprintf(row->name, sizeof(row->name), "%s", update->name);
		HASH_ADD(by_name, all->by_name, row.name, strlen(row->name), desktop);
	}
	if (update->owner)
		snprintf(row->owner, sizeof(row->owner), "%s", update->owner);
	if (update->memory_mib > 0)
		row->memory_mib = update->memory_mib;
	if (update->vcpus > 0)
		row->vcpus = update->vcpus;
	if (update->autostart >= 0)
		row->autostart = update->autostart;
	if (update->restart >= 0)
		row->restart = (enum db_desktop_restart)update->restart;
	if (update->boot >= 0)
		row->boot = (enum db_desktop_boot)update->boot;
	if ((update->disposable < 0 ||
	     desktop_make_disposable(desktop, update->disposable, err) == 0) &&
	    desktop_save(desktop, err) == 0)
		return desktop_nics_hosts_changed(desktop, err);
	HASH_DELETE(by_name, all->by_name, desktop);
	*row = old;
	HASH_ADD(by_name, all->by_name, row.name, strlen(row->name), desktop);
	return -1;
}
