#include "netcfg/firewall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "netcfg/internal.h"

#define TABLE "inet " NETCFG_FIREWALL_TABLE

/*
 * The table's frame: hooks that only look up the bridge's name. Repeating it changes nothing, and
 * mends it where somebody has been at it. A packet between two ports of one bridge passes the
 * forward hook as well where br_netfilter is loaded; each network's chain lets it through.
 */
static const char frame[] =
	"add table " TABLE "\n"
	"add set " TABLE " bridges { type ifname; }\n"
	"add map " TABLE " input { type ifname : verdict; }\n"
	"add map " TABLE " forward_from { type ifname : verdict; }\n"
	"add map " TABLE " forward_to { type ifname : verdict; }\n"
	"add map " TABLE " source { type ifname : verdict; }\n"
	"add chain " TABLE " input { type filter hook input priority filter; policy accept; }\n"
	"add chain " TABLE " forward { type filter hook forward priority filter; policy accept; }\n"
	"add chain " TABLE " source { type nat hook postrouting priority srcnat; policy accept; }\n"
	"flush chain " TABLE " input\n"
	"flush chain " TABLE " forward\n"
	"flush chain " TABLE " source\n"
	"add rule " TABLE " input iifname vmap @input\n"
	"add rule " TABLE " forward iifname vmap @forward_from\n"
	"add rule " TABLE " forward oifname vmap @forward_to\n"
	"add rule " TABLE " source iifname vmap @source\n";

/* One network's chains and the elements that lead to them; text_expand() puts the bridge for %b. */
static const char objects[] = "add chain " TABLE " net-%b-input\n"
			      "add chain " TABLE " net-%b-from\n"
			      "add chain " TABLE " net-%b-to\n"
			      "add chain " TABLE " net-%b-source\n"
			      "flush chain " TABLE " net-%b-input\n"
			      "flush chain " TABLE " net-%b-from\n"
			      "flush chain " TABLE " net-%b-to\n"
			      "flush chain " TABLE " net-%b-source\n"
			      "add element " TABLE " bridges { \"%b\" }\n"
			      "add element " TABLE " input { \"%b\" : jump net-%b-input }\n"
			      "add element " TABLE " forward_from { \"%b\" : jump net-%b-from }\n"
			      "add element " TABLE " forward_to { \"%b\" : jump net-%b-to }\n"
			      "add element " TABLE " source { \"%b\" : jump net-%b-source }\n";

/* %a is the bridge's address */
static const char rules[] =
	"add rule " TABLE " net-%b-input ct state established,related accept\n"
	"add rule " TABLE " net-%b-input udp dport 67 accept\n"
	"add rule " TABLE " net-%b-input ip daddr %a meta l4proto { tcp, udp } th dport 53 accept\n"
	"add rule " TABLE " net-%b-input icmp type echo-request accept\n"
	"add rule " TABLE " net-%b-input drop\n"
	"add rule " TABLE " net-%b-from oifname \"%b\" accept\n";

/* %n is the network, as address/prefix */
static const char rules_nat[] =
	"add rule " TABLE " net-%b-from ip saddr %n oifname != @bridges accept\n"
	"add rule " TABLE " net-%b-to ct state established,related accept\n"
	"add rule " TABLE " net-%b-source ip saddr %n oifname != \"%b\" masquerade\n";

static const char rules_end[] = "add rule " TABLE " net-%b-from drop\n"
				"add rule " TABLE " net-%b-to drop\n";

static const char objects_delete[] = "delete element " TABLE " bridges { \"%b\" }\n"
				     "delete element " TABLE " input { \"%b\" }\n"
				     "delete element " TABLE " forward_from { \"%b\" }\n"
				     "delete element " TABLE " forward_to { \"%b\" }\n"
				     "delete element " TABLE " source { \"%b\" }\n"
				     "delete chain " TABLE " net-%b-input\n"
				     "delete chain " TABLE " net-%b-from\n"
				     "delete chain " TABLE " net-%b-to\n"
				     "delete chain " TABLE " net-%b-source\n";

/* nft's complaint is several lines with a picture of the command; the first says it. */
static int err_nft(struct err *err, const char *what, const char *text)
{
	enum err_code code = ERR_IO;
	if (strstr(text, "Operation not permitted"))
		code = ERR_DENIED;
	else if (strstr(text, "not supported"))
		code = ERR_UNSUPPORTED;
	return err_set(err, code, "firewall: cannot %s: %.*s", what, (int)strcspn(text, "\n"),
		       text);
}

/*
 * Run one command text as one transaction.
 * @ret_out: what it printed, owned by the caller; or NULL
 */
static int nft_run(const char *what, const char *text, char **ret_out, struct err *err)
{
	/* libnftables ends the process where this socket cannot be had, so ask first */
	_cleanup_close_ int probe = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (probe < 0)
		return err_set_sys(err, ERR_UNSUPPORTED, errno,
				   "firewall: this kernel has no nftables (nf_tables)");
	/* a new context each time: its cache of the ruleset must not outlive others' changes */
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!ctx)
		return err_set(err, ERR_LIMIT, "firewall: cannot open nftables");
	int rc = -1;
	if (nft_ctx_buffer_output(ctx) != 0 || nft_ctx_buffer_error(ctx) != 0) {
		err_set(err, ERR_LIMIT, "firewall: out of memory");
	} else if (nft_run_cmd_from_buffer(ctx, text) != 0) {
		const char *why = nft_ctx_get_error_buffer(ctx);
		err_nft(err, what, why && *why ? why : "nftables gave no reason");
	} else {
		const char *out = nft_ctx_get_output_buffer(ctx);
		if (ret_out)
			*ret_out = mem_strdup(out ? out : "");
		rc = 0;
	}
	nft_ctx_free(ctx);
	return rc;
}

static int table_exists(bool *ret, struct err *err)
{
	_cleanup_free_ char *out = NULL;
	if (nft_run("list the tables", "list tables inet\n", &out, err) < 0)
		return -1;
	*ret = strstr(out, "table " TABLE "\n") != NULL;
	return 0;
}

/* struct names - what stands in for %b, %a and %n */
struct names {
	const char *bridge;
	char address[INET_ADDRSTRLEN];
	char net[NETCFG_ADDR_TEXT_MAX];
};

static void text_expand(FILE *out, const char *template, const struct names *names)
{
	for (const char *c = template; *c; c++) {
		if (*c != '%') {
			fputc(*c, out);
			continue;
		}
		c++;
		fputs(*c == 'b' ? names->bridge : *c == 'a' ? names->address : names->net, out);
	}
}

/* The templates up to NULL, one after the other; owned by the caller. */
static char *text_build(const struct names *names, const char *const *templates)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		abort();
	for (; *templates; templates++)
		text_expand(out, *templates, names);
	/* as with mem_calloc(): the host is out of memory */
	if (fclose(out) != 0)
		abort();
	return text;
}

int netcfg_firewall_has(struct netcfg *netcfg, const char *bridge, bool *ret, struct err *err)
{
	if (netcfg_name_check("bridge", bridge, err) < 0)
		return -1;
	bool there;
	if (table_exists(&there, err) < 0)
		return -1;
	if (!there) {
		*ret = false;
		return 0;
	}
	_cleanup_free_ char *map = NULL;
	if (nft_run("list the networks", "list map " TABLE " input\n", &map, err) < 0)
		return -1;
	char quoted[NETCFG_NAME_MAX + 3];
	snprintf(quoted, sizeof(quoted), "\"%s\"", bridge);
	*ret = strstr(map, quoted) != NULL;
	return 0;
}

int netcfg_firewall_ensure(struct netcfg *netcfg, const struct netcfg_firewall *network,
			   struct err *err)
{
	if (netcfg_name_check("bridge", network->bridge, err) < 0)
		return -1;
	const struct netcfg_addr *own = &network->addresses[0];
	if (network->n_addresses != 1 || own->family != AF_INET)
		return err_set(err, ERR_UNSUPPORTED, "firewall: one IPv4 address, so far");
	if (netcfg_subnet_check(own, err) < 0)
		return -1;
	struct names names = {.bridge = network->bridge};
	const struct netcfg_addr net = netcfg_addr_network(own);
	netcfg_addr_format(&net, names.net);
	inet_ntop(AF_INET, &own->v4, names.address, sizeof(names.address));
	const char *of_kind = NULL;
	switch (network->kind) {
	case NETCFG_FIREWALL_NAT:
		of_kind = rules_nat;
		break;
	case NETCFG_FIREWALL_ISOLATED:
		of_kind = "";
		break;
	case NETCFG_FIREWALL_ROUTED:
	case NETCFG_FIREWALL_BRIDGED:
		break;
	}
	if (!of_kind)
		return err_set(err, ERR_INVALID, "firewall: there is no kind %d of network",
			       (int)network->kind);
	const char *const templates[] = {frame, objects, rules, of_kind, rules_end, NULL};
	_cleanup_free_ char *text = text_build(&names, templates);
	if (nft_run("apply the rules", text, NULL, err) < 0)
		return err_prefix(err, "network on %s", network->bridge);
	/* last: the rules have to stand before the kernel forwards anything */
	if (network->kind == NETCFG_FIREWALL_NAT)
		return netcfg_sysctl_write("/proc/sys/net/ipv4/ip_forward", "1", err);
	return 0;
}

int netcfg_firewall_delete(struct netcfg *netcfg, const char *bridge, struct err *err)
{
	bool there;
	if (netcfg_name_check("bridge", bridge, err) < 0 || table_exists(&there, err) < 0)
		return -1;
	if (!there)
		return 0;
	/*
	 * Deleting what is not there fails the whole transaction, so make it first: then half of a
	 * network, which only somebody else's hand leaves, goes just as well.
	 */
	const struct names names = {.bridge = bridge};
	const char *const templates[] = {frame, objects, objects_delete, NULL};
	_cleanup_free_ char *text = text_build(&names, templates);
	_cleanup_free_ char *left = NULL;
	if (nft_run("remove the rules", text, NULL, err) < 0 ||
	    nft_run("list the networks", "list set " TABLE " bridges\n", &left, err) < 0)
		return err_prefix(err, "network on %s", bridge);
	if (strstr(left, "elements"))
		return 0;
	return nft_run("remove the table", "delete table " TABLE "\n", NULL, err);
}
