/*
 * Which networks' NICs are heard of when a DHCP server answers them (dhcp.h): one rule for all, in
 * a chain that the frame only leads to. It needs more of the kernel than other networks do, so it
 * is there as long as there is a network that wants it, and the frame leaves it alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/netfilter.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/dhcp.h"
#include "netcfg/nft.h"

#define B "bridge " NFT_TABLE

#define TEXT_OF(number) #number
#define NUMBER(number)  TEXT_OF(number)

/* An answer on its way to the NIC whose MAC is in it, unless that NIC has been sent very many. */
static const char rule[] = "oifname . @th,288,48 @hears update @answers { oifname limit rate "
			   "20/second burst 100 packets } log group " NUMBER(NETCFG_DHCP_LOG_GROUP);

static struct nft_elem elem_of(const char *bridge)
{
	struct nft_elem elem = {.family = NFPROTO_BRIDGE, .set = "hearing"};
	nft_elem_key_name(&elem, bridge);
	return elem;
}

/* An errno; a kernel without nftables for bridges has no such network. */
static int is_hearing(struct netcfg *netcfg, const char *bridge, bool *ret)
{
	struct nft_elem elem = elem_of(bridge);
	int sys = nft_elem_get(netcfg, &elem);
	*ret = sys == 0;
	return sys == ENOENT || sys == EAFNOSUPPORT || sys == EOPNOTSUPP ? 0 : sys;
}

/* ---- what is there ---- */

struct rules {
	unsigned int n, right;
};

static void note_rule(void *data, const char *comment)
{
	struct rules *rules = data;
	char wanted[17];
	snprintf(wanted, sizeof(wanted), "%016" PRIx64, netcfg_hash(rule));
	rules->n++;
	rules->right += strcmp(comment, wanted) == 0;
}

int nft_hearing_has(struct netcfg *netcfg, const char *bridge, bool wanted, bool *ret,
		    struct err *err)
{
	struct rules rules;
	bool hearing;
	int sys = is_hearing(netcfg, bridge, &hearing);
	if (sys == 0 && hearing && wanted)
		do {
			rules = (struct rules){0};
			sys = nft_rules_each(netcfg, NFPROTO_BRIDGE, "hear", note_rule, &rules);
			hearing = rules.n == 1 && rules.right == 1;
		} while (sys == EINTR);
	if (sys != 0)
		return nft_err(err, sys, "look up what is heard of DHCP servers");
	*ret = hearing == wanted;
	return 0;
}

/* ---- changes ---- */

/* The chain stands: then it is the rule that the kernel cannot do, and its words do not say so. */
static int begin_err(struct netcfg *netcfg, const char *bridge, const struct err *why,
		     struct err *err)
{
	bool there = false;
	if (why->code == ERR_UNSUPPORTED ||
	    (why->code == ERR_IO && nft_chain_exists(netcfg, NFPROTO_BRIDGE, "hear", &there) == 0 &&
	     there))
		return err_set(err, ERR_UNSUPPORTED,
			       "network on %s: this kernel cannot log what DHCP servers answer "
			       "(nft_log, nfnetlink_log)",
			       bridge);
	if (err)
		*err = *why;
	return err_prefix(err, "network on %s", bridge);
}

static int hearing_begin(struct netcfg *netcfg, const char *bridge, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	struct err why = {0};
	FILE *out = nft_text_open(&text, &size);
	fprintf(out,
		"add element " B " hearing { \"%s\" }\nflush chain " B " hear\n"
		"add rule " B " hear %s comment \"%016" PRIx64 "\"\n",
		bridge, rule, netcfg_hash(rule));
	nft_text_close(out);
	if (nft_run("hear DHCP servers", text, NULL, &why) < 0)
		return begin_err(netcfg, bridge, &why, err);
	return 0;
}

static void count_one(void *data, const struct nft_found *found)
{
	(*(unsigned int *)data)++;
}

/* The rule goes with the last of them. */
static int hearing_end(struct netcfg *netcfg, const char *bridge, struct err *err)
{
	char text[128];
	unsigned int n = 0;
	bool hearing;
	int sys = is_hearing(netcfg, bridge, &hearing);
	if (sys == 0 && !hearing)
		return 0;
	if (sys == 0)
		do {
			n = 0;
			sys = nft_elems_each(netcfg, NFPROTO_BRIDGE, "hearing", count_one, &n);
		} while (sys == EINTR);
	if (sys != 0)
		return nft_err(err, sys, "look up what is heard of DHCP servers");
	snprintf(text, sizeof(text), "delete element " B " hearing { \"%s\" }\n%s", bridge,
		 n > 1 ? "" : "flush chain " B " hear\n");
	if (nft_run("stop hearing DHCP servers", text, NULL, err) < 0)
		return err_prefix(err, "network on %s", bridge);
	return 0;
}

int nft_hearing_set(struct netcfg *netcfg, const char *bridge, bool wanted, struct err *err)
{
	return wanted ? hearing_begin(netcfg, bridge, err) : hearing_end(netcfg, bridge, err);
}
