/*
 * Does dnsmasq answer? A process that runs may hang. Each is asked for a name that it has to know
 * nothing of; any answer will do (RFC 1035). One that keeps silent is ended, and started again as
 * one that died. Where it serves no names, the kernel says whether it is stopped.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

#define ASK_MS     4000
#define SILENT_MAX 3 /* answers missed in a row */

struct liveness {
	struct networks *all;
	uv_udp_t udp;
	uv_timer_t timer;
	int n_handles;
	char buf[512];
};

/* one name, "vdi-hostd", type A, no recursion wanted; the id is the network's slot */
static size_t make_question(uint16_t id, uint8_t ret[32])
{
	static const uint8_t rest[] = {0,   0,   0,   1,   0,   0,   0,   0, 0, 0, 9, 'v', 'd',
				       'i', '-', 'h', 'o', 's', 't', 'd', 0, 0, 1, 0, 1};
	ret[0] = (uint8_t)(id >> 8);
	ret[1] = (uint8_t)id;
	memcpy(ret + 2, rest, sizeof(rest));
	return sizeof(rest) + 2;
}

/* proc(5), /proc/PID/stat: the state follows the name in parentheses */
static bool is_stopped(const struct network *network)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%" PRId64 "/stat", network->row.dnsmasq_pid);
	FILE *in = fopen(path, "re");
	size_t n = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
	if (in)
		fclose(in);
	text[n] = '\0';
	const char *end = strrchr(text, ')');
	return end && end[1] == ' ' && (end[2] == 'T' || end[2] == 't');
}

static void ask(struct liveness *liveness, const struct network *network)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
	uint8_t question[32];
	size_t len = make_question((uint16_t)network->row.slot, question);
	const uv_buf_t buf = uv_buf_init((char *)question, (unsigned int)len);
	to.sin_addr.s_addr = htonl(network->row.address);
	/* what cannot be sent is not answered, and counts as such */
	(void)!uv_udp_try_send(&liveness->udp, &buf, 1, (const struct sockaddr *)&to);
}

static void look_after(struct liveness *liveness, struct network *network)
{
	if (!network->watch || network->plan || network->settling) {
		network->silent = 0;
		return;
	}
	if (network->silent >= SILENT_MAX) {
		log_warn("network %s: dnsmasq does not answer; it is ended and started again",
			 network->row.name);
		network->silent = 0;
		dnsmasq_kill(network);
		return;
	}
	if (network->row.dns) {
		network->silent++;
		ask(liveness, network);
	} else {
		network->silent = is_stopped(network) ? network->silent + 1 : 0;
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct liveness *liveness = timer->data;
	struct network *network, *next;
	HASH_ITER (by_id, liveness->all->by_id, network, next) {
		if (network_has_dnsmasq(network))
			look_after(liveness, network);
	}
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
	struct liveness *liveness = handle->data;
	*ret = uv_buf_init(liveness->buf, sizeof(liveness->buf));
}

static void on_answer(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
		      unsigned int flags)
{
	struct liveness *liveness = udp->data;
	const uint8_t *bytes = (const uint8_t *)buf->base;
	if (n < 12 || !from || from->sa_family != AF_INET)
		return;
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from;
	unsigned int slot = (unsigned int)bytes[0] << 8 | bytes[1];
	for (struct network *network = liveness->all->by_id; network; network = network->by_id.next)
		if (network->row.slot == slot && in->sin_port == htons(53) &&
		    in->sin_addr.s_addr == htonl(network->row.address))
			network->silent = 0;
}

struct liveness *liveness_new(struct networks *all)
{
	struct liveness *liveness = mem_new(struct liveness);
	const struct sockaddr_in any = {.sin_family = AF_INET};
	liveness->all = all;
	uv_udp_init(all->loop, &liveness->udp);
	uv_timer_init(all->loop, &liveness->timer);
	liveness->udp.data = liveness->timer.data = liveness;
	liveness->n_handles = 2;
	if (uv_udp_bind(&liveness->udp, (const struct sockaddr *)&any, 0) < 0 ||
	    uv_udp_recv_start(&liveness->udp, on_alloc, on_answer) < 0)
		log_warn("whether dnsmasq answers is not looked at: no socket");
	else
		uv_timer_start(&liveness->timer, on_timer, ASK_MS, ASK_MS);
	/* neither keeps a loop going that has nothing else to do */
	uv_unref((uv_handle_t *)&liveness->udp);
	uv_unref((uv_handle_t *)&liveness->timer);
	return liveness;
}

static void on_closed(uv_handle_t *handle)
{
	struct liveness *liveness = handle->data;
	if (--liveness->n_handles == 0)
		free(liveness);
}

void liveness_free(struct liveness *liveness)
{
	if (!liveness)
		return;
	uv_close((uv_handle_t *)&liveness->udp, on_closed);
	uv_close((uv_handle_t *)&liveness->timer, on_closed);
}
