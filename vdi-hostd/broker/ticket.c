#include <string.h>

#include "vdi-hostd/broker/private.h"

static void forget(struct broker *broker, struct ticket *ticket)
{
	HASH_DEL(broker->tickets, ticket);
	free(ticket);
}

/* One ticket a desktop: there are never more than desktops, and going through them is cheap. */
static void forget_stale(struct broker *broker, const char *desktop_id)
{
	int64_t now = str_now_ms();
	struct ticket *ticket, *next;
	HASH_ITER (hh, broker->tickets, ticket, next) {
		if (ticket->expires_at <= now || strcmp(ticket->desktop_id, desktop_id) == 0)
			forget(broker, ticket);
	}
}

const struct ticket *ticket_new(struct broker *broker, const char *desktop_id)
{
	forget_stale(broker, desktop_id);
	struct ticket *ticket = mem_new(struct ticket);
	str_random_hex(ticket->token, TICKET_TOKEN_BYTES);
	memcpy(ticket->desktop_id, desktop_id, sizeof(ticket->desktop_id));
	ticket->expires_at = str_now_ms() + broker->ttl_s * 1000;
	HASH_ADD_STR(broker->tickets, token, ticket);
	return ticket;
}

const struct ticket *ticket_find(struct broker *broker, const char *token, struct err *err)
{
	struct ticket *ticket = NULL;
	HASH_FIND_STR(broker->tickets, token, ticket);
	if (ticket && ticket->expires_at > str_now_ms())
		return ticket;
	if (ticket)
		forget(broker, ticket);
	err_set(err, ERR_DENIED, "this ticket has expired; ask for a new one");
	return NULL;
}

void tickets_free(struct broker *broker)
{
	struct ticket *ticket, *next;
	HASH_ITER (hh, broker->tickets, ticket, next) {
		forget(broker, ticket);
	}
}
