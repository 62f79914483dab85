#include "vdi-hostd/api/server.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/db/idempotency.h"

#define PATIENCE_MS 60000
#define PAUSE_AT    (1u << 20) /* unread answers at which a client's requests wait */

static void on_patience_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_patience(struct client *client)
{
	uv_timer_t *timer = TAKE_PTR(client->patience);
	if (timer)
		uv_close((uv_handle_t *)timer, on_patience_closed);
}

static void client_free(struct client *client)
{
	struct api_server *server = client->server;
	if (client->prev)
		client->prev->next = client->next;
	else
		server->clients = client->next;
	if (client->next)
		client->next->prev = client->prev;
	server->n_clients--;
	for (struct api_call *call = server->calls; call; call = call->next)
		if (call->client == client)
			call->client = NULL;
	stop_patience(client);
	subscription_free(client);
	conn_close(client->conn, NULL, NULL);
	free(client);
}

static void on_impatient(uv_timer_t *timer)
{
	struct client *client = timer->data;
	log_info("a client (pid %d) does not read its answers; its connection is closed",
		 (int)client->caller.pid);
	client_free(client);
}

static void start_patience(struct client *client, uint64_t ms)
{
	if (!client->patience) {
		client->patience = mem_new(uv_timer_t);
		uv_timer_init(client->server->host->loop, client->patience);
		client->patience->data = client;
	}
	uv_timer_start(client->patience, on_impatient, ms, 0);
}

/* Reading stops while too much is under way or unread, and goes on by itself. */
static void update_pause(struct client *client)
{
	bool full = conn_queued(client->conn) > PAUSE_AT;
	bool paused = full || client->n_calls >= API_CALLS_MAX;
	if (full && !client->patience) {
		start_patience(client, client->server->patience_ms);
	} else if (!full && !client->lost_answer) {
		stop_patience(client);
	}
	if (paused == client->paused)
		return;
	client->paused = paused;
	conn_pause(client->conn, paused);
}

void client_send(struct client *client, const char *bytes, size_t len)
{
	struct err err;
	int failed = conn_send(client->conn, bytes, len, -1, &err);
	update_pause(client);
	/* an answer was lost, and the client would wait for it: its connection ends, from the loop,
	 * for the caller still works on it */
	if (failed && err.code == ERR_LIMIT) {
		client->lost_answer = true;
		start_patience(client, 0);
	}
}

void client_call_ended(struct client *client)
{
	client->n_calls--;
	update_pause(client);
}

static void on_line(struct conn *conn, void *data, char *line, size_t len)
{
	struct client *client = data;
	api_handle_line(client, line, len);
	update_pause(client);
}

/* A connection that is over takes no more from conn_send(): this one line goes straight to the
 * socket. */
static void say_last_words(int fd, int code, const char *kind, const char *message)
{
	char line[1024];
	int n = snprintf(
		line, sizeof(line),
		"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":%d,\"message\":\"%s\","
		"\"data\":{\"kind\":\"%s\"}}}\n",
		code, message, kind);
	ssize_t ignored = send(fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ignored;
}

static void on_end(struct conn *conn, void *data, const struct err *err)
{
	if (err->code == ERR_LIMIT)
		say_last_words(conn_fd(conn), -32600, "limit",
			       "a request is longer than 1 MiB; send less in one line");
	client_free(data);
}

static void on_drained(struct conn *conn, void *data)
{
	struct client *client = data;
	update_pause(client);
	if (client->subscription)
		subscription_pump(client);
}

static const struct conn_ops client_ops = {
	.line = on_line,
	.end = on_end,
	.drained = on_drained,
};

/* Is this account a member of the administrators' group, by its primary group or by /etc/group? */
static bool is_member(const struct api_server *server, const struct ucred *peer,
		      const struct passwd *account)
{
	gid_t groups[256];
	int n = ARRAY_LEN(groups);
	if (!server->has_group)
		return false;
	if (peer->gid == server->group)
		return true;
	if (!account || getgrouplist(account->pw_name, account->pw_gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++)
		if (groups[i] == server->group)
			return true;
	return false;
}

/* Who is calling is the kernel's word, stamped once. */
static int stamp_caller(const struct api_server *server, int fd, struct api_caller *ret)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -1;
	*ret = (struct api_caller){.uid = peer.uid, .pid = peer.pid};
	const struct passwd *account = peer.uid ? getpwuid(peer.uid) : NULL;
	snprintf(ret->name, sizeof(ret->name), "%s",
		 peer.uid == 0 ? "root"
		 : account     ? account->pw_name
			       : "");
	if (peer.uid != 0 && peer.uid != geteuid() && !is_member(server, &peer, account))
		return -1;
	ret->role = API_ROLE_ADMIN;
	return 0;
}

static size_t count_clients(const struct api_server *server, uid_t uid)
{
	size_t n = 0;
	for (const struct client *client = server->clients; client; client = client->next)
		n += client->caller.uid == uid;
	return n;
}

static void client_new(void *data, int fd)
{
	struct api_server *server = data;
	static const struct conn_limits limits = {API_LINE_MAX, API_QUEUE_MAX};
	struct api_caller caller;
	struct err err;
	if (server->n_clients >= API_CLIENTS_MAX) {
		say_last_words(fd, -32000, "limit", "too many connections; close some, try again");
		close(fd);
		return;
	}
	if (stamp_caller(server, fd, &caller) < 0) {
		say_last_words(fd, -32000, "denied",
			       "this account may not use the control API; ask an administrator to "
			       "add it to the daemon's group");
		close(fd);
		return;
	}
	if (count_clients(server, caller.uid) >= API_SHARE_MAX) {
		say_last_words(fd, -32000, "limit",
			       "this account has too many connections; close some, try again");
		close(fd);
		return;
	}
	struct client *client = mem_new(struct client);
	client->server = server;
	client->caller = caller;
	if (conn_open(server->host->loop, fd, &client_ops, limits, client, &client->conn, &err) <
	    0) {
		log_warn("a client was turned away: %s", err.msg);
		free(client);
		return;
	}
	client->next = server->clients;
	if (client->next)
		client->next->prev = client;
	server->clients = client;
	server->n_clients++;
}

/* A socket that nobody answers is left over from a daemon that was killed. */
static int clear_path(const struct sockaddr_un *addr, struct err *err)
{
	_cleanup_close_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	if (lstat(addr->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(
			err, ERR_EXISTS,
			"%s is there and is no socket; move it away, or name another --socket",
			addr->sun_path);
	if (connect(probe, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return err_set(err, ERR_BUSY,
			       "another daemon answers at %s; stop it, or name another --socket",
			       addr->sun_path);
	if (errno != ECONNREFUSED)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot tell whether a daemon answers at %s", addr->sun_path);
	if (unlink(addr->sun_path) < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot replace the socket %s", addr->sun_path);
	return 0;
}

static int bind_socket(struct api_server *server, const struct api_server_config *config,
		       struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (str_copy(addr.sun_path, sizeof(addr.sun_path), config->socket) < 0)
		return err_set(err, ERR_LIMIT,
			       "the path of the control socket is longer than %zu bytes; name "
			       "another --socket",
			       sizeof(addr.sun_path) - 1);
	if (clear_path(&addr, err) < 0)
		return -1;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    (server->has_group && chown(addr.sun_path, (uid_t)-1, server->group) < 0) ||
	    chmod(addr.sun_path, server->has_group ? 0660 : 0600) < 0 || listen(fd, SOMAXCONN) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot listen at %s",
				   addr.sun_path);
	memcpy(server->path, addr.sun_path, sizeof(server->path));
	return TAKE_FD(fd);
}

static int open_listener(struct api_server *server, const struct api_server_config *config,
			 struct err *err)
{
	int fd = bind_socket(server, config, err);
	if (fd < 0)
		return -1;
	return listener_open(server->host->loop, fd, client_new, server, &server->listener, err);
}

static void close_listener(struct api_server *server)
{
	if (!server->listener)
		return;
	unlink(server->path);
	listener_close(TAKE_PTR(server->listener));
}

static void add_methods(struct api_server *server)
{
	for (const struct api_method *const *table = server->tables; *table; table++)
		for (const struct api_method *method = *table; method->name; method++) {
			struct method_entry *entry = mem_new(struct method_entry);
			entry->method = method;
			HASH_ADD_KEYPTR(hh, server->methods, method->name, strlen(method->name),
					entry);
		}
}

int api_server_new(const struct api_host *host, const struct api_server_config *config,
		   const struct api_method *const *tables, struct api_server **ret, struct err *err)
{
	const struct group *group = config->group ? getgrnam(config->group) : NULL;
	if (config->group && !group)
		return err_set(err, ERR_NOT_FOUND, "there is no group '%s'", config->group);
	if (db_idempotency_prune(host->db, str_now_ms() - DAY_MS, true, err) < 0)
		return -1;
	struct api_server *server = mem_new(struct api_server);
	server->host = host;
	server->tables = tables;
	server->patience_ms = config->patience_ms ? config->patience_ms : PATIENCE_MS;
	server->has_group = group != NULL;
	server->group = group ? group->gr_gid : 0;
	add_methods(server);
	if (open_listener(server, config, err) < 0) {
		api_server_free(server);
		return -1;
	}
	db_event_listen(host->db, subscriptions_tell, server);
	*ret = server;
	return 0;
}

/* Calls under way stay: their owners answer them while the daemon takes its parts down. */
void api_server_free(struct api_server *server)
{
	if (!server)
		return;
	db_event_listen(server->host->db, NULL, NULL);
	close_listener(server);
	while (server->clients)
		client_free(server->clients);
	struct method_entry *entry, *next;
	HASH_ITER (hh, server->methods, entry, next) {
		HASH_DEL(server->methods, entry);
		free(entry);
	}
	for (struct api_call *call = server->calls; call; call = call->next)
		call->server = NULL;
	free(server->text.bytes);
	free(server);
}
