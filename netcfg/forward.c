#include "netcfg/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

static int forward_check(const struct netcfg_forward *forward, struct err *err)
{
	if (forward->protocol != NETCFG_TCP && forward->protocol != NETCFG_UDP)
		return err_set(err, ERR_INVALID, "a port forward is for tcp or udp");
	if (netcfg_addr_check("a guest's address", &forward->guest, err) < 0)
		return -1;
	if (forward->host.family && forward->host.family != forward->guest.family)
		return err_set(err, ERR_INVALID,
			       "a port forward cannot lead from one family to the other");
	const unsigned int n = forward->port_last - forward->port_first + 1u;
	if (forward->port_first == 0 || forward->port_last < forward->port_first ||
	    n > NETCFG_FORWARD_PORTS_MAX)
		return err_set(err, ERR_INVALID, "%u to %u are no 1 to %d ports",
			       forward->port_first, forward->port_last, NETCFG_FORWARD_PORTS_MAX);
	if (forward->guest_port == 0 || forward->guest_port + n - 1 > UINT16_MAX)
		return err_set(err, ERR_INVALID, "the guest has no %u ports from %u on", n,
			       forward->guest_port);
	return 0;
}

static unsigned int forward_count(const struct netcfg_forward *forward)
{
	return forward->port_last - forward->port_first + 1u;
}

/* The element of the @i-th port; @value: with what it leads to. */
static void forward_elem(const struct netcfg_forward *forward, unsigned int i, bool value,
			 struct nft_elem *ret)
{
	const uint8_t protocol = forward->protocol == NETCFG_TCP ? IPPROTO_TCP : IPPROTO_UDP;
	const uint16_t port = htons((uint16_t)(forward->port_first + i));
	const uint16_t guest_port = htons((uint16_t)(forward->guest_port + i));
	size_t size;
	const void *bytes;
	*ret = (struct nft_elem){.family = NFPROTO_INET};
	snprintf(ret->set, sizeof(ret->set), "redirect%d%s",
		 forward->guest.family == AF_INET ? 4 : 6, forward->host.family ? "" : "-any");
	if (forward->host.family) {
		bytes = netcfg_addr_bytes(&forward->host, &size);
		nft_elem_key(ret, bytes, size);
	}
	nft_elem_key(ret, &protocol, sizeof(protocol));
	nft_elem_key(ret, &port, sizeof(port));
	if (!value)
		return;
	bytes = netcfg_addr_bytes(&forward->guest, &size);
	nft_elem_data(ret, bytes, size);
	nft_elem_data(ret, &guest_port, sizeof(guest_port));
}

enum found { NOTHING, SAME, ELSEWHERE };

/* Where the @i-th port leads now; 0 or an errno. */
static int forward_look(struct netcfg *netcfg, const struct netcfg_forward *forward, unsigned int i,
			enum found *ret)
{
	struct nft_elem wanted, now;
	forward_elem(forward, i, true, &wanted);
	forward_elem(forward, i, false, &now);
	int sys = nft_elem_get(netcfg, &now);
	if (sys != 0 && sys != ENOENT)
		return sys;
	if (sys == ENOENT)
		*ret = NOTHING;
	else if (now.data_size == wanted.data_size &&
		 memcmp(now.data, wanted.data, now.data_size) == 0)
		*ret = SAME;
	else
		*ret = ELSEWHERE;
	return 0;
}

static int forwarding_enable(const struct netcfg_forward *forward, struct err *err)
{
	return forward->guest.family == AF_INET ? nft_forwarding4_enable(err)
						: nft_forwarding6_enable(err);
}

static int frame_put(struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = nft_text_open(&text, &size);
	nft_frame_inet_write(out);
	nft_text_close(out);
	return nft_run("make the table", text, NULL, err);
}

int netcfg_forward_ensure(struct netcfg *netcfg, const struct netcfg_forward *forward,
			  struct err *err)
{
	_cleanup_(nft_batch_done) struct nft_batch batch = {.n = 0};
	bool there = false;
	uint32_t at;
	if (forward_check(forward, err) < 0)
		return -1;
	int sys = nft_chain_exists(netcfg, NFPROTO_INET, "forwards-all", &there);
	if (sys != 0)
		return nft_err(err, sys, "look up the port forwards");
	if (!there && frame_put(err) < 0)
		return -1;
	for (unsigned int i = 0; i < forward_count(forward); i++) {
		enum found found;
		struct nft_elem elem;
		sys = forward_look(netcfg, forward, i, &found);
		if (sys != 0)
			return nft_err(err, sys, "look up the port forwards");
		if (found == ELSEWHERE)
			return err_set(err, ERR_CONFLICT, "port %u is forwarded elsewhere already",
				       forward->port_first + i);
		forward_elem(forward, i, true, &elem);
		if (found == NOTHING)
			nft_batch_add(&batch, &elem);
	}
	sys = nft_batch_commit(netcfg, &batch, &at);
	if (sys != 0)
		return nft_err(err, sys, "forward the ports");
	return forwarding_enable(forward, err);
}

int netcfg_forward_delete(struct netcfg *netcfg, const struct netcfg_forward *forward,
			  struct err *err)
{
	_cleanup_(nft_batch_done) struct nft_batch batch = {.n = 0};
	uint32_t at;
	if (forward_check(forward, err) < 0)
		return -1;
	for (unsigned int i = 0; i < forward_count(forward); i++) {
		enum found found;
		struct nft_elem elem;
		int sys = forward_look(netcfg, forward, i, &found);
		if (sys != 0)
			return nft_err(err, sys, "look up the port forwards");
		forward_elem(forward, i, false, &elem);
		if (found == SAME)
			nft_batch_delete(&batch, &elem);
	}
	int sys = nft_batch_commit(netcfg, &batch, &at);
	return sys == 0 ? 0 : nft_err(err, sys, "end the port forward");
}

int netcfg_forward_has(struct netcfg *netcfg, const struct netcfg_forward *forward, bool *ret,
		       struct err *err)
{
	if (forward_check(forward, err) < 0)
		return -1;
	for (unsigned int i = 0; i < forward_count(forward); i++) {
		enum found found;
		int sys = forward_look(netcfg, forward, i, &found);
		if (sys != 0)
			return nft_err(err, sys, "look up the port forwards");
		if (found != SAME) {
			*ret = false;
			return 0;
		}
	}
	*ret = true;
	return 0;
}
