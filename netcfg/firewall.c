#include "netcfg/firewall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define I "inet " NFT_TABLE
#define B "bridge " NFT_TABLE

#define HASH_DIGITS 16 /* of netcfg_hash() */

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
	if (network->hears_dhcp && network->kind != NETCFG_FIREWALL_BRIDGED)
		return err_set(err, ERR_INVALID,
			       "network on %s: only kind bridged has DHCP servers of others",
			       network->bridge);
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

static void rule_write(FILE *text, const char *bridge, const char *chain, const char *fmt, ...)
	printf_like(4, 5);

/*
 * One rule. A hash of what it says goes with it as its comment: by these a look tells whether the
 * chains say what they should, and no expression has to be read back.
 */
static void rule_write(FILE *text, const char *bridge, const char *chain, const char *fmt, ...)
{
	char rule[256];
	va_list args;
	va_start(args, fmt);
	vsnprintf(rule, sizeof(rule), fmt, args);
	va_end(args);
	fprintf(text, "add rule " I " net-%s-%s %s comment \"%0*" PRIx64 "\"\n", bridge, chain,
		rule, HASH_DIGITS, netcfg_hash(rule));
}

/*
 * The guests' way to the host itself. Only answers pass by themselves: what an opening let begin
 * ends with the opening.
 */
static void input_write(FILE *text, const struct netcfg_firewall *network)
{
	const char *b = network->bridge;
	char host[INET6_ADDRSTRLEN];
	rule_write(text, b, "input", "udp dport 53 jump ask");
	rule_write(text, b, "input", "ct state established ct direction reply accept");
	rule_write(text, b, "input", "ct state related accept");
	rule_write(text, b, "input", "ct state new jump begin");
	rule_write(text, b, "input", "tcp dport 53 ct state new jump ask-tcp");
	rule_write(text, b, "input", "udp dport 67 accept");
	rule_write(text, b, "input", "meta nfproto ipv6 udp dport 547 accept");
	for (unsigned int i = 0; i < network->n_addresses; i++) {
		const struct netcfg_addr *own = &network->addresses[i];
		size_t size;
		inet_ntop(own->family, netcfg_addr_bytes(own, &size), host, sizeof(host));
		rule_write(text, b, "input",
			   "%s daddr %s meta l4proto { tcp, udp } th dport 53 accept",
			   family_of(own), host);
	}
	rule_write(text, b, "input",
		   "ip6 daddr fe80::/10 meta l4proto { tcp, udp } th dport 53 accept");
	rule_write(text, b, "input", "icmp type echo-request accept");
	rule_write(text, b, "input",
		   "icmpv6 type { echo-request, nd-router-solicit, nd-neighbor-solicit, "
		   "nd-neighbor-advert, mld2-listener-report } accept");
	for (unsigned int i = 0; i < network->n_openings; i++) {
		const struct netcfg_opening *opening = &network->openings[i];
		rule_write(text, b, "input", "%s dport %u-%u accept",
			   opening->protocol == NETCFG_TCP ? "tcp" : "udp", opening->port_first,
			   opening->port_last);
	}
	rule_write(text, b, "input", "drop");
}

/* The guests' way out, and what comes in to them. */
static void forward_write(FILE *text, const struct netcfg_firewall *network)
{
	const char *b = network->bridge;
	char net[NETCFG_ADDR_TEXT_MAX];
	const bool out = network->kind != NETCFG_FIREWALL_ISOLATED;
	uint8_t mac[6];
	netcfg_bridge_mac(b, network->mac, mac);
	rule_write(text, b, "from", "ct state new jump begin");
	/*
	 * Back into the network goes what the bridge passes on itself, which br_netfilter shows
	 * here, and what a port forward leads there. What was sent to the host to be passed on is a
	 * way around isolated ports, and has the host look for any number of neighbours.
	 */
	rule_write(text, b, "from", "oifname \"%s\" ct status dnat accept", b);
	rule_write(text, b, "from",
		   "oifname \"%s\" ether daddr %02x:%02x:%02x:%02x:%02x:%02x goto drop-detour", b,
		   mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	rule_write(text, b, "from", "oifname \"%s\" accept", b);
	if (!out)
		rule_write(text, b, "from", "ct state established,related ct status dnat accept");
	for (unsigned int i = 0; i < network->n_addresses; i++) {
		const struct netcfg_addr range = netcfg_addr_network(&network->addresses[i]);
		const char *family = family_of(&range);
		netcfg_addr_format(&range, net);
		if (out)
			rule_write(text, b, "from", "%s saddr %s oifname != @bridges accept",
				   family, net);
		/* nobody out there has an address of ours */
		rule_write(text, b, "to", "%s saddr %s iifname != \"%s\" drop", family, net, b);
	}
	rule_write(text, b, "to", "ct status dnat accept");
	if (out)
		rule_write(text, b, "to", "ct state established,related accept");
	if (network->kind == NETCFG_FIREWALL_ROUTED)
		rule_write(text, b, "to", "iifname != @bridges accept");
	rule_write(text, b, "from", "drop");
	rule_write(text, b, "to", "drop");
}

static void source_write(FILE *text, const struct netcfg_firewall *network)
{
	const char *b = network->bridge;
	char net[NETCFG_ADDR_TEXT_MAX];
	for (unsigned int i = 0; network->kind == NETCFG_FIREWALL_NAT && i < network->n_addresses;
	     i++) {
		const struct netcfg_addr range = netcfg_addr_network(&network->addresses[i]);
		rule_write(text, b, "source", "%s saddr %s oifname != \"%s\" masquerade",
			   family_of(&range), netcfg_addr_format(&range, net), b);
	}
	/*
	 * A forwarded port that leads back into the network that it was asked from: the answer
	 * has to come by here again. And a guest without a way out could answer nobody else.
	 */
	if (network->kind == NETCFG_FIREWALL_ISOLATED)
		rule_write(text, b, "source-to", "ct status dnat masquerade");
	else
		rule_write(text, b, "source-to", "iifname \"%s\" ct status dnat masquerade", b);
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
	nft_pieces_raise();
	if (nft_hearing_set(netcfg, network->bridge, network->hears_dhcp, err) < 0)
		return -1;
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
	if (netcfg_name_check("bridge", bridge, err) < 0 ||
	    nft_hearing_set(netcfg, bridge, false, err) < 0)
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
		{NFPROTO_INET, "input", 2},        {NFPROTO_INET, "forward", 3},
		{NFPROTO_INET, "source", 2},       {NFPROTO_INET, "forwards", 1},
		{NFPROTO_INET, "forwards-own", 1}, {NFPROTO_INET, "forwards-all", 9},
		{NFPROTO_BRIDGE, "prerouting", 3}, {NFPROTO_BRIDGE, "postrouting", 3},
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

static int has_bridge(struct netcfg *netcfg, const char *set, const char *bridge, bool *ret,
		      struct err *err)
{
	struct nft_elem elem = {.family = NFPROTO_INET};
	snprintf(elem.set, sizeof(elem.set), "%s", set);
	nft_elem_key_name(&elem, bridge);
	int sys = nft_elem_get(netcfg, &elem);
	if (sys != 0 && sys != ENOENT)
		return nft_err(err, sys, "look up the network");
	*ret = sys == 0;
	return 0;
}

/* Do the maps lead to its chains, and is it known as one of ours, or not? */
static int is_known(struct netcfg *netcfg, const struct netcfg_firewall *network, bool *ret,
		    struct err *err)
{
	bool ours;
	if (has_bridge(netcfg, "bridges", network->bridge, &ours, err) < 0)
		return -1;
	*ret = ours == (network->kind != NETCFG_FIREWALL_BRIDGED);
	for (size_t i = 0; *ret && i < ARRAY_LEN(parts); i++)
		if (has_bridge(netcfg, parts[i].map, network->bridge, ret, err) < 0)
			return -1;
	return 0;
}

/* struct reader - goes through the rules as they should be while the kernel tells those that are */
struct reader {
	const char *text; /* as network_write() made it */
	char begin[96];   /* how its rules of the chain begin */
	bool differs;
};

/* The comment of the next rule that should be in the chain, "" after the last. */
static const char *next_comment(struct reader *reader, char ret[HASH_DIGITS + 1])
{
	ret[0] = '\0';
	while (*reader->text && !ret[0]) {
		const char *end = strchr(reader->text, '\n');
		if (strncmp(reader->text, reader->begin, strlen(reader->begin)) == 0)
			snprintf(ret, HASH_DIGITS + 1, "%s", end - 1 - HASH_DIGITS);
		reader->text = end + 1;
	}
	return ret;
}

static void compare_rule(void *data, const char *comment)
{
	struct reader *reader = data;
	char wanted[HASH_DIGITS + 1];
	if (strcmp(comment, next_comment(reader, wanted)) != 0 || !wanted[0])
		reader->differs = true;
}

/* Do the chains say what @text makes them say? */
static int says(struct netcfg *netcfg, const char *bridge, const char *text, bool *ret,
		struct err *err)
{
	*ret = true;
	for (size_t i = 0; *ret && i < ARRAY_LEN(parts); i++) {
		struct reader reader;
		char chain[32], rest[HASH_DIGITS + 1];
		int sys;
		snprintf(chain, sizeof(chain), "net-%s-%s", bridge, parts[i].chain);
		do {
			reader = (struct reader){.text = text};
			snprintf(reader.begin, sizeof(reader.begin), "add rule " I " %s ", chain);
			sys = nft_rules_each(netcfg, NFPROTO_INET, chain, compare_rule, &reader);
		} while (sys == EINTR);
		if (sys != 0)
			return nft_err(err, sys, "read the network's rules");
		*ret = !reader.differs && !next_comment(&reader, rest)[0];
	}
	return 0;
}

int netcfg_firewall_has(struct netcfg *netcfg, const struct netcfg_firewall *network, bool *ret,
			struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	bool so = false;
	if (network_check(network, err) < 0 || frame_stands(netcfg, &so, err) < 0 ||
	    (so && is_known(netcfg, network, &so, err) < 0) ||
	    (so && nft_hearing_has(netcfg, network->bridge, network->hears_dhcp, &so, err) < 0))
		return -1;
	if (so) {
		FILE *out = nft_text_open(&text, &size);
		network_write(out, network);
		nft_text_close(out);
		if (says(netcfg, network->bridge, text, &so, err) < 0)
			return -1;
	}
	*ret = so;
	return 0;
}
