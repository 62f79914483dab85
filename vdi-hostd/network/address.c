#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/network/private.h"

#define PREFIX_MIN  16
#define PREFIX_MAX  29
#define AUTO_FIRST  0x0a500000u /* 10.80.0.0: seldom used, and easy to remember */
#define AUTO_PREFIX 24

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

/*
 * Routes of the host: /proc/net/route, which any user may read. A default route overlaps everything
 * and means nothing here; our own bridges are in the table too, and were compared by their
 * networks.
 */
static int check_routes(uint32_t base, int64_t prefix, struct err *err)
{
	FILE *file = fopen("/proc/net/route", "re");
	char line[256], name[17];
	uint32_t destination, mask;
	int result = 0;
	if (!file)
		return 0; /* a host without IPv4 routes has none that overlap */
	while (result == 0 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%16s %8" SCNx32 " %*x %*x %*d %*d %*d %8" SCNx32, name,
			   &destination, &mask) != 3 ||
		    mask == 0 || strncmp(name, "vdibr", 5) == 0)
			continue;
		destination = ntohl(destination);
		int64_t bits = __builtin_popcount(mask);
		char text[16];
		address_format(destination, text);
		if (overlap(base, prefix, destination, bits))
			result = err_set(err, ERR_CONFLICT,
					 "the host has a route to %s/%" PRId64
					 " through %s, which the "
					 "range overlaps; choose another cidr",
					 text, bits, name);
	}
	fclose(file);
	return result;
}

int address_check_free(struct networks *all, uint32_t base, int64_t prefix, struct err *err)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next)
		if (n->row.address && overlap(base, prefix, n->row.address, n->row.prefix))
			return err_set(
				err, ERR_CONFLICT,
				"the range overlaps that of network '%s'; choose another cidr",
				n->row.name);
	return check_routes(base, prefix, err);
}

int address_pick_range(struct networks *all, uint32_t *ret_base, struct err *err)
{
	for (uint32_t i = 0; i < 4096; i++) {
		uint32_t base = AUTO_FIRST + (i << (32 - AUTO_PREFIX));
		if (address_check_free(all, base, AUTO_PREFIX, NULL) < 0)
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

int networks_pick_address(struct networks *networks, const struct db_network *network,
			  uint32_t *ret, struct err *err)
{
	uint32_t base = network->address & mask_of(network->prefix);
	struct taken taken = {.base = base, .size = 1u << (32 - network->prefix)};
	_cleanup_free_ unsigned char *bits = mem_calloc(taken.size / 8 + 1, 1);
	taken.bits = bits;
	mark_taken(&taken, &(struct network_host){.ip = network->address});
	if (networks->each_host)
		networks->each_host(networks->each_host_data, network->id, mark_taken, &taken);
	/* neither the range's own address nor its broadcast address */
	for (uint32_t at = 1; at + 1 < taken.size; at++) {
		if (bits[at / 8] & (1u << (at % 8)))
			continue;
		*ret = base + at;
		return 0;
	}
	return err_set(
		err, ERR_LIMIT,
		"network '%s' has no free address left; delete desktops on it, or make another "
		"network",
		network->name);
}
