#include "vdi-hostd/priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "vdi-hostd/priv/verbs.h"
#include "vdi-hostd/priv/wire.h"

/* one call under way: waiting to be sent, for its reply, or (@answered) for its callback */
struct call {
	struct call *next;
	priv_reply_cb cb;
	void *data;
	bool sent, answered;
	struct priv_request req;
	struct priv_reply reply;
	size_t n_fds, n_reply_fds;
	int *fds; /* own duplicates while it waits to be sent */
	int reply_fds[PRIV_REPLY_FDS_MAX];
};

struct priv {
	uv_poll_t poll;
	uv_timer_t later; /* answers that were there at once still come from the loop */
	int fd;
	int n_handles;
	bool gone, closed;
	void (*lost)(void *data);
	void *data;
	struct call *first, **last; /* replies come in the order of the calls */
	struct verbs verbs;         /* rootless only */
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mem_closep(&fds[i]);
}

static void call_free_fds(struct call *call)
{
	if (call->fds)
		close_fds(call->fds, call->n_fds);
	free(call->fds);
	call->fds = NULL;
}

/* take the first call off the queue and tell its caller */
static void deliver_first(struct priv *priv, const struct err *err)
{
	struct call *call = priv->first;

	priv->first = call->next;
	if (!priv->first)
		priv->last = &priv->first;
	if (!err && call->reply.err.code)
		err = &call->reply.err;
	if (call->cb)
		call->cb(call->data, &call->reply, call->reply_fds, err);
	close_fds(call->reply_fds, call->n_reply_fds);
	call_free_fds(call);
	free(call);
}

/* @priv may be closed by a callback, but lives until the loop runs its close callbacks */
static void deliver_answered(struct priv *priv)
{
	while (!priv->closed && priv->first && priv->first->answered)
		deliver_first(priv, NULL);
}

static const struct call *last_call(const struct priv *priv)
{
	const struct call *end = priv->first;
	while (end && end->next)
		end = end->next;
	return end;
}

static void on_later(uv_timer_t *timer)
{
	struct priv *priv = timer->data;
	const struct call *end = last_call(priv);

	/* those that callbacks add come in the next turn */
	while (!priv->closed && priv->first && priv->first->answered) {
		bool last = priv->first == end;
		deliver_first(priv, NULL);
		if (last)
			break;
	}
	if (!priv->closed && priv->first && priv->first->answered)
		uv_timer_start(&priv->later, on_later, 0, 0);
}

/* the other half is gone, or lies: all that waits fails, and the daemon has to end */
static void lose(struct priv *priv)
{
	struct err err;

	if (priv->gone)
		return;
	priv->gone = true;
	uv_poll_stop(&priv->poll);
	err_set(&err, ERR_UNAVAILABLE, "the privileged half of vdi-hostd is gone");
	/* those that callbacks add are answered in the loop's next turn */
	const struct call *end = last_call(priv);
	for (bool more = end != NULL; more && !priv->closed;) {
		more = priv->first != end;
		deliver_first(priv, priv->first->answered ? NULL : &err);
	}
	if (!priv->closed && priv->lost)
		priv->lost(priv->data);
}

static void watch(struct priv *priv, bool writable)
{
	uv_poll_start(&priv->poll, UV_READABLE | (writable ? UV_WRITABLE : 0), on_poll);
}

static void answer_later(struct priv *priv, struct call *call)
{
	call->answered = true;
	uv_timer_start(&priv->later, on_later, 0, 0);
}

static void fail_later(struct priv *priv, struct call *call, enum err_code code, const char *msg)
{
	err_set(&call->reply.err, code, "%s", msg);
	call->reply.wait_status = -1;
	answer_later(priv, call);
}

/* Return: is it off the hands: sent or failed? Else the wire is full */
static bool send_call(struct priv *priv, struct call *call, const int *fds)
{
	if (wire_send(priv->fd, &call->req, sizeof(call->req), fds, call->n_fds) == 0) {
		call->sent = true;
		return true;
	}
	if (errno == EAGAIN)
		return false;
	if (errno == EPIPE || errno == ECONNRESET)
		call->sent = true; /* reading will find the end, and fail this call */
	else
		fail_later(priv, call, ERR_IO,
			   "a request could not be sent to the privileged half");
	return true;
}

/* send what can be; in order */
static void send_queued(struct priv *priv)
{
	for (struct call *call = priv->first; call; call = call->next) {
		if (call->sent || call->answered)
			continue;
		if (!send_call(priv, call, call->fds)) {
			watch(priv, true);
			return;
		}
		call_free_fds(call);
	}
	watch(priv, false);
}

static bool is_sound(const struct priv_reply *reply, size_t n_fds)
{
	return reply->n_fds == n_fds && n_fds <= PRIV_REPLY_FDS_MAX &&
	       (reply->queues == 0 || n_fds == reply->queues || n_fds == 2ull * reply->queues) &&
	       (unsigned int)reply->err.code <= ERR_INTERNAL &&
	       memchr(reply->err.msg, '\0', sizeof(reply->err.msg)) &&
	       memchr(reply->err.field, '\0', sizeof(reply->err.field));
}

/* Return: was there one? */
static bool receive_reply(struct priv *priv)
{
	struct priv_reply reply;
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;
	int got = wire_receive(priv->fd, &reply, sizeof(reply), fds, &n_fds);

	if (got < 0 && errno == EAGAIN)
		return false;
	struct call *call = priv->first;
	while (call && call->answered)
		call = call->next;
	if (got != 1 || !call || !call->sent || !is_sound(&reply, n_fds)) {
		close_fds(fds, n_fds);
		lose(priv);
		return false;
	}
	call->reply = reply;
	memcpy(call->reply_fds, fds, n_fds * sizeof(int));
	call->n_reply_fds = n_fds;
	call->answered = true;
	return true;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct priv *priv = poll->data;

	if (status < 0) {
		lose(priv);
		return;
	}
	if (events & UV_WRITABLE)
		send_queued(priv);
	while (!priv->closed && !priv->gone && receive_reply(priv))
		deliver_answered(priv);
}

static void on_closed(uv_handle_t *handle)
{
	struct priv *priv = handle->data;

	if (--priv->n_handles > 0)
		return;
	if (priv->fd >= 0)
		close(priv->fd);
	verbs_done(&priv->verbs);
	free(priv);
}

int priv_open(uv_loop_t *loop, int fd, const struct priv_config *config, void (*lost)(void *data),
	      void *data, struct priv **ret, struct err *err)
{
	struct priv *priv = mem_new(struct priv);

	*priv = (struct priv){.fd = fd, .lost = lost, .data = data};
	priv->last = &priv->first;
	priv->verbs = (struct verbs){.config = *config, .rootless = true};
	if (fd >= 0) {
		/* uv_poll_init() makes it non-blocking */
		int failed = uv_poll_init(loop, &priv->poll, fd);
		if (failed < 0) {
			free(priv);
			return err_set_sys(err, ERR_IO, -failed,
					   "cannot watch the privileged half");
		}
		priv->poll.data = priv;
		priv->n_handles++;
		watch(priv, false);
	}
	uv_timer_init(loop, &priv->later);
	priv->later.data = priv;
	priv->n_handles++;
	*ret = priv;
	return 0;
}

/* rootless: done here and now; told later */
static void run_here(struct priv *priv, struct call *call, const int *fds)
{
	struct err err = {0};

	if (verbs_check(&call->req, fds, call->n_fds, &err) < 0)
		call->reply = (struct priv_reply){.err = err, .wait_status = -1};
	else
		verbs_run(&priv->verbs, &call->req, fds, &call->reply, call->reply_fds);
	call->n_reply_fds = call->reply.n_fds;
	answer_later(priv, call);
}

static void dup_fds(struct call *call, const int *fds)
{
	call->fds = mem_calloc(call->n_fds, sizeof(int));
	for (size_t i = 0; i < call->n_fds; i++)
		call->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
}

void priv_call(struct priv *priv, const struct priv_request *req, const int *fds, size_t n_fds,
	       priv_reply_cb cb, void *data)
{
	struct call *call = mem_new(struct call);
	bool queue_empty = true;

	for (const struct call *c = priv->first; c; c = c->next)
		queue_empty = queue_empty && (c->sent || c->answered);
	call->cb = cb;
	call->data = data;
	call->req = *req;
	call->n_fds = n_fds;
	*priv->last = call;
	priv->last = &call->next;
	if (n_fds > WIRE_FDS_MAX) {
		call->n_fds = 0;
		fail_later(priv, call, ERR_LIMIT, "too many descriptors for one request");
	} else if (priv->gone) {
		fail_later(priv, call, ERR_UNAVAILABLE, "the privileged half of vdi-hostd is gone");
	} else if (priv->fd < 0) {
		run_here(priv, call, fds);
	} else if (!queue_empty || !send_call(priv, call, fds)) {
		dup_fds(call, fds);
		watch(priv, true);
	}
}

bool priv_is_rootless(const struct priv *priv)
{
	return priv->fd < 0;
}

void priv_close(struct priv *priv)
{
	struct err err;

	if (!priv || priv->closed)
		return;
	priv->closed = true;
	err_set(&err, ERR_CANCELLED, "vdi-hostd is ending");
	while (priv->first)
		deliver_first(priv, &err);
	if (priv->fd >= 0)
		uv_close((uv_handle_t *)&priv->poll, on_closed);
	uv_close((uv_handle_t *)&priv->later, on_closed);
}
