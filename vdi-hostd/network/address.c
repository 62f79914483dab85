#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "netcfg/link.h"
#include "vdi-hostd/network/private.h"

#define PREFIX_MIN  16
#define PREFIX_MAX  29
#define AUTO_FIRST  0x0a500000u /* 10.80.0.0: seldom used, and easy to remember */
#define AUTO_PREFIX 24
#define AUTO_COUNT  4096u

static uint32_t mask_of(int64_t prefix)
{
	return prefix ? ~0u << (32 - prefix) : 0;
}

void address_format(uint32_t ip, char ret[16])
{
	struct in_addr in = {.s_addr = htonl(ip)};
	inet_ntop(AF_INET, &in, ret, 16);
}

int address_parse_cidr(const char *text, uint32_t *ret_base, int64_t *ret_prefix, struct err *err)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr in;
	int64_t prefix;
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : 0;
	if (!slash || len >= sizeof(address) || str_parse_i64(slash + 1, &prefix) < 0)
		return err_set_field(err, "cidr", "'%.32s' is no range; write it as 10.1.2.0/24",
				     text);
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(AF_INET, address, &in) != 1)
		return err_set_field(err, "cidr", "'%.32s' is no IPv4 address", address);
	if (prefix < PREFIX_MIN || prefix > PREFIX_MAX)
		return err_set_field(err, "cidr",
				     "a range of /%" PRId64
				     " is not offered; choose from /%d to /%d",
				     prefix, PREFIX_MIN, PREFIX_MAX);
	uint32_t base = ntohl(in.s_addr);
	if (base & ~mask_of(prefix)) {
		char first[16];
		address_format(base & mask_of(prefix), first);
		return err_set_field(err, "cidr",
				     "%s is inside a range and not its beginning; do you mean "
				     "%s/%" PRId64 "?",
				     address, first, prefix);
	}
	if (base >> 24 == 0 || base >> 24 == 127 || base >> 28 >= 14)
		return err_set_field(err, "cidr", "%s is no range for hosts", text);
	*ret_base = base;
	*ret_prefix = prefix;
	return 0;
}

static bool overlap(uint32_t a, int64_t a_prefix, uint32_t b, int64_t b_prefix)
{
	uint32_t mask = mask_of(a_prefix < b_prefix ? a_prefix : b_prefix);
	return (a & mask) == (b & mask);
}

/* What the host itself uses, read once: choosing a range asks many times. */
struct ranges {
	char own[NETCFG_NAME_MAX + 1]; /* the bridge of the network that the range is for */
	struct netcfg_range *range;
	size_t n;
};

static void ranges_done(struct ranges *ranges)
{
	free(ranges->range);
}

static int add_range(void *data, const struct netcfg_range *range)
{
	struct ranges *ranges = data;
	if (strcmp(range->link, ranges->own) == 0)
		return 0;
	/* room doubles at each power of two */
	if ((ranges->n & (ranges->n - 1)) == 0)
		ranges->range = mem_realloc(ranges->range, ranges->n ? 2 * ranges->n : 1,
					    sizeof(*ranges->range));
	ranges->range[ranges->n++] = *range;
	return 0;
}

static int ranges_read(int64_t slot, struct ranges *ret, struct err *err)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	snprintf(ret->own, sizeof(ret->own), "vdibr%" PRId64, slot);
	if (netcfg_open(&netcfg, err) < 0)
		return -1;
	return netcfg_ranges_each(netcfg, add_range, ret, err);
}

static int check_free(struct networks *all, int64_t slot, const struct ranges *ranges,
		      uint32_t base, int64_t prefix, struct err *err)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next)
		if (n->row.address && n->row.slot != slot &&
		    overlap(base, prefix, n->row.address, n->row.prefix))
			return err_set(
				err, ERR_CONFLICT,
				"the range overlaps that of network '%s'; choose another cidr",
				n->row.name);
	for (size_t i = 0; i < ranges->n; i++) {
		const struct netcfg_range *range = &ranges->range[i];
		char text[16];
		if (!overlap(base, prefix, range->address, range->prefix))
			continue;
		address_format(range->address, text);
		return err_set(err, ERR_CONFLICT,
			       "the range overlaps %s/%u, which the host reaches %s%s; choose "
			       "another cidr",
			       text, range->prefix, range->link[0] ? "through " : "by a route",
			       range->link);
	}
	return 0;
}

int address_check_free(struct networks *all, int64_t slot, uint32_t base, int64_t prefix,
		       struct err *err)
{
	_cleanup_(ranges_done) struct ranges ranges = {.n = 0};
	if (ranges_read(slot, &ranges, err) < 0)
		return -1;
	return check_free(all, slot, &ranges, base, prefix, err);
}

int address_pick_range(struct networks *all, int64_t slot, uint32_t *ret_base, struct err *err)
{
	_cleanup_(ranges_done) struct ranges ranges = {.n = 0};
	if (ranges_read(slot, &ranges, err) < 0)
		return -1;
	for (uint32_t i = 0; i < AUTO_COUNT; i++) {
		uint32_t base = AUTO_FIRST + (i << (32 - AUTO_PREFIX));
		if (check_free(all, slot, &ranges, base, AUTO_PREFIX, NULL) < 0)
			continue;
		*ret_base = base;
		return 0;
	}
	return err_set(err, ERR_LIMIT, "no private range is free; name one with cidr");
}

/* ---- IPv6: a /64 each ---- */

bool address6_of_raw(const struct db_network *row, uint32_t ip, uint8_t ret[16])
{
	uint32_t host = htonl(ip & ~mask_of(row->prefix));
	if (!ip || inet_pton(AF_INET6, row->address6, ret) != 1)
		return false;
	/* the same place in it as in the IPv4 range, which is kept for life */
	memset(ret + 8, 0, 4);
	memcpy(ret + 12, &host, sizeof(host));
	return true;
}

void address6_of(const struct db_network *row, uint32_t ip, char ret[46])
{
	uint8_t address[16];
	ret[0] = '\0';
	if (address6_of_raw(row, ip, address))
		inet_ntop(AF_INET6, address, ret, 46);
}

/* What the host reaches by IPv6: proc(5), /proc/net/ipv6_route. */
static int check_route6(const char *line, const char *own, const uint8_t address[16],
			struct err *err)
{
	char hex[33], link[17];
	unsigned int prefix;
	uint8_t to[16];
	if (sscanf(line, "%32s %2x %*s %*s %*s %*s %*s %*s %*s %16s", hex, &prefix, link) != 3 ||
	    prefix < 8 || strcmp(link, own) == 0 || strcmp(link, "lo") == 0)
		return 0;
	for (size_t i = 0; i < sizeof(to); i++)
		if (sscanf(hex + 2 * i, "%2hhx", &to[i]) != 1)
			return 0;
	unsigned int bits = prefix < 64 ? prefix : 64;
	if (memcmp(to, address, bits / 8) != 0 ||
	    (bits % 8 && ((to[bits / 8] ^ address[bits / 8]) >> (8 - bits % 8)) != 0))
		return 0;
	return err_set(err, ERR_CONFLICT,
		       "the IPv6 range overlaps one that the host reaches through %s; choose "
		       "another cidr6",
		       link);
}

int address6_check_free(struct networks *all, int64_t slot, const uint8_t address[16],
			struct err *err)
{
	char own[16], line[256];
	int result = 0;
	for (struct network *n = all->by_id; n; n = n->by_id.next) {
		uint8_t other[16];
		if (inet_pton(AF_INET6, n->row.address6, other) == 1 &&
		    memcmp(other, address, 8) == 0)
			return err_set(err, ERR_CONFLICT,
				       "the IPv6 range is that of network '%s'; choose another "
				       "cidr6",
				       n->row.name);
	}
	snprintf(own, sizeof(own), "vdibr%u", (unsigned int)slot & 0xffff);
	FILE *in = fopen("/proc/net/ipv6_route", "re");
	while (in && result == 0 && fgets(line, sizeof(line), in))
		result = check_route6(line, own, address, err);
	if (in)
		fclose(in);
	return result;
}

struct taken {
	uint32_t base, size;
	uint32_t first, last; /* what may be given, from the base; 0: all */
	unsigned char *bits;
};

static void mark_taken(void *out, const struct network_host *host)
{
	struct taken *taken = out;
	uint32_t at = host->ip - taken->base;
	if (at < taken->size)
		taken->bits[at / 8] |= (unsigned char)(1u << (at % 8));
}

static bool is_taken(const struct taken *taken, uint32_t ip)
{
	uint32_t at = ip - taken->base;
	return at < taken->size && (taken->bits[at / 8] & (1u << (at % 8)));
}

static void mark_leased(void *out, const struct lease *lease)
{
	mark_taken(out, &(struct network_host){.ip = lease->ip});
}

/* The lowest free address, or 0; neither the range's own address nor its broadcast address. */
static uint32_t lowest_free(const struct taken *taken)
{
	uint32_t end = taken->last ? taken->last : taken->size - 2;
	for (uint32_t at = taken->first ? taken->first : 1; at <= end; at++)
		if (!(taken->bits[at / 8] & (1u << (at % 8))))
			return taken->base + at;
	return 0;
}

/* Addresses kept for others are taken; the one kept for @name is its own. */
static uint32_t mark_reserved(struct network *network, const char *name, struct taken *taken)
{
	struct reservation *r;
	uint32_t own = 0;
	DL_FOREACH (network->reservations, r) {
		if (name && strcmp(r->row.name, name) == 0 && !is_taken(taken, r->row.ip))
			own = r->row.ip;
		mark_taken(taken, &(struct network_host){.ip = r->row.ip});
	}
	return own;
}

static int pick(struct network *network, const char *name, struct taken *taken, uint32_t *ret,
		struct err *err)
{
	struct networks *all = network->all;
	const struct db_network *row = &network->row;
	if (row->range_first) {
		taken->first = row->range_first - taken->base;
		taken->last = row->range_last - taken->base;
	}
	mark_taken(taken, &(struct network_host){.ip = row->address});
	if (all->each_host)
		all->each_host(all->each_host_data, row->id, mark_taken, taken);
	uint32_t own = mark_reserved(network, name, taken);
	uint32_t unassigned = lowest_free(taken);
	/* better one that nobody has used lately: leases outlive their NICs by some hours */
	files_each_lease(network, mark_leased, taken);
	uint32_t found = lowest_free(taken);
	if (!own && !found && !unassigned)
		return err_set(err, ERR_LIMIT,
			       "network '%s' has no free address left; delete desktops on it, "
			       "give up reservations, or let it grow: `vdictl network update`",
			       row->name);
	*ret = own ? own : found ? found : unassigned;
	return 0;
}

int networks_pick_address(struct networks *all, const struct db_network *row, const char *name,
			  uint32_t *ret, struct err *err)
{
	uint32_t size = 1u << (32 - row->prefix);
	struct taken taken = {.base = row->address & mask_of(row->prefix), .size = size};
	struct network *network = network_find(all, row->id, err);
	if (!network)
		return -1;
	if (row->kind == DB_NETWORK_BRIDGED) {
		*ret = 0; /* given by others */
		return 0;
	}
	if (row->intent != DB_INTENT_NONE)
		return err_set(err, ERR_BUSY, "network '%s' is being made or deleted", row->name);
	_cleanup_free_ unsigned char *bits = mem_calloc(size / 8 + 1, 1);
	taken.bits = bits;
	return pick(network, name, &taken, ret, err);
}
