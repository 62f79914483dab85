/*
 * Room in the store: a warning before it runs out, and nothing new is begun when little is left. A
 * level is left only with a tenth more room than it asks for, so that it is told of once.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/image/private.h"

#define CHECK_MS 60000
#define META_KEY "space_level"

const char *const images_space_names[] = {
	[IMAGES_SPACE_OK] = "ok",
	[IMAGES_SPACE_LOW] = "low",
	[IMAGES_SPACE_CRITICAL] = "critical",
	NULL,
};

/* @images: NULL once those are gone */
struct space {
	uv_timer_t timer;
	struct images *images;
	struct images_space_limits limits;
	enum images_space level;
};

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t room_for(const struct images_space_limits *limits, enum images_space level,
			int64_t total)
{
	int64_t floor = limits->critical_mib << 20;

	switch (level) {
	case IMAGES_SPACE_OK:
		break;
	case IMAGES_SPACE_LOW:
		return larger(total / 100 * limits->low_percent, 2 * floor);
	case IMAGES_SPACE_CRITICAL:
		return larger(total / 100 * limits->critical_percent, floor);
	}
	return 0;
}

static int64_t room_to_leave(const struct images_space_limits *limits, enum images_space level,
			     int64_t total)
{
	int64_t room = room_for(limits, level, total);

	return room + room / 10;
}

enum images_space images_space_level(const struct images_space_limits *limits,
				     enum images_space was, int64_t free_bytes, int64_t total)
{
	for (enum images_space level = IMAGES_SPACE_CRITICAL; level > IMAGES_SPACE_OK; level--) {
		if (free_bytes < (was >= level ? room_to_leave(limits, level, total)
					       : room_for(limits, level, total)))
			return level;
	}
	return IMAGES_SPACE_OK;
}

static void tell(struct space *space, int64_t free_bytes, int64_t total)
{
	static const char *const events[] = {
		[IMAGES_SPACE_OK] = "space_ok",
		[IMAGES_SPACE_LOW] = "space_low",
		[IMAGES_SPACE_CRITICAL] = "space_critical",
	};
	struct images *images = space->images;
	struct err err;
	json_t *data = json_pack("{s:s, s:I, s:I}", "what", events[space->level], "free_bytes",
				 (json_int_t)free_bytes, "total_bytes", (json_int_t)total);

	if (space->level == IMAGES_SPACE_OK)
		log_info("the image store has room again: %" PRId64 " MiB free", free_bytes >> 20);
	else
		log_warn("the image store has only %" PRId64 " MiB free%s", free_bytes >> 20,
			 space->level == IMAGES_SPACE_CRITICAL ? ": nothing new is begun" : "");
	if (db_event_append(images->db, "host", "store", data, &err) < 0)
		log_err("the event of the store's room is lost: %s", err.msg);
	json_decref(data);
	/* the next daemon does not say the same again */
	if (db_meta_set(images->db, META_KEY, images_space_names[space->level], &err) < 0)
		log_warn("%s", err.msg);
}

static int look(struct space *space, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	if (images_disk_free(space->images, ret_free, ret_total, err) < 0)
		return -1;
	enum images_space level =
		images_space_level(&space->limits, space->level, *ret_free, *ret_total);
	if (level == space->level)
		return 0;
	space->level = level;
	tell(space, *ret_free, *ret_total);
	return 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct space *space = timer->data;
	int64_t free_bytes, total;
	struct err err;

	if (look(space, &free_bytes, &total, &err) < 0)
		log_warn("the image store's room is not known: %s", err.msg);
}

void images_space_watch(struct images *images, const struct images_space_limits *limits)
{
	struct space *space = mem_new(struct space);
	char level[16] = "";

	space->images = images;
	space->limits = *limits;
	if (db_meta_get(images->db, META_KEY, level, sizeof(level), NULL) == 0)
		for (size_t i = 0; images_space_names[i]; i++)
			if (strcmp(level, images_space_names[i]) == 0)
				space->level = (enum images_space)i;
	images->space = space;
	uv_timer_init(images->loop, &space->timer);
	space->timer.data = space;
	uv_timer_start(&space->timer, on_timer, 0, CHECK_MS);
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void images_space_unwatch(struct images *images)
{
	struct space *space = TAKE_PTR(images->space);

	if (space)
		uv_close((uv_handle_t *)&space->timer, on_closed);
}

enum images_space images_space(struct images *images)
{
	int64_t free_bytes, total;
	struct err err;

	if (!images->space)
		return IMAGES_SPACE_OK;
	/* where it cannot be told, what was known last is the best there is */
	if (look(images->space, &free_bytes, &total, &err) < 0)
		log_warn("the image store's room is not known: %s", err.msg);
	return images->space->level;
}

int images_space_check(struct images *images, const char *what, struct err *err)
{
	struct space *space = images->space;
	int64_t free_bytes, total;

	if (!space)
		return 0;
	if (look(space, &free_bytes, &total, err) < 0)
		return -1;
	if (space->level != IMAGES_SPACE_CRITICAL)
		return 0;
	int64_t room = room_to_leave(&space->limits, IMAGES_SPACE_CRITICAL, total);
	return err_set(err, ERR_LIMIT,
		       "%.80s: the image store has too little space, %" PRId64 " MiB free; %" PRId64
		       " MiB more are needed before anything is begun. `vdictl image gc` may help",
		       what, free_bytes >> 20, (room - free_bytes + (1 << 20) - 1) >> 20);
}
