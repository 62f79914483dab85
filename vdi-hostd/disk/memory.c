/* The memory and the devices of a guest that stands still, as a migration stream in a file. */
#include <string.h>
#include <unistd.h>

#include "vdi-hostd/disk/private.h"

#define POLL_MS 50
#define RATE    (1LL << 40) /* bytes a second: as fast as the store takes it */

struct memory {
	struct desktop *desktop;
	struct qmp_batch batch;
	uv_timer_t *timer;
	uv_fs_t sync;
	int fd;
	size_t pending;
	bool dropped;
	void (*cb)(void *data, const struct err *err);
	void *data;
};

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void release(struct memory *memory)
{
	if (!memory->dropped || memory->pending > 0)
		return;
	if (memory->timer)
		uv_close((uv_handle_t *)TAKE_PTR(memory->timer), on_timer_closed);
	close(memory->fd);
	free(memory);
}

void memory_drop(struct memory *memory)
{
	if (!memory)
		return;
	memory->dropped = true;
	release(memory);
}

/* One answer came; is somebody still interested? */
static bool goes_on(struct memory *memory)
{
	memory->pending--;
	if (!memory->dropped)
		return true;
	release(memory);
	return false;
}

static void on_synced(uv_fs_t *req)
{
	struct memory *memory = req->data;
	int result = (int)req->result;
	struct err err;

	uv_fs_req_cleanup(req);
	if (!goes_on(memory))
		return;
	if (result < 0)
		err_set_sys(&err, err_from_errno(-result), -result,
			    "the guest's memory cannot be written to the disk");
	memory->cb(memory->data, result < 0 ? &err : NULL);
}

static void ask(uv_timer_t *timer);

static void on_status(void *data, json_t *result, const struct err *err)
{
	struct memory *memory = data;
	const char *status = json_string_value(json_object_get(result, "status"));
	const char *words = json_string_value(json_object_get(result, "error-desc"));
	struct err failed;

	if (!goes_on(memory))
		return;
	if (err) {
		memory->cb(memory->data, err);
	} else if (status && strcmp(status, "completed") == 0) {
		memory->pending++;
		memory->sync.data = memory;
		uv_fs_fdatasync(desktop_env(memory->desktop)->loop, &memory->sync, memory->fd,
				on_synced);
	} else if (status && (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)) {
		err_set(&failed, ERR_IO,
			"QEMU could not write the guest's memory: %.120s; is the store full?",
			words ? words : status);
		memory->cb(memory->data, &failed);
	} else {
		uv_timer_start(memory->timer, ask, POLL_MS, 0);
	}
}

static void ask(uv_timer_t *timer)
{
	struct memory *memory = timer->data;
	struct err err;

	if (!desktop_qmp(memory->desktop)) {
		err_set(&err, ERR_UNAVAILABLE, "QEMU is gone");
		memory->cb(memory->data, &err);
		return;
	}
	memory->pending++;
	qmp_execute(desktop_qmp(memory->desktop), "query-migrate", NULL, 0, on_status, memory);
}

static void on_begun(void *data, const struct err *err)
{
	struct memory *memory = data;

	if (!goes_on(memory))
		return;
	if (err)
		memory->cb(memory->data, err);
	else
		uv_timer_start(memory->timer, ask, 0, 0);
}

struct memory *memory_save(struct desktop *desktop, int fd,
			   void (*cb)(void *data, const struct err *err), void *data)
{
	struct memory *memory = mem_new(struct memory);
	struct qmp *qmp = desktop_qmp(desktop);

	memory->desktop = desktop;
	memory->fd = fd;
	memory->cb = cb;
	memory->data = data;
	memory->pending = 1;
	memory->timer = mem_new(uv_timer_t);
	memory->timer->data = memory;
	uv_timer_init(desktop_env(desktop)->loop, memory->timer);
	batch_init(&memory->batch, on_begun, memory);
	batch_add(&memory->batch, qmp, "migrate-set-parameters",
		  json_pack("{s:I}", "max-bandwidth", (json_int_t)RATE), -1);
	batch_add(&memory->batch, qmp, "getfd", json_pack("{s:s}", "fdname", "memory"), fd);
	batch_add(&memory->batch, qmp, "migrate", json_pack("{s:s}", "uri", "fd:memory"), -1);
	batch_end(&memory->batch);
	return memory;
}
