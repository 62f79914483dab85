#include "vdi-hostd/image/tool.h"

#include <signal.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/image/private.h"

struct image_tool {
	struct images *images;
	const struct image_tool_ops *ops;
	void *data;
	struct priv_img img;
	int sources[QEMU_CHAIN_MAX];
	size_t n_sources;
	int target;
	struct convert *convert;
	struct priv_process process;
};

static void on_spawned(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct image_tool *tool = data;

	if (!err)
		tool->process =
			(struct priv_process){.pid = reply->pid, .start_time = reply->start_time};
	convert_spawned(tool->convert, err ? -1 : fds[0], err);
}

static void spawn_tool(void *data, const int outputs[CONVERT_FDS])
{
	struct image_tool *tool = data;
	struct priv_request req = {.verb = PRIV_IMG_SPAWN};
	int fds[QEMU_CHAIN_MAX + 1 + CONVERT_FDS];
	size_t n = tool->n_sources;

	memcpy(fds, tool->sources, n * sizeof(fds[0]));
	fds[n++] = tool->target;
	fds[n++] = outputs[CONVERT_FD_STDOUT];
	fds[n++] = outputs[CONVERT_FD_STDERR];
	req.n_fds = (uint32_t)n;
	req.u.img = tool->img;
	priv_call(tool->images->priv, &req, fds, n, on_spawned, tool);
}

static void kill_tool(void *data)
{
	struct image_tool *tool = data;
	struct priv_request req = {.verb = PRIV_IMG_SIGNAL};

	req.u.process = tool->process;
	req.u.process.sig = SIGKILL;
	priv_call(tool->images->priv, &req, NULL, 0, NULL, NULL);
}

static void on_reaped(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct image_tool *tool = data;

	convert_reaped(tool->convert, err ? -1 : reply->wait_status);
}

static void reap_tool(void *data)
{
	struct image_tool *tool = data;
	struct priv_request req = {.verb = PRIV_REAP};

	/* once the daemon ends there is nobody to ask, nor does the answer matter */
	if (tool->images->closing) {
		convert_reaped(tool->convert, -1);
		return;
	}
	req.u.process = tool->process;
	priv_call(tool->images->priv, &req, NULL, 0, on_reaped, tool);
}

static void on_progress(void *data, int percent_100)
{
	struct image_tool *tool = data;

	tool->ops->progress(tool->data, percent_100);
}

static void on_done(void *data, const struct err *err)
{
	struct image_tool *tool = data;

	tool->ops->done(tool->data, err);
	free(tool);
}

static const struct convert_ops convert_ops = {spawn_tool, kill_tool, reap_tool, on_progress,
					       on_done};

int image_tool_start(struct images *images, const struct image_tool_work *work,
		     const struct image_tool_ops *ops, void *data, struct image_tool **ret,
		     struct err *err)
{
	if (work->n_sources < 1 || work->n_sources > QEMU_CHAIN_MAX)
		return err_set(err, ERR_LIMIT, "qemu-img takes 1 to %d files, not %zu",
			       QEMU_CHAIN_MAX, work->n_sources);
	_cleanup_free_ struct image_tool *tool = mem_new(struct image_tool);
	tool->images = images;
	tool->ops = ops;
	tool->data = data;
	tool->img = work->img;
	memcpy(tool->sources, work->sources, work->n_sources * sizeof(tool->sources[0]));
	tool->n_sources = work->n_sources;
	tool->target = work->target;
	if (convert_start(images->loop, work->target, &convert_ops, work->limits, tool,
			  &tool->convert, err) < 0)
		return -1;
	*ret = TAKE_PTR(tool);
	return 0;
}

void image_tool_cancel(struct image_tool *tool)
{
	convert_cancel(tool->convert);
}
