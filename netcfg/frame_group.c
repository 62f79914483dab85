/*
 * What firewall groups stand on: the chains between a NIC and its groups, and what is known of the
 * exchanges that a rule let begin. See docs/decisions/firewall-groups.md and limits-of-guests.md.
 */
#include <stdarg.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define B "bridge " NFT_TABLE

#define SLOTS 4

/* struct way - from or to the guest; the guest's end of an exchange is always named first */
static const struct way {
	const char *name, *nic, *own, *far, *own_port, *far_port, *begins;
} ways[] = {
	{"out", "iifname", "saddr", "daddr", "sport", "dport",
	 "limit rate over 100/second burst 2000 packets"},
	/* more than one other NIC may begin: it shall not keep out the rest */
	{"in", "oifname", "daddr", "saddr", "dport", "sport",
	 "limit rate over 200/second burst 4000 packets"},
};

/* struct ip - @free: messages that always pass; @client, @server: DHCP's ports */
static const struct ip {
	const char *version, *name, *icmp, *address, *free;
	int client, server;
} ips[] = {
	{"4", "ip", "icmp", "ipv4_addr",
	 "destination-unreachable, time-exceeded, parameter-problem", 68, 67},
	{"6", "ip6", "icmpv6", "ipv6_addr",
	 "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, "
	 "mld-listener-query, mld-listener-report, mld-listener-done, nd-router-solicit, "
	 "nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report",
	 546, 547},
};

/*
 * An exchange that is not answered is forgotten after 30 seconds. One that goes on is kept for its
 * protocol's life, and stands in a "kept" set as well for a part of that; gone from there, its next
 * packet keeps it again. So whatever stands in a set was paid for within its life, from a bucket of
 * its NIC's, and no NIC has more there than its buckets give in that time.
 */
#define FLOWS "size 1048576; flags dynamic,timeout; timeout 30s;"

static const struct protocol {
	const char *name, *life, *kept, *keeps;
} protocols[] = {
	/* a connection's own keepalive takes two hours (RFC 5382 REQ-5) */
	{"tcp", "135m", "15m", "limit rate over 1/second burst 2048 packets"},
	{"udp", "4m", "1m", "limit rate over 20/second burst 2048 packets"},
};

/* ---- sets and chains ---- */

/* no set has more than five fields: nft before 1.1 cannot list what does, and ends itself trying */
static void flow_set_write(FILE *text, const struct protocol *protocol, const struct ip *ip,
			   const char *kept)
{
	fprintf(text,
		"add set " B " %s%s%s { type ifname . %s . inet_service . %s . inet_service; " FLOWS
		" }\n",
		protocol->name, ip->version, kept, ip->address, ip->address);
}

/* Who has not drawn from a bucket for its timeout has a full one, and so has who is not in it. */
static void bucket_write(FILE *text, const char *what, const char *name)
{
	fprintf(text,
		"add set " B " %s-%s { type ifname; size 65536; flags dynamic,timeout; "
		"timeout 1h; }\n",
		what, name);
}

static void chain_write(FILE *text, const char *name, const char *way)
{
	fprintf(text, "add chain " B " %s-%s\nflush chain " B " %s-%s\n", name, way, name, way);
}

void nft_frame_groups_make(FILE *text)
{
	static const char *const chains[] = {"kept", "known", "group", "begin"};
	fputs("add set " B " grouped { type ifname; }\n", text);
	for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
		for (int slot = 0; slot < SLOTS; slot++)
			fprintf(text,
				"add map " B " %s%d { type ifname : verdict; }\n"
				"add map " B " %s%d-end { type ifname : verdict; }\n",
				ways[w].name, slot, ways[w].name, slot);
		for (size_t i = 0; i < ARRAY_LEN(chains); i++)
			chain_write(text, chains[i], ways[w].name);
		bucket_write(text, "begins", ways[w].name);
	}
	for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
		for (size_t v = 0; v < ARRAY_LEN(ips); v++) {
			flow_set_write(text, &protocols[p], &ips[v], "");
			flow_set_write(text, &protocols[p], &ips[v], "-kept");
		}
		bucket_write(text, "keeps", protocols[p].name);
	}
	for (size_t v = 0; v < ARRAY_LEN(ips); v++)
		fprintf(text,
			"add set " B
			" echoes%s { typeof iifname . %s saddr . %s daddr . %s id; " FLOWS " }\n",
			ips[v].version, ips[v].name, ips[v].name, ips[v].icmp);
}

void nft_frame_groups_forget(FILE *text)
{
	for (size_t v = 0; v < ARRAY_LEN(ips); v++) {
		for (size_t p = 0; p < ARRAY_LEN(protocols); p++)
			fprintf(text, "flush set " B " %s%s\nflush set " B " %s%s-kept\n",
				protocols[p].name, ips[v].version, protocols[p].name,
				ips[v].version);
		fprintf(text, "flush set " B " echoes%s\n", ips[v].version);
	}
}

/* ---- rules ---- */

/* what an exchange is called */
struct key {
	char flow[112], echo[80];
};

static struct key key_of(const struct way *way, const struct ip *ip)
{
	struct key key;
	snprintf(key.flow, sizeof(key.flow), "%s . %s %s . th %s . %s %s . th %s", way->nic,
		 ip->name, way->own, way->own_port, ip->name, way->far, way->far_port);
	snprintf(key.echo, sizeof(key.echo), "%s . %s %s . %s %s . %s id", way->nic, ip->name,
		 way->own, ip->name, way->far, ip->icmp);
	return key;
}

static void rule_write(FILE *text, const char *chain, const char *rest, const char *fmt, ...)
	printf_like(4, 5);

/* One rule of the chain of that name, which is in two parts. */
static void rule_write(FILE *text, const char *chain, const char *rest, const char *fmt, ...)
{
	va_list args;
	fprintf(text, "add rule " B " %s%s ", chain, rest);
	va_start(args, fmt);
	vfprintf(text, fmt, args);
	va_end(args);
	fputc('\n', text);
}

/* What always passes: errors, multicast, and what the first chains or the far side's look after. */
static void free_write(FILE *text, const struct way *way, const struct ip *ip)
{
	const bool out = way == &ways[0];
	rule_write(text, way->name, ip->version, "%s type { %s } accept", ip->icmp, ip->free);
	if (ip == &ips[0])
		rule_write(text, way->name, ip->version, "ip protocol igmp accept");
	rule_write(text, way->name, ip->version, "udp sport %d udp dport %d accept",
		   out ? ip->client : ip->server, out ? ip->server : ip->client);
}

/* A NIC's packets of one family in one direction: known, free, or for the groups to decide. */
static void gate_write(FILE *text, const struct way *way, const struct ip *ip)
{
	const struct key key = key_of(way, ip);
	const char *const w = way->name, *const v = ip->version;
	for (int kept = 1; kept >= 0; kept--)
		for (size_t p = 0; p < ARRAY_LEN(protocols); p++)
			rule_write(text, w, v, "meta l4proto %s %s @%s%s%s goto %s-%s",
				   protocols[p].name, key.flow, protocols[p].name, v,
				   kept ? "-kept" : "", kept ? "kept" : "known", w);
	/* the first packet stands for those after it; a later piece has no ports, so is none known
	 */
	rule_write(text, w, v, "%s != 0 accept",
		   ip == &ips[0] ? "ip frag-off & 0x1fff" : "frag frag-off");
	rule_write(text, w, v, "%s type echo-reply %s @echoes%s accept", ip->icmp, key.echo, v);
	free_write(text, way, ip);
	rule_write(text, w, v, "goto group-%s", w);
}

/*
 * A connection that ends is soon forgotten. It was kept not long ago, so that is less than it had:
 * nothing is prolonged without being paid for.
 */
static void kept_write(FILE *text, const struct way *way)
{
	rule_write(text, "kept-", way->name, "tcp flags & (fin | rst) == 0 accept");
	for (size_t v = 0; v < ARRAY_LEN(ips); v++)
		rule_write(text, "kept-", way->name,
			   "ether type %s meta l4proto tcp update @tcp%s { %s timeout 1m } accept",
			   ips[v].name, ips[v].version, key_of(way, &ips[v]).flow);
	rule_write(text, "kept-", way->name, "accept");
}

/* Whose bucket is empty has its exchanges pass, but not kept. */
static void known_write(FILE *text, const struct way *way)
{
	rule_write(text, "known-", way->name, "tcp flags & (syn | fin | rst) != 0 accept");
	for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
		const struct protocol *protocol = &protocols[p];
		const char *const set = protocol->name;
		rule_write(text, "known-", way->name,
			   "meta l4proto %s update @keeps-%s { %s %s } accept", set, set, way->nic,
			   protocol->keeps);
		for (size_t v = 0; v < ARRAY_LEN(ips); v++) {
			const struct key key = key_of(way, &ips[v]);
			const char *const version = ips[v].version;
			rule_write(text, "known-", way->name,
				   "ether type %s meta l4proto %s update @%s%s { %s timeout %s } "
				   "update @%s%s-kept { %s timeout %s } accept",
				   ips[v].name, set, set, version, key.flow, protocol->life, set,
				   version, key.flow, protocol->kept);
		}
	}
	rule_write(text, "known-", way->name, "accept");
}

/* The rules of all groups, and after them what the groups do with the rest. */
static void slots_write(FILE *text, const struct way *way)
{
	for (int end = 0; end < 2; end++)
		for (int slot = 0; slot < SLOTS; slot++)
			rule_write(text, "group-", way->name, "%s vmap @%s%d%s", way->nic,
				   way->name, slot, end ? "-end" : "");
	rule_write(text, "group-", way->name, "goto begin-%s", way->name);
}

/* What other protocols begin is not remembered, and so costs nothing. */
static void begin_write(FILE *text, const struct way *way)
{
	rule_write(text, "begin-", way->name,
		   "meta l4proto { tcp, udp, icmp, ipv6-icmp } update @begins-%s { %s %s } "
		   "goto drop-flood-%s",
		   way->name, way->nic, way->begins, way->name);
	for (size_t v = 0; v < ARRAY_LEN(ips); v++) {
		const struct key key = key_of(way, &ips[v]);
		for (size_t p = 0; p < ARRAY_LEN(protocols); p++)
			rule_write(text, "begin-", way->name,
				   "ether type %s meta l4proto %s update @%s%s { %s } accept",
				   ips[v].name, protocols[p].name, protocols[p].name,
				   ips[v].version, key.flow);
		rule_write(text, "begin-", way->name,
			   "%s type echo-request update @echoes%s { %s } accept", ips[v].icmp,
			   ips[v].version, key.echo);
	}
	rule_write(text, "begin-", way->name, "accept");
}

void nft_frame_groups_fill(FILE *text)
{
	for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
		for (size_t v = 0; v < ARRAY_LEN(ips); v++)
			gate_write(text, &ways[w], &ips[v]);
		kept_write(text, &ways[w]);
		known_write(text, &ways[w]);
		slots_write(text, &ways[w]);
		begin_write(text, &ways[w]);
	}
}
