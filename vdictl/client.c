#include "vdictl/client.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json_line.h"
#include "base/mem.h"
#include "base/str.h"

#define SYSTEM_SOCKET "/run/vdi-hostd/control.sock"
#define LINE_MAX_IN   (256u << 20) /* screenshots come as one line */
#define DEPTH_MAX     64           /* an answer nests deeper than a request */
#define CHUNK         (64u << 10)

struct client {
	int fd;
	bool lost;
	json_int_t last_id;
	char *in;
	size_t len, size; /* bytes in `in`, and its room */
	size_t at;        /* where the next line begins */
};

/* Root and whoever may use the host's daemon mean that one; else the user's own. */
static int usual_path(char *ret, size_t size)
{
	const char *named = getenv("VDI_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
	if (named && *named)
		return str_copy(ret, size, named);
	if (geteuid() == 0 || !runtime || !*runtime || access(SYSTEM_SOCKET, F_OK) == 0)
		return str_copy(ret, size, SYSTEM_SOCKET);
	return str_path_join(ret, size, runtime, "vdi-hostd/control.sock");
}

int client_open(const char *path, struct client **ret, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fits = path ? str_copy(addr.sun_path, sizeof(addr.sun_path), path)
			: usual_path(addr.sun_path, sizeof(addr.sun_path));
	if (fits < 0)
		return err_set(err, ERR_INVALID, "the path of a socket has at most %zu bytes",
			       sizeof(addr.sun_path) - 1);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot make a socket");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno == EACCES || errno == EPERM)
			return err_set(err, ERR_DENIED,
				       "%s may be used by root and the members of its group only",
				       addr.sun_path);
		return err_set_sys(err, ERR_UNAVAILABLE, errno,
				   "vdi-hostd is not reachable at %s (is it running?)",
				   addr.sun_path);
	}
	struct client *client = mem_new(struct client);
	client->fd = TAKE_FD(fd);
	*ret = client;
	return 0;
}

void client_free(struct client *client)
{
	if (!client)
		return;
	close(client->fd);
	free(client->in);
	free(client);
}

bool client_is_lost(const struct client *client)
{
	return client->lost;
}

static int lose(struct client *client, int sys, struct err *err)
{
	client->lost = true;
	if (sys != 0)
		return err_set_sys(err, ERR_UNAVAILABLE, sys, "the connection to vdi-hostd broke");
	return err_set(err, ERR_UNAVAILABLE, "vdi-hostd closed the connection");
}

static int send_line(struct client *client, char *line, size_t len, int fd, struct err *err)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	while (len > 0) {
		iov.iov_base = line;
		iov.iov_len = len;
		ssize_t n = sendmsg(client->fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lose(client, errno, err);
		/* the descriptor went with the first byte */
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Moves what is left to the front and reads more behind it. */
static int receive(struct client *client, struct err *err)
{
	client->len -= client->at;
	memmove(client->in, client->in + client->at, client->len);
	client->at = 0;
	if (client->len > LINE_MAX_IN)
		return err_set(err, ERR_LIMIT, "vdi-hostd answered with more than %u bytes",
			       LINE_MAX_IN);
	if (client->size - client->len < CHUNK) {
		client->size = 2 * client->size + CHUNK;
		client->in = mem_realloc(client->in, client->size, 1);
	}
	ssize_t n;
	do
		n = recv(client->fd, client->in + client->len, client->size - client->len, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return lose(client, n < 0 ? errno : 0, err);
	client->len += (size_t)n;
	return 0;
}

/* The next JSON text; bytes that were searched for its end are not searched again. */
static int next_text(struct client *client, json_t **ret, struct err *err)
{
	if (!client->in)
		client->in = mem_calloc(1, client->size = CHUNK);
	size_t searched = 0;
	for (;;) {
		char *line = client->in + client->at;
		size_t left = client->len - client->at;
		char *end = memchr(line + searched, '\n', left - searched);
		if (end) {
			client->at += (size_t)(end - line) + 1;
			if (json_line_parse(line, (size_t)(end - line), DEPTH_MAX, ret, err) == 0)
				return 0;
			err->code = ERR_CORRUPT;
			return err_prefix(err, "vdi-hostd's answer cannot be read");
		}
		searched = left;
		if (receive(client, err) < 0)
			return -1;
	}
}

static int fail_by(const json_t *error, struct err *err)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	json_t *data = json_object_get(error, "data");
	const char *kind = json_string_value(json_object_get(data, "kind"));
	const char *field = json_string_value(json_object_get(data, "field"));
	json_int_t code = json_integer_value(json_object_get(error, "code"));

	enum err_code fits = kind ? err_code_from_name(kind) : ERR_INTERNAL;
	if (code == -32602 || code == -32601)
		fits = ERR_INVALID;
	err_set(err, fits, "%s", message ? message : "the request failed, without a reason given");
	if (field && str_copy(err->field, sizeof(err->field), field) < 0)
		err->field[0] = '\0';
	return -1;
}

int client_call(struct client *client, const char *method, json_t *params, int fd, json_t **ret,
		struct err *err)
{
	json_int_t id = ++client->last_id;
	_cleanup_json_ json_t *request =
		json_pack("{ss sI ss so}", "jsonrpc", "2.0", "id", id, "method", method, "params",
			  params ? json_incref(params) : json_object());
	if (!request)
		return err_set(err, ERR_INVALID, "the name of a method is UTF-8 text");
	_cleanup_free_ char *text = json_dumps(request, JSON_COMPACT);
	size_t len = strlen(text);
	text[len] = '\n'; /* in place of the NUL: the length is known */
	if (send_line(client, text, len + 1, fd, err) < 0)
		return -1;
	for (;;) {
		_cleanup_json_ json_t *answer = NULL;
		if (next_text(client, &answer, err) < 0)
			return -1;
		json_t *answer_id = json_object_get(answer, "id");
		json_t *error = json_object_get(answer, "error");
		/* an answer without an id is to a line that could not be read: ours */
		bool nobodys = error && json_is_null(answer_id);
		if (!nobodys &&
		    !(json_is_integer(answer_id) && json_integer_value(answer_id) == id))
			continue;
		if (error)
			return fail_by(error, err);
		*ret = json_incref(json_object_get(answer, "result"));
		if (!*ret)
			*ret = json_null();
		return 0;
	}
}

int client_next(struct client *client, json_t **ret, struct err *err)
{
	for (;;) {
		_cleanup_json_ json_t *text = NULL;
		if (next_text(client, &text, err) < 0)
			return -1;
		json_t *params = json_object_get(text, "params");
		if (!json_object_get(text, "method") || !params)
			continue;
		*ret = json_incref(params);
		return 0;
	}
}
