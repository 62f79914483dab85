#include "base/listener.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/mem.h"

#define REST_MS 200

struct listener {
	int fd;
	uv_poll_t poll;
	uv_timer_t rest;
	int open_handles;
	void (*accepted)(void *data, int client);
	void *data;
};

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_rested(uv_timer_t *timer)
{
	struct listener *listener = timer->data;
	uv_poll_start(&listener->poll, UV_READABLE, on_connection);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;
	int client = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client >= 0) {
		listener->accepted(listener->data, client);
		return;
	}
	if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
		return; /* the one who knocked is gone again */
	uv_poll_stop(poll);
	uv_timer_start(&listener->rest, on_rested, REST_MS, 0);
}

int listener_open(uv_loop_t *loop, int fd, void (*accepted)(void *data, int client), void *data,
		  struct listener **ret, struct err *err)
{
	struct listener *listener = mem_new(struct listener);
	int failed = uv_poll_init(loop, &listener->poll, fd);
	if (failed) {
		close(fd);
		free(listener);
		return err_set_sys(err, ERR_IO, -failed, "cannot watch a listening socket");
	}
	uv_timer_init(loop, &listener->rest);
	listener->fd = fd;
	listener->open_handles = 2;
	listener->accepted = accepted;
	listener->data = data;
	listener->poll.data = listener;
	listener->rest.data = listener;
	uv_poll_start(&listener->poll, UV_READABLE, on_connection);
	*ret = listener;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;
	if (--listener->open_handles > 0)
		return;
	close(listener->fd);
	free(listener);
}

void listener_close(struct listener *listener)
{
	if (!listener)
		return;
	uv_close((uv_handle_t *)&listener->poll, on_closed);
	uv_close((uv_handle_t *)&listener->rest, on_closed);
}
