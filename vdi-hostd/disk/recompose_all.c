/* Which desktops move, how, and one after the other. */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "vdi-hostd/disk/move.h"
#include "vdi-hostd/disk/private.h"
#include "vdi-hostd/disk/recompose.h"
#include "vdi-hostd/image/quota.h"

/* ---- what would be done ---- */

struct outlook {
	enum move_action action;
	const char *warning; /* or NULL */
};

static bool has_guest(const struct desktop *desktop)
{
	switch (desktop_state(desktop)) {
	case DESKTOP_STOPPED:
	case DESKTOP_FAILED:
		return false;
	case DESKTOP_STARTING:
	case DESKTOP_RUNNING:
	case DESKTOP_PAUSED:
	case DESKTOP_SUSPENDED:
	case DESKTOP_STOPPING:
		break;
	}
	return true;
}

int recompose_refuse_running(struct desktop *desktop, struct err *err)
{
	if (!has_guest(desktop))
		return 0;
	return err_set(err, ERR_CONFLICT, "desktop '%s' is %s; stop it first",
		       desktop_row(desktop)->name, desktop_state_names[desktop_state(desktop)]);
}

struct names {
	char text[128];
	size_t len;
	bool hidden;
};

static int add_name(void *data, const struct db_snapshot *row)
{
	struct names *names = data;

	if (row->name[0] == '.')
		names->hidden = true;
	else if (names->len + strlen(row->name) + 3 < sizeof(names->text))
		names->len +=
			(size_t)snprintf(names->text + names->len, sizeof(names->text) - names->len,
					 "%s%s", names->len ? ", " : "", row->name);
	return 0;
}

int recompose_refuse_snapshots(struct disks *disks, struct desktop *desktop, struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);
	struct names names = {0};

	if (db_snapshot_each(disks->env.db, row->id, add_name, &names, err) < 0)
		return -1;
	if (names.len > 0)
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' has snapshots (%s); delete them first", row->name,
			       names.text);
	if (names.hidden)
		return err_set(err, ERR_BUSY,
			       "the disks of desktop '%s' are still read or merged by other work; "
			       "try again when its job is over",
			       row->name);
	return 0;
}

static int refuse_image(const struct db_image *image, struct err *err)
{
	switch (image->state) {
	case DB_IMAGE_IMPORTING:
		return err_set(err, ERR_BUSY, "image '%s:%lld' is not there yet; wait for its job",
			       image->name, (long long)image->version);
	case DB_IMAGE_RETIRED:
		return err_set(err, ERR_CONFLICT,
			       "image '%s:%lld' is retired: no desktop can be moved to it",
			       image->name, (long long)image->version);
	case DB_IMAGE_DRAFT:
	case DB_IMAGE_PUBLISHED:
		break;
	}
	return 0;
}

/* the system disk grows where the version is larger */
static int check_quota(struct disks *disks, const struct db_desktop *row,
		       const struct db_image *image, struct err *err)
{
	int64_t extra = image->virtual_size - row->disks[DB_DISK_SYSTEM].bytes;

	return extra > 0 ? images_quota_charge_check(disks->env.images, row->owner, extra, err) : 0;
}

static int look_disposable(struct disks *disks, const struct db_desktop *row,
			   const struct db_image *image, struct outlook *ret, struct err *err)
{
	const char *next = row->next_image_id[0] ? row->next_image_id : row->image_id;
	bool is_there = strcmp(next, image->id) == 0;

	if (!is_there && check_quota(disks, row, image, err) < 0)
		return -1;
	ret->action = is_there ? MOVE_NONE : MOVE_NEXT_START;
	return 0;
}

static int look(struct disks *disks, struct desktop *desktop, const struct db_image *image,
		const struct disks_recompose *how, struct outlook *ret, struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);

	*ret = (struct outlook){.action = MOVE_REFUSED};
	if (desktop_is_claimed(desktop))
		return err_set(err, ERR_BUSY,
			       "desktop '%s' is in the middle of another operation; try again when "
			       "it is over",
			       row->name);
	if (row->disposable)
		return look_disposable(disks, row, image, ret, err);
	if (strcmp(row->image_id, image->id) == 0) {
		ret->action = MOVE_NONE;
		return 0;
	}
	if (!row->disks[DB_DISK_DATA].file[0])
		ret->warning = "it has no data disk: what its user keeps on the system disk is out "
			       "of sight, and lost once this is confirmed";
	if (row->previous_image_id[0])
		return err_set(err, ERR_CONFLICT,
			       "the last recompose of desktop '%s' is not confirmed; confirm or "
			       "undo it first",
			       row->name);
	if (recompose_refuse_snapshots(disks, desktop, err) < 0 ||
	    check_quota(disks, row, image, err) < 0)
		return -1;
	if (ret->warning && !how->force)
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' has no data disk: what its user keeps would be out of "
			       "sight on the old system disk; use force",
			       row->name);
	if (has_guest(desktop) && !how->stop)
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' is %s; stop it first, or let it be stopped and "
			       "started again (stop)",
			       row->name, desktop_state_names[desktop_state(desktop)]);
	ret->action = has_guest(desktop) ? MOVE_RESTART : MOVE_NOW;
	return 0;
}

static void format_version(const struct db_image *image, char ret[STR_NAME_MAX + 32])
{
	if (image)
		snprintf(ret, STR_NAME_MAX + 32, "%s:%lld", image->name, (long long)image->version);
	else
		ret[0] = '\0';
}

static json_t *item_json(struct disks *disks, struct desktop *desktop, const struct db_image *image,
			 const struct outlook *outlook, const struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);
	char from[STR_NAME_MAX + 32], to[STR_NAME_MAX + 32];

	format_version(images_find(disks->env.images, row->image_id, NULL), from);
	format_version(image, to);
	return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?}", "desktop", row->name, "from", from,
			 "to", to, "action", disks_recompose_actions[outlook->action], "warning",
			 outlook->warning, "error", err ? err->msg : NULL);
}

/* ---- doing it ---- */

static void nobody(void *data, struct desktop *desktop, const struct err *err)
{
}

static int set_next(struct desktop *desktop, const struct db_image *image, struct err *err)
{
	struct db_desktop *row = desktop_edit(desktop), old = *row;

	if (desktop_begin(desktop, nobody, NULL, err) < 0)
		return -1;
	row->next_image_id[0] = '\0';
	if (strcmp(row->image_id, image->id) != 0)
		memcpy(row->next_image_id, image->id, sizeof(row->next_image_id));
	int result = desktop_save(desktop, err);
	if (result < 0)
		*row = old;
	desktop_end(desktop, NULL);
	return result;
}

static void act(struct disks *disks, struct desktop *desktop, const struct db_image *image,
		enum move_action action, move_cb cb, void *data)
{
	struct err err;

	switch (action) {
	case MOVE_NEXT_START:
		cb(data, set_next(desktop, image, &err) < 0 ? &err : NULL);
		return;
	case MOVE_NOW:
	case MOVE_RESTART:
		move_begin(disks, desktop, image, action == MOVE_RESTART, cb, data);
		return;
	case MOVE_NONE:
	case MOVE_REFUSED:
		break;
	}
	cb(data, NULL);
}

struct one {
	json_t *item;
	disks_done_cb cb;
	void *data;
};

static void on_one_moved(void *data, const struct err *err)
{
	_cleanup_free_ struct one *one = data;

	one->cb(one->data, err ? NULL : json_incref(one->item), err);
	json_decref(one->item);
}

void disks_recompose(struct disks *disks, struct desktop *desktop, const char *ref,
		     const struct disks_recompose *how, disks_done_cb cb, void *data)
{
	struct outlook outlook;
	struct err err;
	const struct db_image *image = images_find(disks->env.images, ref, &err);

	if (!image || refuse_image(image, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	int refused = look(disks, desktop, image, how, &outlook, &err);
	if (refused && !how->dry_run) {
		cb(data, NULL, &err);
		return;
	}
	json_t *item = item_json(disks, desktop, image, &outlook, refused ? &err : NULL);
	if (how->dry_run) {
		cb(data, item, NULL);
		return;
	}
	struct one *one = mem_new(struct one);
	*one = (struct one){item, cb, data};
	act(disks, desktop, image, outlook.action, on_one_moved, one);
}

/* ---- many ---- */

struct recompose_run {
	struct disks *disks;
	struct job *job;
	struct disks_recompose how;
	char image_id[STR_UUID_LEN + 1], from_id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1];
	json_t *ids, *items; /* of the desktops; what became of each */
	size_t moved, refused;
	bool cancelled;
	uv_timer_t timer; /* between two: many that are done at once are no deep recursion */
	struct recompose_run *prev, *next;
};

static void on_run_closed(uv_handle_t *handle)
{
	struct recompose_run *run = handle->data;

	json_decref(run->ids);
	json_decref(run->items);
	free(run);
}

static void end_run(struct recompose_run *run, const struct err *err)
{
	DL_DELETE(run->disks->runs, run);
	if (err)
		job_fail(run->job, err);
	else
		job_done(run->job,
			 json_pack("{s:O, s:I, s:I}", "items", run->items, "moved",
				   (json_int_t)run->moved, "refused", (json_int_t)run->refused));
	uv_close((uv_handle_t *)&run->timer, on_run_closed);
}

static void next_one(uv_timer_t *timer);

static void on_run_moved(void *data, const struct err *err)
{
	struct recompose_run *run = data;
	json_t *item = json_array_get(run->items, json_array_size(run->items) - 1);

	if (err && run->disks->closing) {
		end_run(run, err);
		return;
	}
	if (err) {
		run->refused++;
		json_object_set_new(item, "error", json_string(err->msg));
	} else {
		run->moved++;
	}
	uv_timer_start(&run->timer, next_one, 0, 0);
}

static void take_one(struct recompose_run *run, struct desktop *desktop)
{
	struct outlook outlook = {.action = MOVE_REFUSED};
	struct err err;
	const struct db_image *image = images_find(run->disks->env.images, run->image_id, &err);
	int result = image ? look(run->disks, desktop, image, &run->how, &outlook, &err) : -1;

	json_array_append_new(run->items, item_json(run->disks, desktop, image, &outlook,
						    result < 0 ? &err : NULL));
	if (result < 0)
		run->refused++;
	if (result == 0 && !run->how.dry_run && outlook.action != MOVE_NONE)
		act(run->disks, desktop, image, outlook.action, on_run_moved, run);
	else
		uv_timer_start(&run->timer, next_one, 0, 0);
}

static void next_one(uv_timer_t *timer)
{
	struct recompose_run *run = timer->data;
	size_t done = json_array_size(run->items), total = json_array_size(run->ids);
	struct desktop *desktop;
	struct err err;

	job_progress(run->job, (int64_t)done, (int64_t)total);
	if (run->cancelled && done < total) {
		err_set(&err, ERR_CANCELLED,
			"it was cancelled after %zu of %zu desktops; those that were moved stay so",
			done, total);
		end_run(run, &err);
		return;
	}
	if (done == total) {
		end_run(run, NULL);
		return;
	}
	const char *id = json_string_value(json_array_get(run->ids, done));
	desktop = desktops_find(run->disks->env.desktops, id, &err);
	if (desktop) {
		take_one(run, desktop);
		return;
	}
	/* deleted meanwhile */
	json_array_append_new(run->items,
			      json_pack("{s:s, s:s, s:s}", "desktop", id, "action",
					disks_recompose_actions[MOVE_REFUSED], "error", err.msg));
	run->refused++;
	uv_timer_start(&run->timer, next_one, 0, 0);
}

static void cancel(void *data)
{
	struct recompose_run *run = data;

	run->cancelled = true;
}

static bool is_meant(const struct recompose_run *run, const struct desktop *desktop)
{
	const struct db_desktop *row = desktop_row(desktop);
	const struct db_image *image = images_find(run->disks->env.images, row->image_id, NULL);

	if (run->from_id[0])
		return strcmp(row->image_id, run->from_id) == 0;
	return image && strcmp(image->name, run->name) == 0;
}

static void add_desktop(void *data, struct desktop *desktop)
{
	struct recompose_run *run = data;

	if (is_meant(run, desktop))
		json_array_append_new(run->ids, json_string(desktop_row(desktop)->id));
}

static int add_named(struct recompose_run *run, json_t *names, struct err *err)
{
	size_t i;
	json_t *name;

	json_array_foreach(names, i, name)
	{
		struct desktop *desktop =
			desktops_find(run->disks->env.desktops, json_string_value(name), err);
		if (!desktop)
			return -1;
		if (!is_meant(run, desktop))
			return err_set(err, ERR_CONFLICT,
				       "desktop '%s' is a clone of another image, or of another "
				       "version than asked for; `desktop recompose` moves it",
				       desktop_row(desktop)->name);
		json_array_append_new(run->ids, json_string(desktop_row(desktop)->id));
	}
	return 0;
}

static int fill_run(struct recompose_run *run, const struct disks_recompose_all *what,
		    struct err *err)
{
	struct images *images = run->disks->env.images;
	const struct db_image *image = images_find(images, what->image, err);
	const struct db_image *from = NULL;

	if (!image || refuse_image(image, err) < 0)
		return -1;
	memcpy(run->image_id, image->id, sizeof(run->image_id));
	memcpy(run->name, image->name, sizeof(run->name));
	if (what->from) {
		from = images_find(images, what->from, err);
		if (!from)
			return -1;
		memcpy(run->from_id, from->id, sizeof(run->from_id));
	}
	if (what->desktops)
		return add_named(run, what->desktops, err);
	desktops_each(run->disks->env.desktops, add_desktop, run);
	return 0;
}

int disks_recompose_all(struct disks *disks, const struct disks_recompose_all *what,
			const char **ret_job_id, struct err *err)
{
	struct recompose_run *run = mem_new(struct recompose_run);

	run->disks = disks;
	run->how = what->how;
	run->ids = json_array();
	run->items = json_array();
	if (fill_run(run, what, err) < 0 ||
	    job_start(disks->env.jobs, "image.recompose", run->image_id, "desktops", cancel, run,
		      &run->job, err) < 0) {
		json_decref(run->ids);
		json_decref(run->items);
		free(run);
		return -1;
	}
	uv_timer_init(disks->env.loop, &run->timer);
	run->timer.data = run;
	uv_timer_start(&run->timer, next_one, 0, 0);
	DL_APPEND(disks->runs, run);
	*ret_job_id = job_id(run->job);
	return 0;
}

void runs_free(struct disks *disks)
{
	struct recompose_run *run, *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; ask for the rest again");
	DL_FOREACH_SAFE(disks->runs, run, next)
	{
		end_run(run, &err);
	}
}
