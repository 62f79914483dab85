#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

static int check_free(struct networks *all, const struct ranges *ranges, uint32_t base,
		      int64_t prefix, struct err *err)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next)
		if (n->row.address && overlap(base, prefix, n->row.address, n->row.prefix))
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
	return check_free(all, &ranges, base, prefix, err);
}

int address_pick_range(struct networks *all, int64_t slot, uint32_t *ret_base, struct err *err)
{
	_cleanup_(ranges_done) struct ranges ranges = {.n = 0};
	if (ranges_read(slot, &ranges, err) < 0)
		return -1;
	for (uint32_t i = 0; i < AUTO_COUNT; i++) {
		uint32_t base = AUTO_FIRST + (i << (32 - AUTO_PREFIX));
		if (check_free(all, &ranges, base, AUTO_PREFIX, NULL) < 0)
			continue;
		*ret_base = base;
		return 0;
	}
	return err_set(err, ERR_LIMIT, "no private range is free; name one with cidr");
}

struct taken {
	uint32_t base, size;
	unsigned char *bits;
};

static void mark_taken(void *out, const struct network_host *host)
{
	struct taken *taken = out;
	uint32_t at = host->ip - taken->base;
	if (at < taken->size)
		taken->bits[at / 8] |= (unsigned char)(1u << (at % 8));
}

static void mark_leased(void *out, const struct lease *lease)
{
	mark_taken(out, &(struct network_host){.ip = lease->ip});
}

/* The lowest free address, or 0; neither the range's own address nor its broadcast address. */
static uint32_t lowest_free(const struct taken *taken)
{
	for (uint32_t at = 1; at + 1 < taken->size; at++)
		if (!(taken->bits[at / 8] & (1u << (at % 8))))
			return taken->base + at;
	return 0;
}

int networks_pick_address(struct networks *networks, const struct db_network *row, uint32_t *ret,
			  struct err *err)
{
	uint32_t size = 1u << (32 - row->prefix), found;
	struct network *network = NULL;
	struct taken taken = {.base = row->address & mask_of(row->prefix), .size = size};
	_cleanup_free_ unsigned char *bits = mem_calloc(size / 8 + 1, 1);
	taken.bits = bits;
	if (row->intent != DB_INTENT_NONE)
		return err_set(err, ERR_BUSY, "network '%s' is being made or deleted", row->name);
	mark_taken(&taken, &(struct network_host){.ip = row->address});
	if (networks->each_host)
		networks->each_host(networks->each_host_data, row->id, mark_taken, &taken);
	uint32_t unassigned = lowest_free(&taken);
	/* better one that nobody has used lately: leases outlive their NICs by some hours */
	HASH_FIND(by_id, networks->by_id, row->id, strlen(row->id), network);
	if (network)
		files_each_lease(network, mark_leased, &taken);
	found = lowest_free(&taken);
	if (found || unassigned) {
		*ret = found ? found : unassigned;
		return 0;
	}
	return err_set(
		err, ERR_LIMIT,
		"network '%s' has no free address left; delete desktops on it, or make another "
		"network",
		row->name);
}
