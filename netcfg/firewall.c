#include "netcfg/firewall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define I "inet " NFT_TABLE
#define B "bridge " NFT_TABLE

/* One network's chains, and the maps that lead to them by the bridge's name. */
static const struct {
	const char *chain, *map;
} parts[] = {
	{"input", "input"},   {"from", "forward_from"},   {"to", "forward_to"},
	{"source", "source"}, {"source-to", "source_to"},
};

static const char *family_of(const struct netcfg_addr *address)
{
	return address->family == AF_INET ? "ip" : "ip6";
}

static int network_check(const struct netcfg_firewall *network, struct err *err)
{
	if (netcfg_name_check("bridge", network->bridge, err) < 0)
		return -1;
	if (network->kind < NETCFG_FIREWALL_NAT || network->kind > NETCFG_FIREWALL_BRIDGED)
		return err_set(err, ERR_INVALID, "firewall: there is no kind %d of network",
			       (int)network->kind);
	if (network->n_addresses > NETCFG_FIREWALL_ADDRS_MAX ||
	    network->n_openings > NETCFG_FIREWALL_OPENINGS_MAX)
		return err_set(err, ERR_INVALID, "network on %s: over %d addresses or %d openings",
			       network->bridge, NETCFG_FIREWALL_ADDRS_MAX,
			       NETCFG_FIREWALL_OPENINGS_MAX);
	for (unsigned int i = 0; i < network->n_addresses; i++)
		if (netcfg_subnet_check(&network->addresses[i], err) < 0)
			return -1;
	for (unsigned int i = 0; i < network->n_openings; i++) {
		const struct netcfg_opening *opening = &network->openings[i];
		if ((opening->protocol != NETCFG_TCP && opening->protocol != NETCFG_UDP) ||
		    opening->port_first == 0 || opening->port_last < opening->port_first)
			return err_set(err, ERR_INVALID,
				       "network on %s: opening %u is no range of tcp or udp ports",
				       network->bridge, i);
	}
	return 0;
}

/* ---- what one network's chains say ---- */

/* The guests' way to the host itself. */
static void input_write(FILE *text, const struct netcfg_firewall *network)
{
	const char *b = network->bridge;
	char host[INET6_ADDRSTRLEN];
	fprintf(text, "add rule " I " net-%s-input ct state established,related accept\n", b);
	fprintf(text, "add rule " I " net-%s-input udp dport 67 accept\n", b);
	fprintf(text, "add rule " I " net-%s-input meta nfproto ipv6 udp dport 547 accept\n", b);
	for (unsigned int i = 0; i < network->n_addresses; i++) {
		const struct netcfg_addr *own = &network->addresses[i];
		size_t size;
		inet_ntop(own->family, netcfg_addr_bytes(own, &size), host, sizeof(host));
		fprintf(text,
			"add rule " I " net-%s-input %s daddr %s meta l4proto { tcp, udp } "
			"th dport 53 accept\n",
			b, family_of(own), host);
	}
	fprintf(text,
		"add rule " I " net-%s-input ip6 daddr fe80::/10 meta l4proto { tcp, udp } "
		"th dport 53 accept\n",
		b);
	fprintf(text, "add rule " I " net-%s-input icmp type echo-request accept\n", b);
	fprintf(text,
		"add rule " I " net-%s-input icmpv6 type { echo-request, nd-router-solicit, "
		"nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept\n",
		b);
	for (unsigned int i = 0; i < network->n_openings; i++) {
		const struct netcfg_opening *opening = &network->openings[i];
		fprintf(text, "add rule " I " net-%s-input %s dport %u-%u accept\n", b,
			opening->protocol == NETCFG_TCP ? "tcp" : "udp", opening->port_first,
			opening->port_last);
	}
	fprintf(text, "add rule " I " net-%s-input drop\n", b);
}

/* The guests' way out, and what comes in to them. */
static void forward_write(FILE *text, const struct netcfg_firewall *network)
{
	const char *b = network->bridge;
	char net[NETCFG_ADDR_TEXT_MAX];
	const bool out = network->kind != NETCFG_FIREWALL_ISOLATED;
	fprintf(text, "add rule " I " net-%s-from oifname \"%s\" accept\n", b, b);
	if (!out)
		fprintf(text,
			"add rule " I " net-%s-from ct state established,related "
			"ct status dnat accept\n",
			b);
	for (unsigned int i = 0; i < network->n_addresses; i++) {
		const struct netcfg_addr range = netcfg_addr_network(&network->addresses[i]);
		const char *family = family_of(&range);
		netcfg_addr_format(&range, net);
		if (out)
			fprintf(text,
				"add rule " I " net-%s-from %s saddr %s oifname != @bridges "
				"accept\n",
				b, family, net);
		/* nobody out there has an address of ours */
		fprintf(text, "add rule " I " net-%s-to %s saddr %s iifname != \"%s\" drop\n", b,
			family, net, b);
	}
	fprintf(text, "add rule " I " net-%s-to ct status dnat accept\n", b);
	if (out)
		fprintf(text, "add rule " I " net-%s-to ct state established,related accept\n", b);
	if (network->kind == NETCFG_FIREWALL_ROUTED)
		fprintf(text, "add rule " I " net-%s-to iifname != @bridges accept\n", b);
	fprintf(text, "add rule " I " net-%s-from drop\nadd rule " I " net-%s-to drop\n", b, b);
}

static void source_write(FILE *text, const struct netcfg_firewall *network)
{
	const char *b = network->bridge;
	char net[NETCFG_ADDR_TEXT_MAX];
	for (unsigned int i = 0; network->kind == NETCFG_FIREWALL_NAT && i < network->n_addresses;
	     i++) {
		const struct netcfg_addr range = netcfg_addr_network(&network->addresses[i]);
		fprintf(text,
			"add rule " I " net-%s-source %s saddr %s oifname != \"%s\" masquerade\n",
			b, family_of(&range), netcfg_addr_format(&range, net), b);
	}
	/*
	 * A forwarded port that leads back into the network that it was asked from: the answer
	 * has to come by here again. And a guest without a way out could answer nobody else.
	 */
	if (network->kind == NETCFG_FIREWALL_ISOLATED)
		fprintf(text, "add rule " I " net-%s-source-to ct status dnat masquerade\n", b);
	else
		fprintf(text,
			"add rule " I " net-%s-source-to iifname \"%s\" ct status dnat "
			"masquerade\n",
			b, b);
}

/* The chains, empty. */
static void chains_write(FILE *text, const char *bridge)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		fprintf(text,
			"add chain " I " net-%s-%s\nflush chain " I " net-%s-%s\n"
			"add element " I " %s { \"%s\" : jump net-%s-%s }\n",
			bridge, parts[i].chain, bridge, parts[i].chain, parts[i].map, bridge,
			bridge, parts[i].chain);
	fprintf(text, "add element " I " bridges { \"%s\" }\n", bridge);
}

static void network_write(FILE *text, const struct netcfg_firewall *network)
{
	chains_write(text, network->bridge);
	if (network->kind == NETCFG_FIREWALL_BRIDGED) {
		/* the way out of our other networks may lead over it */
		fprintf(text, "delete element " I " bridges { \"%s\" }\n", network->bridge);
		return;
	}
	input_write(text, network);
	forward_write(text, network);
	source_write(text, network);
}

/* ---- changes ---- */

static int network_put(const struct netcfg_firewall *network, bool with_bridge, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = nft_text_open(&text, &size);
	nft_frame_inet_write(out);
	if (with_bridge)
		nft_frame_bridge_write(out);
	network_write(out, network);
	nft_text_close(out);
	if (nft_run("apply the rules", text, NULL, err) < 0)
		return err_prefix(err, "network on %s", network->bridge);
	return 0;
}

int netcfg_firewall_ensure(struct netcfg *netcfg, const struct netcfg_firewall *network,
			   struct err *err)
{
	struct err why = {0};
	bool v4 = false, v6 = false;
	if (network_check(network, err) < 0)
		return -1;
	/* kernels without nftables for bridges still guard networks, if not NICs */
	if (network_put(network, true, &why) < 0 &&
	    (why.code != ERR_UNSUPPORTED || network_put(network, false, &why) < 0)) {
		if (err)
			*err = why;
		return -1;
	}
	if (network->kind != NETCFG_FIREWALL_NAT && network->kind != NETCFG_FIREWALL_ROUTED)
		return 0;
	/* last: the rules have to stand before the kernel forwards anything */
	for (unsigned int i = 0; i < network->n_addresses; i++) {
		v4 = v4 || network->addresses[i].family == AF_INET;
		v6 = v6 || network->addresses[i].family == AF_INET6;
	}
	if (v4 && nft_forwarding4_enable(err) < 0)
		return -1;
	return v6 ? nft_forwarding6_enable(err) : 0;
}

static void note_one(void *data, const struct nft_found *found)
{
	*(bool *)data = true;
}

static int is_empty(struct netcfg *netcfg, uint8_t family, const char *set, bool *ret,
		    struct err *err)
{
	bool any = false;
	int sys;
	do
		sys = nft_elems_each(netcfg, family, set, note_one, &any);
	while (sys == EINTR);
	if (sys != 0)
		return nft_err(err, sys, "list what is left");
	*ret = !any;
	return 0;
}

int netcfg_firewall_delete(struct netcfg *netcfg, const char *bridge, struct err *err)
{
	bool there;
	if (netcfg_name_check("bridge", bridge, err) < 0)
		return -1;
	int sys = nft_chain_exists(netcfg, NFPROTO_INET, "forwards-all", &there);
	if (sys != 0)
		return nft_err(err, sys, "look up the table");
	if (!there)
		return 0;
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = nft_text_open(&text, &size);
	/*
	 * Deleting what is not there fails the whole transaction, so make it first: then half of a
	 * network, which only somebody else's hand leaves, goes just as well.
	 */
	nft_frame_inet_write(out);
	chains_write(out, bridge);
	fprintf(out, "delete element " I " bridges { \"%s\" }\n", bridge);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		fprintf(out, "delete element " I " %s { \"%s\" }\n", parts[i].map, bridge);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		fprintf(out, "delete chain " I " net-%s-%s\n", bridge, parts[i].chain);
	nft_text_close(out);
	if (nft_run("remove the rules", text, NULL, err) < 0)
		return err_prefix(err, "network on %s", bridge);
	return nft_tables_tidy(netcfg, err);
}

int nft_tables_tidy(struct netcfg *netcfg, struct err *err)
{
	static const char *const sets[] = {"input",     "nics",          "redirect4",
					   "redirect6", "redirect4-any", "redirect6-any"};
	bool empty = true, group = false;
	for (size_t i = 0; empty && i < ARRAY_LEN(sets); i++)
		if (is_empty(netcfg, NFPROTO_INET, sets[i], &empty, err) < 0)
			return -1;
	if (!empty)
		return 0;
	int sys = nft_group_any(netcfg, &group);
	if (sys != 0)
		return nft_err(err, sys, "look up the firewall groups");
	if (nft_run("remove the table", "add table " I "\ndelete table " I "\n", NULL, err) < 0)
		return -1;
	/* a kernel without nftables for bridges has none to be removed */
	struct err why = {0};
	if (!group &&
	    nft_run("remove the table", "add table " B "\ndelete table " B "\n", NULL, &why) < 0 &&
	    why.code != ERR_UNSUPPORTED) {
		if (err)
			*err = why;
		return -1;
	}
	return 0;
}

int netcfg_firewall_owner(struct netcfg *netcfg, uint32_t *ret, struct err *err)
{
	int sys = nft_owner(netcfg, ret);
	return sys == 0 ? 0 : nft_err(err, sys, "ask who it is that changes it");
}

/* Do the hooks still lead to the maps? */
static int frame_stands(struct netcfg *netcfg, bool *ret, struct err *err)
{
	static const struct {
		uint8_t family;
		const char *chain;
		uint32_t rules;
	} hooks[] = {
		{NFPROTO_INET, "input", 2},         {NFPROTO_INET, "forward", 3},
		{NFPROTO_INET, "source", 2},        {NFPROTO_INET, "forwards", 1},
		{NFPROTO_INET, "forwards-own", 1},  {NFPROTO_BRIDGE, "prerouting", 3},
		{NFPROTO_BRIDGE, "postrouting", 2},
	};
	*ret = true;
	for (size_t i = 0; i < ARRAY_LEN(hooks); i++) {
		bool there = false;
		uint32_t use = 0;
		int sys = nft_chain_use(netcfg, hooks[i].family, hooks[i].chain, &there, &use);
		/* not every kernel has a table for bridges */
		if (hooks[i].family == NFPROTO_BRIDGE && (sys != 0 || !there))
			continue;
		if (sys != 0)
			return nft_err(err, sys, "look up the table");
		*ret = *ret && there && use == hooks[i].rules;
	}
	return 0;
}

int netcfg_firewall_has(struct netcfg *netcfg, const char *bridge, bool *ret, struct err *err)
{
	bool stands;
	if (netcfg_name_check("bridge", bridge, err) < 0 || frame_stands(netcfg, &stands, err) < 0)
		return -1;
	if (!stands) {
		*ret = false;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		struct nft_elem elem = {.family = NFPROTO_INET};
		snprintf(elem.set, sizeof(elem.set), "%s", parts[i].map);
		nft_elem_key_name(&elem, bridge);
		int sys = nft_elem_get(netcfg, &elem);
		if (sys != 0 && sys != ENOENT)
			return nft_err(err, sys, "look up the network");
		if (sys == ENOENT) {
			*ret = false;
			return 0;
		}
	}
	*ret = true;
	return 0;
}
