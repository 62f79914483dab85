/* What a capture asks of the desktop: to trim, to shut down, to stand still and to go on. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/disk/capture_private.h"

static int gone(const struct capture *capture, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "desktop '%s' is gone", capture->desktop_name);
}

/* ---- trim: the guest gives back what it does not use; a refusal is no reason to give up ---- */

static void on_trimmed(void *data, json_t *result, const struct err *err)
{
	struct capture *capture = data;

	if (err && err->code == ERR_CANCELLED)
		return;
	if (err)
		log_warn("desktop %s: its guest did not trim its file systems: %s",
			 capture->desktop_name, err->msg);
	capture->trimmed = !err;
	plan_next(capture->plan);
}

void capture_trim(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct desktop *desktop = capture_desktop(capture);
	char path[256];
	struct err err = {0};

	if (!desktop || !capture->trim || desktop_state(desktop) != DESKTOP_RUNNING) {
		plan_next(plan);
		return;
	}
	if (desktop_agent_path(desktop, path, sizeof(path), &err) < 0 ||
	    agent_connect(capture->loop, path, NULL, NULL, &capture->agent, &err) < 0) {
		on_trimmed(capture, NULL, &err);
		return;
	}
	agent_execute(capture->agent, "guest-fstrim", NULL, CAPTURE_TRIM_MS, 0, on_trimmed,
		      capture);
}

void capture_close_agent(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;

	agent_close(TAKE_PTR(capture->agent));
	plan_undone(plan);
}

/* ---- shutdown ---- */

static void on_stopped(void *data, struct desktop *desktop, const struct err *err)
{
	capture_answered(data, err);
}

void capture_shut_down(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct desktop *desktop = capture_desktop(capture);

	/* the agent has one client at a time */
	agent_close(TAKE_PTR(capture->agent));
	if (!desktop || !capture->shutdown || desktop_state(desktop) != DESKTOP_RUNNING) {
		plan_next(plan);
		return;
	}
	capture->restart = capture->asked = true;
	desktop_stop(desktop, false, 0, on_stopped, capture);
}

static void on_started(void *data, struct desktop *desktop, const struct err *err)
{
	_cleanup_free_ char *name = data;

	if (err && err->code != ERR_CANCELLED)
		log_warn("desktop %s is captured, but does not start again: %s", name, err->msg);
}

/* also where the capture failed */
void capture_start_again(struct capture *capture)
{
	struct desktop *desktop = capture_desktop(capture);

	if (capture->restart && desktop)
		desktop_start(desktop, 0, on_started, mem_strdup(capture->desktop_name));
	capture->restart = false;
}

/* ---- freeze ---- */

static void take_layers(struct capture *capture, const struct disks_frozen *frozen)
{
	struct image_layer data[QEMU_CHAIN_MAX];

	capture->frozen = true;
	capture->quiesced = frozen->quiesced;
	capture->n_layers = frozen->n_layers[DB_DISK_SYSTEM];
	memcpy(capture->layers, frozen->layers[DB_DISK_SYSTEM],
	       capture->n_layers * sizeof(capture->layers[0]));
	memcpy(data, frozen->layers[DB_DISK_DATA], sizeof(data));
	images_chain_close(data, frozen->n_layers[DB_DISK_DATA]);
}

static void on_frozen(void *data, const struct disks_frozen *frozen, const struct err *err)
{
	struct capture *capture = data;

	if (frozen)
		take_layers(capture, frozen);
	/* what it reads from now on stands still */
	capture_start_again(capture);
	capture_answered(capture, err);
}

void capture_freeze(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct desktop *desktop = capture_desktop(capture);
	struct err err;

	if (!desktop) {
		gone(capture, &err);
		plan_fail(plan, &err);
		return;
	}
	capture->asked = true;
	disks_freeze(capture->disks, desktop, capture->want, on_frozen, capture);
}
