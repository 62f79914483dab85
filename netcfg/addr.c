/* Addresses and MACs as values. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "netcfg/internal.h"

struct netcfg_addr netcfg_addr_v4(struct in_addr address, unsigned int prefix)
{
	struct netcfg_addr ret;
	memset(&ret, 0, sizeof(ret));
	ret.family = AF_INET;
	ret.prefix = (uint8_t)prefix;
	ret.v4 = address;
	return ret;
}

struct netcfg_addr netcfg_addr_v6(const struct in6_addr *address, unsigned int prefix)
{
	struct netcfg_addr ret;
	memset(&ret, 0, sizeof(ret));
	ret.family = AF_INET6;
	ret.prefix = (uint8_t)prefix;
	ret.v6 = *address;
	return ret;
}

int netcfg_addr_parse(const char *text, struct netcfg_addr *ret, struct err *err)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strnlen(text, sizeof(host));
	struct netcfg_addr found;
	memset(&found, 0, sizeof(found));
	if (len >= sizeof(host))
		return err_set(err, ERR_INVALID, "\"%.60s\" is no IP address", text);
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, &found.v4) == 1)
		found.family = AF_INET;
	else if (inet_pton(AF_INET6, host, &found.v6) == 1)
		found.family = AF_INET6;
	else
		return err_set(err, ERR_INVALID, "\"%.60s\" is no IP address", text);
	int64_t prefix = found.family == AF_INET ? 32 : 128;
	const int64_t most = prefix;
	if (slash && (str_parse_i64(slash + 1, &prefix) < 0 || prefix < 0 || prefix > most))
		return err_set(err, ERR_INVALID, "\"%.60s\": the prefix is not in 0 to %d", text,
			       (int)most);
	found.prefix = (uint8_t)prefix;
	*ret = found;
	return 0;
}

const char *netcfg_addr_format(const struct netcfg_addr *addr, char ret[NETCFG_ADDR_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN];
	size_t size;
	if ((addr->family != AF_INET && addr->family != AF_INET6) ||
	    !inet_ntop(addr->family, netcfg_addr_bytes(addr, &size), host, sizeof(host)))
		snprintf(ret, NETCFG_ADDR_TEXT_MAX, "none");
	else
		snprintf(ret, NETCFG_ADDR_TEXT_MAX, "%s/%u", host, addr->prefix);
	return ret;
}

const void *netcfg_addr_bytes(const struct netcfg_addr *address, size_t *ret_size)
{
	*ret_size = address->family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
	return address->family == AF_INET ? (const void *)&address->v4 : &address->v6;
}

bool netcfg_addr_set(struct netcfg_addr *ret, int family, const void *bytes, size_t size,
		     unsigned int prefix)
{
	struct in_addr v4;
	struct in6_addr v6;
	if (family == AF_INET && size == sizeof(v4) && prefix <= 32) {
		memcpy(&v4, bytes, sizeof(v4));
		*ret = netcfg_addr_v4(v4, prefix);
		return true;
	}
	if (family == AF_INET6 && size == sizeof(v6) && prefix <= 128) {
		memcpy(&v6, bytes, sizeof(v6));
		*ret = netcfg_addr_v6(&v6, prefix);
		return true;
	}
	return false;
}

bool netcfg_addr_equal(const struct netcfg_addr *a, const struct netcfg_addr *b)
{
	size_t size;
	if (a->family != b->family)
		return false;
	if (a->family == 0)
		return true;
	const void *bytes = netcfg_addr_bytes(b, &size);
	return a->prefix == b->prefix && memcmp(netcfg_addr_bytes(a, &size), bytes, size) == 0;
}

int netcfg_addr_check(const char *what, const struct netcfg_addr *address, struct err *err)
{
	if (address->family != AF_INET && address->family != AF_INET6)
		return err_set(err, ERR_INVALID, "%s is neither IPv4 nor IPv6", what);
	const unsigned int most = address->family == AF_INET ? 32 : 128;
	if (address->prefix > most)
		return err_set(err, ERR_INVALID, "%s: prefix /%u is over /%u", what,
			       address->prefix, most);
	return 0;
}

struct netcfg_addr netcfg_addr_network(const struct netcfg_addr *address)
{
	struct netcfg_addr ret = *address;
	uint8_t *bytes = ret.family == AF_INET ? (uint8_t *)&ret.v4 : ret.v6.s6_addr;
	for (unsigned int i = 0; i < (ret.family == AF_INET ? 4u : 16u); i++) {
		unsigned int kept = ret.prefix > 8 * i ? ret.prefix - 8 * i : 0;
		if (kept < 8)
			bytes[i] &= (uint8_t)(0xff00 >> kept);
	}
	return ret;
}

int netcfg_subnet_check(const struct netcfg_addr *address, struct err *err)
{
	char text[NETCFG_ADDR_TEXT_MAX];
	if (netcfg_addr_check("a network's address", address, err) < 0)
		return -1;
	const bool v4 = address->family == AF_INET;
	const unsigned int least = v4 ? 8 : 48, most = v4 ? 30 : 126;
	if (address->prefix < least || address->prefix > most)
		return err_set(err, ERR_INVALID, "prefix /%u is not in /%u to /%u", address->prefix,
			       least, most);
	const struct netcfg_addr net = netcfg_addr_network(address);
	bool host = !netcfg_addr_equal(&net, address);
	if (v4 && ~(ntohl(address->v4.s_addr) | netcfg_mask(address->prefix)) == 0)
		host = false;
	if (host)
		return 0;
	return err_set(err, ERR_INVALID, "%s is no address of a host in its network",
		       netcfg_addr_format(address, text));
}

bool netcfg_ipv4_is_unicast(struct in_addr address)
{
	const uint32_t first = ntohl(address.s_addr) >> 24;
	return first != 0 && first != 127 && first < 224;
}

const char *netcfg_mac_format(const uint8_t mac[6], char ret[NETCFG_MAC_TEXT_MAX])
{
	snprintf(ret, NETCFG_MAC_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return ret;
}

bool netcfg_mac_is_valid(const uint8_t mac[6])
{
	static const uint8_t zeros[6];
	return (mac[0] & 1) == 0 && memcmp(mac, zeros, sizeof(zeros)) != 0;
}

struct in6_addr netcfg_mac_link_local(const uint8_t mac[6])
{
	return (struct in6_addr){.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1],
					     mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
}

/* FNV-1a */
uint64_t netcfg_hash(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325;
	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	return hash;
}

void netcfg_mac_of_name(const char *name, uint8_t mac[6])
{
	const uint64_t hash = netcfg_hash(name);
	mac[0] = 0x02;
	for (int i = 1; i < 6; i++)
		mac[i] = (uint8_t)(hash >> (8 * i));
}
