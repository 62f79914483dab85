/* Inside of broker/ only. */
#pragma once

#include <uthash.h>

#include "base/listener.h"
#include "base/mem.h"
#include "vdi-hostd/broker/broker.h"

#define TICKET_TOKEN_BYTES 16
#define TICKET_TOKEN_LEN   (2 * TICKET_TOKEN_BYTES)

/**
 * struct ticket - the right to open one desktop's screen until it expires
 * @token: names the ticket on the gateway's port; what opens the screen is the password, which QEMU
 * checks
 */
struct ticket {
	char token[TICKET_TOKEN_LEN + 1];
	char desktop_id[STR_UUID_LEN + 1];
	int64_t expires_at; /* ms since 1970 */
	UT_hash_handle hh;
};

struct guest; /* a client on the gateway's port that has not shown a ticket yet */

struct broker {
	uv_loop_t *loop;
	struct desktops *desktops;
	char host[256];
	int64_t ttl_s;
	struct listener *listener;
	int port;
	struct ticket *tickets;
	struct guest *guests; /* the one that came first, first */
	size_t n_guests;
};

/* ticket.c */
/** ticket_new() - the desktop's one ticket; an older one is forgotten. Borrowed. */
const struct ticket *ticket_new(struct broker *broker, const char *desktop_id);
/** ticket_find() - ERR_DENIED for one that is unknown or expired */
const struct ticket *ticket_find(struct broker *broker, const char *token, struct err *err);
void tickets_free(struct broker *broker);

/* gateway.c */
int gateway_open(struct broker *broker, const char *address, int port, struct err *err) warn_unused;
void gateway_close(struct broker *broker);

/** gateway_parse() - the token of "CONNECT TOKEN:PORT HTTP/1.x"; @ret has TICKET_TOKEN_LEN + 1
 * bytes */
int gateway_parse(const char *request, size_t len, char *ret, struct err *err) warn_unused;
