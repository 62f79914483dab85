/*
 * The port that clients come to. A client says "CONNECT TOKEN:PORT HTTP/1.0" (RFC 9110, 9.3.6), as
 * remote-viewer does for each channel when its .vv file names a proxy; the token names a desktop,
 * and the socket goes to that desktop's QEMU. No byte is relayed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/broker/private.h"

#define REQUEST_MAX 2048
#define REQUEST_MS  10000
#define GUESTS_MAX  256

static const char answer_ok[] = "HTTP/1.0 200 OK\r\n\r\n";
static const char answer_bad[] = "HTTP/1.0 400 Bad Request\r\n\r\n";
static const char answer_denied[] = "HTTP/1.0 403 Forbidden\r\n\r\n";
static const char answer_unavailable[] = "HTTP/1.0 503 Service Unavailable\r\n\r\n";

/* A client from its arrival until it has a desktop or is sent away; only these count as load. */
struct guest {
	struct broker *broker;
	int fd;
	uv_poll_t poll;
	uv_timer_t timer;
	int open_handles;
	char request[REQUEST_MAX + 1];
	size_t len;
	struct guest *prev, *next;
};

static void on_handle_closed(uv_handle_t *handle)
{
	struct guest *guest = handle->data;
	if (--guest->open_handles > 0)
		return;
	if (guest->fd >= 0)
		close(guest->fd);
	free(guest);
}

static void guest_close(struct guest *guest)
{
	DL_DELETE(guest->broker->guests, guest);
	guest->broker->n_guests--;
	uv_close((uv_handle_t *)&guest->poll, on_handle_closed);
	uv_close((uv_handle_t *)&guest->timer, on_handle_closed);
}

static void guest_answer(struct guest *guest, const char *answer)
{
	/* a fresh socket has room for these few bytes; a client that is gone is no concern */
	ssize_t ignored = send(guest->fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)ignored;
}

static void guest_refuse(struct guest *guest, const char *answer)
{
	guest_answer(guest, answer);
	guest_close(guest);
}

static void on_too_slow(uv_timer_t *timer)
{
	guest_close(timer->data);
}

int gateway_parse(const char *request, size_t len, char *ret, struct err *err)
{
	static const char method[] = "CONNECT ";
	size_t at = sizeof(method) - 1;
	if (len < at + TICKET_TOKEN_LEN + 1 || memcmp(request, method, at) != 0 ||
	    strspn(request + at, "0123456789abcdef") != TICKET_TOKEN_LEN ||
	    request[at + TICKET_TOKEN_LEN] != ':')
		return err_set(err, ERR_INVALID, "this is no CONNECT with a ticket");
	size_t port = at + TICKET_TOKEN_LEN + 1;
	size_t digits = strspn(request + port, "0123456789");
	if (digits < 1 || digits > 5 || strncmp(request + port + digits, " HTTP/1.", 8) != 0)
		return err_set(err, ERR_INVALID, "this is no CONNECT with a ticket");
	memcpy(ret, request + at, TICKET_TOKEN_LEN);
	ret[TICKET_TOKEN_LEN] = '\0';
	return 0;
}

static void on_handed_over(void *data, json_t *result, const struct err *err)
{
	if (err && err->code != ERR_CANCELLED)
		log_warn("a client did not get to its screen: %s", err->msg);
}

/* QEMU got its copy of the socket with getfd; add_client makes it a SPICE channel. */
static void hand_over(struct guest *guest, struct qmp *qmp)
{
	/* commands of one monitor go in order: one name serves every client */
	static const char name[] = "client";
	guest_answer(guest, answer_ok);
	qmp_execute_fd(qmp, "getfd", json_pack("{s:s}", "fdname", name), guest->fd, 0,
		       on_handed_over, NULL);
	qmp_execute(qmp, "add_client",
		    json_pack("{s:s, s:s, s:b, s:b}", "protocol", "spice", "fdname", name,
			      "skipauth", 0, "tls", 0),
		    0, on_handed_over, NULL);
	guest_close(guest);
}

static void on_request(struct guest *guest)
{
	struct broker *broker = guest->broker;
	char token[TICKET_TOKEN_LEN + 1];
	struct err err;
	if (gateway_parse(guest->request, guest->len, token, &err) < 0) {
		guest_refuse(guest, answer_bad);
		return;
	}
	const struct ticket *ticket = ticket_find(broker, token, &err);
	struct desktop *desktop =
		ticket ? desktops_find(broker->desktops, ticket->desktop_id, &err) : NULL;
	if (!desktop) {
		guest_refuse(guest, answer_denied);
		return;
	}
	struct qmp *qmp = desktop_qmp(desktop);
	if (!qmp)
		guest_refuse(guest, answer_unavailable);
	else
		hand_over(guest, qmp);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct guest *guest = poll->data;
	ssize_t n = recv(guest->fd, guest->request + guest->len, REQUEST_MAX - guest->len,
			 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || status < 0) {
		guest_close(guest);
		return;
	}
	guest->len += (size_t)n;
	guest->request[guest->len] = '\0';
	/* a client waits for the answer: what it sends beyond the request would be lost, so refuse
	 * it */
	const char *end = strstr(guest->request, "\r\n\r\n");
	if (end && end + 4 == guest->request + guest->len)
		on_request(guest);
	else if (end || guest->len == REQUEST_MAX || memchr(guest->request, '\0', guest->len))
		guest_refuse(guest, answer_bad);
}

static void guest_new(struct broker *broker, int fd)
{
	struct guest *guest = mem_new(struct guest);
	guest->broker = broker;
	guest->fd = fd;
	guest->poll.data = guest;
	guest->timer.data = guest;
	guest->open_handles = 2;
	uv_poll_init(broker->loop, &guest->poll, fd);
	uv_timer_init(broker->loop, &guest->timer);
	uv_poll_start(&guest->poll, UV_READABLE | UV_DISCONNECT, on_readable);
	uv_timer_start(&guest->timer, on_too_slow, REQUEST_MS, 0);
	DL_APPEND(broker->guests, guest);
	broker->n_guests++;
}

static void on_accepted(void *data, int fd)
{
	struct broker *broker = data;
	/* a client says at once what it wants: who has been silent longest makes room */
	if (broker->n_guests >= GUESTS_MAX)
		guest_close(broker->guests);
	guest_new(broker, fd);
}

static int bind_listener(const char *address, int port, int *ret_port, struct err *err)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int one = 1;
	if (uv_ip4_addr(address, port, (struct sockaddr_in *)&addr) < 0 &&
	    uv_ip6_addr(address, port, (struct sockaddr_in6 *)&addr) < 0)
		return err_set_field(err, "listen", "'%.64s' is no IP address to listen at",
				     address);
	_cleanup_close_ int fd =
		socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = addr.ss_family == AF_INET ? sizeof(struct sockaddr_in)
						   : sizeof(struct sockaddr_in6);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&addr, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot listen for screens at %s port %d", address, port);
	*ret_port = ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *)&addr)->sin_port
						    : ((struct sockaddr_in6 *)&addr)->sin6_port);
	return TAKE_FD(fd);
}

int gateway_open(struct broker *broker, const char *address, int port, struct err *err)
{
	int fd = bind_listener(address, port, &broker->port, err);
	if (fd < 0)
		return -1;
	return listener_open(broker->loop, fd, on_accepted, broker, &broker->listener, err);
}

void gateway_close(struct broker *broker)
{
	while (broker->guests)
		guest_close(broker->guests);
	listener_close(TAKE_PTR(broker->listener));
}
