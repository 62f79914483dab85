/*
 * Desktops that a full store has paused go on by themselves once there is room: so much for each of
 * them that not all are back in a moment, and ever later where it was of no use.
 */
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define POLL_MS   2000
#define ROOM_MIN  (16ll << 20)
#define ROOM_MAX  (1ll << 30)
#define AGAIN_MS  60000 /* so soon after the last time: that was of no use */
#define TRIES_MAX 7     /* that wait longer each: four minutes */

bool desktop_waits_for_room(const struct desktop *desktop)
{
	return desktop->state == DESKTOP_PAUSED && desktop->disk_error.code == ERR_LIMIT &&
	       !desktop->row.held;
}

void desktop_hold(struct desktop *desktop, bool held)
{
	struct err err;
	if (desktop->row.held == held)
		return;
	desktop->row.held = held;
	if (held) {
		desktop->disk_error = (struct err){0};
		desktop_set_state(desktop, DESKTOP_PAUSED, "");
	}
	if (desktop_save(desktop, &err) < 0)
		log_warn("desktop %s: %s", desktop->row.name, err.msg);
}

static void nobody_asked(void *data, struct desktop *desktop, const struct err *err)
{
}

/* A hundredth of the store, within bounds. */
static int64_t room_of_one(int64_t total)
{
	int64_t room = total / 100;
	if (room < ROOM_MIN)
		return ROOM_MIN;
	return room < ROOM_MAX ? room : ROOM_MAX;
}

static void go_on(struct desktop *desktop, uint64_t now)
{
	bool again = desktop->room_from && now - desktop->room_from < AGAIN_MS;
	if (!again)
		desktop->room_tries = 0;
	else if (desktop->room_tries < TRIES_MAX)
		desktop->room_tries++;
	desktop->room_from = now + (POLL_MS << desktop->room_tries);
	log_info("desktop %s: there is room in the image store, it goes on", desktop->row.name);
	desktop_resume(desktop, nobody_asked, NULL);
}

static void look(uv_timer_t *timer)
{
	struct desktops *all = timer->data;
	uint64_t now = uv_now(all->env.loop);
	int64_t left, total;
	struct err err;
	bool known = images_disk_free(all->env.images, &left, &total, &err) == 0;
	bool waits = false;
	for (struct desktop *d = all->by_id; d; d = d->by_id.next) {
		if (!desktop_waits_for_room(d))
			continue;
		waits = true;
		if (!known || d->done || !d->qmp || now < d->room_from || left < room_of_one(total))
			continue;
		left -= room_of_one(total);
		go_on(d, now);
	}
	if (!waits)
		desktop_timer_stop(&all->room);
}

void desktop_room_wait(struct desktop *desktop)
{
	struct desktops *all = desktop->all;
	if (all->room)
		return;
	all->room = mem_new(uv_timer_t);
	all->room->data = all;
	uv_timer_init(all->env.loop, all->room);
	uv_timer_start(all->room, look, POLL_MS, POLL_MS);
}

static void on_disks(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	bool full = false;
	size_t i;
	json_t *disk;
	if (err || desktop->state != DESKTOP_PAUSED || desktop->row.held)
		return;
	json_array_foreach(result, i, disk)
	{
		const char *status = json_string_value(json_object_get(disk, "io-status"));
		full |= status && strcmp(status, "nospace") == 0;
	}
	if (!full)
		return;
	err_set(&desktop->disk_error, ERR_LIMIT, DESKTOP_FULL);
	desktop_set_state(desktop, DESKTOP_PAUSED, DESKTOP_FULL);
	desktop_room_wait(desktop);
}

void desktop_room_ask(struct desktop *desktop)
{
	qmp_execute(desktop->qmp, "query-block", NULL, 0, on_disks, desktop);
}
