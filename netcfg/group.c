#include "netcfg/group.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define B "bridge " NFT_TABLE

static int rule_check(const struct netcfg_group *group, const struct netcfg_rule *rule,
		      struct err *err)
{
	const bool ports = rule->port_first || rule->port_last;
	if (rule->direction != NETCFG_IN && rule->direction != NETCFG_OUT)
		return err_set(err, ERR_INVALID, "group %u: a rule has no direction", group->id);
	if ((unsigned int)rule->protocol > NETCFG_ICMP)
		return err_set(err, ERR_INVALID, "group %u: a rule's protocol is none", group->id);
	if (ports && rule->protocol != NETCFG_TCP && rule->protocol != NETCFG_UDP)
		return err_set(err, ERR_INVALID, "group %u: only tcp and udp have ports",
			       group->id);
	if (ports && (rule->port_first == 0 || rule->port_last < rule->port_first))
		return err_set(err, ERR_INVALID, "group %u: %u to %u are no ports", group->id,
			       rule->port_first, rule->port_last);
	if (rule->remote.family && rule->remote_group)
		return err_set(err, ERR_INVALID,
			       "group %u: a rule's other end is a network or a group, not both",
			       group->id);
	return rule->remote.family ? netcfg_addr_check("a rule's other end", &rule->remote, err)
				   : 0;
}

static int group_check(const struct netcfg_group *group, struct err *err)
{
	if (group->id == 0)
		return err_set(err, ERR_INVALID, "a firewall group's id is not 0");
	if (group->n_rules > NETCFG_GROUP_RULES_MAX)
		return err_set(err, ERR_INVALID, "group %u: %zu rules are over %d", group->id,
			       group->n_rules, NETCFG_GROUP_RULES_MAX);
	for (size_t i = 0; i < group->n_rules; i++)
		if (rule_check(group, &group->rules[i], err) < 0)
			return -1;
	return 0;
}

static void members_write(FILE *text, uint32_t id)
{
	fprintf(text, "add set " B " members-%u-4 { type ipv4_addr; }\n", id);
	fprintf(text, "add set " B " members-%u-6 { type ipv6_addr; }\n", id);
}

static void frame_of_group_write(FILE *text, uint32_t id)
{
	static const char *const chains[] = {"in", "in-end", "out", "out-end"};
	members_write(text, id);
	for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
		fprintf(text, "add chain " B " group-%u-%s\n", id, chains[i]);
		fprintf(text, "flush chain " B " group-%u-%s\n", id, chains[i]);
	}
}

/* ICMP goes by another name in each family. */
static void protocol_write(FILE *text, const struct netcfg_rule *rule)
{
	const char *ports = NULL;
	switch (rule->protocol) {
	case NETCFG_PROTOCOL_ANY:
		break;
	case NETCFG_TCP:
		ports = "tcp";
		break;
	case NETCFG_UDP:
		ports = "udp";
		break;
	case NETCFG_ICMP:
		fputs("meta l4proto { icmp, ipv6-icmp } ", text);
		break;
	}
	if (ports && rule->port_first == rule->port_last && rule->port_first)
		fprintf(text, "%s dport %u ", ports, rule->port_first);
	else if (ports && rule->port_first)
		fprintf(text, "%s dport %u-%u ", ports, rule->port_first, rule->port_last);
	else if (ports)
		fprintf(text, "meta l4proto %s ", ports);
}

/* @family: "ip", "ip6"; @version: of the members */
static void rule_write(FILE *text, const struct netcfg_group *group, const struct netcfg_rule *rule,
		       const char *family, int version)
{
	const bool in = rule->direction == NETCFG_IN;
	char remote[NETCFG_ADDR_TEXT_MAX];
	fprintf(text, "add rule " B " group-%u-%s ", group->id, in ? "in" : "out");
	if (rule->remote.family) {
		const struct netcfg_addr network = netcfg_addr_network(&rule->remote);
		fprintf(text, "%s %s %s ", family, in ? "saddr" : "daddr",
			netcfg_addr_format(&network, remote));
	} else if (rule->remote_group) {
		fprintf(text, "%s %s @members-%u-%d ", family, in ? "saddr" : "daddr",
			rule->remote_group, version);
	}
	protocol_write(text, rule);
	fprintf(text, "goto %s-%s\n", rule->accept ? "begin" : "drop-group", in ? "in" : "out");
}

static void group_write(FILE *text, const struct netcfg_group *group)
{
	for (size_t i = 0; i < group->n_rules; i++) {
		const struct netcfg_rule *rule = &group->rules[i];
		if (rule->remote.family != AF_INET6)
			rule_write(text, group, rule, "ip", 4);
		/* one without addresses is said once for both */
		if (rule->remote.family == AF_INET6 || rule->remote_group)
			rule_write(text, group, rule, "ip6", 6);
	}
	if (group->drop_in)
		fprintf(text, "add rule " B " group-%u-in-end goto drop-group-in\n", group->id);
	if (group->drop_out)
		fprintf(text, "add rule " B " group-%u-out-end goto drop-group-out\n", group->id);
}

int netcfg_groups_ensure(struct netcfg *netcfg, const struct netcfg_group *groups, size_t n,
			 bool revoke, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (group_check(&groups[i], err) < 0)
			return -1;
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = nft_text_open(&text, &size);
	bool there = false;
	int sys = nft_chain_exists(netcfg, NFPROTO_BRIDGE, "begin-in", &there);
	if (sys != 0 || !there)
		nft_frame_bridge_write(out);
	for (size_t i = 0; i < n; i++)
		frame_of_group_write(out, groups[i].id);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < groups[i].n_rules; k++)
			if (groups[i].rules[k].remote_group)
				members_write(out, groups[i].rules[k].remote_group);
	for (size_t i = 0; i < n; i++)
		group_write(out, &groups[i]);
	if (revoke)
		nft_frame_groups_forget(out);
	nft_text_close(out);
	return n == 0 ? 0 : nft_run("set the firewall groups", text, NULL, err);
}

int netcfg_group_delete(struct netcfg *netcfg, uint32_t id, struct err *err)
{
	static const char *const chains[] = {"in", "in-end", "out", "out-end"};
	bool there;
	if (netcfg_group_has(netcfg, id, &there, err) < 0)
		return -1;
	if (!there)
		return 0;
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = nft_text_open(&text, &size);
	/* what is half there becomes whole, so that all of it can be deleted */
	frame_of_group_write(out, id);
	for (size_t i = 0; i < ARRAY_LEN(chains); i++)
		fprintf(out, "delete chain " B " group-%u-%s\n", id, chains[i]);
	fprintf(out, "delete set " B " members-%u-4\ndelete set " B " members-%u-6\n", id, id);
	nft_text_close(out);
	if (nft_run("delete the firewall group", text, NULL, err) < 0)
		return err_prefix(err, "group %u", id);
	return nft_tables_tidy(netcfg, err);
}

int netcfg_group_has(struct netcfg *netcfg, uint32_t id, bool *ret, struct err *err)
{
	char chain[32];
	snprintf(chain, sizeof(chain), "group-%u-in", id);
	int sys = nft_chain_exists(netcfg, NFPROTO_BRIDGE, chain, ret);
	return sys == 0 ? 0 : nft_err(err, sys, "look up the firewall group");
}
