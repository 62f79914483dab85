#include "vdi-hostd/broker/broker.h"

#include <stdio.h>
#include <string.h>

#include "vdi-hostd/broker/private.h"

#define PASSWORD_BYTES 16

int broker_new(uv_loop_t *loop, struct desktops *desktops, const struct broker_config *config,
	       struct broker **ret, struct err *err)
{
	struct broker *broker = mem_new(struct broker);
	broker->loop = loop;
	broker->desktops = desktops;
	broker->ttl_s = config->ticket_ttl_s;
	const char *host = config->public_host[0] ? config->public_host : config->listen;
	if (str_copy(broker->host, sizeof(broker->host), host) < 0 ||
	    gateway_open(broker, config->listen, config->port, err) < 0) {
		broker_free(broker);
		return -1;
	}
	*ret = broker;
	return 0;
}

void broker_free(struct broker *broker)
{
	if (!broker)
		return;
	gateway_close(broker);
	tickets_free(broker);
	free(broker);
}

int broker_port(const struct broker *broker)
{
	return broker->port;
}

struct connecting {
	struct broker *broker;
	struct desktop *desktop;
	char password[2 * PASSWORD_BYTES + 1];
	broker_connect_cb cb;
	void *data;
};

static void connecting_fail(struct connecting *connecting, const struct err *err)
{
	connecting->cb(connecting->data, NULL, err);
	free(connecting);
}

static void describe_way(const struct connecting *connecting, const struct ticket *ticket,
			 struct broker_way *way)
{
	const struct broker *broker = connecting->broker;
	const char *name = desktop_row(connecting->desktop)->name;
	/* an IPv6 address is written in brackets in a URL (RFC 3986, 3.2.2) */
	bool v6 = strchr(broker->host, ':') != NULL;
	*way = (struct broker_way){.expires_at = ticket->expires_at};
	snprintf(way->file_name, sizeof(way->file_name), "%s.vv", name);
	snprintf(way->file, sizeof(way->file),
		 "[virt-viewer]\n"
		 "type=spice\n"
		 "title=%s\n"
		 "host=%s\n"
		 "port=%d\n"
		 "proxy=http://%s%s%s:%d\n"
		 "password=%s\n"
		 "delete-this-file=1\n",
		 name, ticket->token, broker->port, v6 ? "[" : "", broker->host, v6 ? "]" : "",
		 broker->port, connecting->password);
}

static void on_ticket_set(void *data, json_t *result, const struct err *err)
{
	struct connecting *connecting = data;
	struct broker_way way;
	if (err) {
		connecting_fail(connecting, err);
		return;
	}
	const struct db_desktop *row = desktop_row(connecting->desktop);
	describe_way(connecting, ticket_new(connecting->broker, row->id), &way);
	connecting->cb(connecting->data, &way, NULL);
	free(connecting);
}

static void on_password_set(void *data, json_t *result, const struct err *err)
{
	struct connecting *connecting = data;
	/* its answer came through the monitor, which is there therefore */
	struct qmp *qmp = err ? NULL : desktop_qmp(connecting->desktop);
	char until[16];
	if (!qmp) {
		connecting_fail(connecting, err);
		return;
	}
	snprintf(until, sizeof(until), "+%lld", (long long)connecting->broker->ttl_s);
	qmp_execute(qmp, "expire_password",
		    json_pack("{s:s, s:s}", "protocol", "spice", "time", until), 0, on_ticket_set,
		    connecting);
}

static void on_ready(void *data, struct desktop *desktop, const struct err *err)
{
	struct connecting *connecting = data;
	struct err failed;
	if (err) {
		connecting_fail(connecting, err);
		return;
	}
	struct qmp *qmp = desktop_qmp(desktop);
	if (!qmp) {
		err_set(&failed, ERR_UNAVAILABLE,
			"desktop '%s' does not answer now; try again in a moment",
			desktop_row(desktop)->name);
		connecting_fail(connecting, &failed);
		return;
	}
	connecting->desktop = desktop;
	str_random_hex(connecting->password, PASSWORD_BYTES);
	qmp_execute(qmp, "set_password",
		    json_pack("{s:s, s:s, s:s}", "protocol", "spice", "password",
			      connecting->password, "connected", "keep"),
		    0, on_password_set, connecting);
}

void broker_connect_spice(struct broker *broker, struct desktop *desktop, broker_connect_cb cb,
			  void *data)
{
	struct connecting *connecting = mem_new(struct connecting);
	connecting->broker = broker;
	connecting->cb = cb;
	connecting->data = data;
	desktop_make_ready(desktop, on_ready, connecting);
}
