#include "vdi-hostd/network/ports.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "vdi-hostd/network/network.h"

#define TCP_LISTEN 0x0a
#define UDP_OPEN   0x07 /* bound, connected to nobody */

int networks_parse_ports(const char *text, int64_t *ret_first, int64_t *ret_last, struct err *err)
{
	char begin[8];
	int64_t first, last;
	size_t len = strcspn(text, "-");
	if (len < sizeof(begin)) {
		memcpy(begin, text, len);
		begin[len] = '\0';
		if (str_parse_i64(begin, &first) == 0 &&
		    str_parse_i64(text[len] ? text + len + 1 : begin, &last) == 0 && first >= 1 &&
		    last >= first && last <= 65535) {
			*ret_first = first;
			*ret_last = last;
			return 0;
		}
	}
	return err_set_field(err, "ports", "'%.40s' is neither a port nor a range of ports", text);
}

json_t *networks_ports_to_json(int64_t first, int64_t last)
{
	if (!first)
		return json_null();
	return first == last ? json_sprintf("%d", (int)first)
			     : json_sprintf("%d-%d", (int)first, (int)last);
}

/* ---- who listens ---- */

/* An address as /proc shows it: words in the machine's byte order. */
static struct netcfg_addr address_of(const char *hex)
{
	uint32_t word[4] = {0};
	struct in6_addr v6;
	const bool v4 = strlen(hex) == 8;
	sscanf(hex, "%8x%8x%8x%8x", &word[0], &word[1], &word[2], &word[3]);
	memcpy(&v6, word, sizeof(v6));
	/* of IPv4, or in IPv6's clothes */
	if (v4 || IN6_IS_ADDR_V4MAPPED(&v6))
		return netcfg_addr_v4((struct in_addr){word[v4 ? 0 : 3]}, 32);
	return netcfg_addr_v6(&v6, 128);
}

/* Would what comes to @listener come to a desktop? */
static bool collides(const struct netcfg_addr *listener, const struct ports *wanted)
{
	if (listener->family == AF_INET) {
		const uint32_t ip = ntohl(listener->v4.s_addr);
		return wanted->ipv4 && ip >> 24 != 127 &&
		       (ip == 0 || !wanted->host.family ||
			netcfg_addr_equal(listener, &wanted->host));
	}
	/* :: takes IPv4 as well; one that was told not to looks the same */
	if (IN6_IS_ADDR_UNSPECIFIED(&listener->v6))
		return true;
	return wanted->ipv6 && !IN6_IS_ADDR_LOOPBACK(&listener->v6) &&
	       (!wanted->host.family || netcfg_addr_equal(listener, &wanted->host));
}

static int check_line(const char *line, const struct ports *wanted, struct err *err)
{
	char local[33];
	unsigned int port, state;
	if (sscanf(line, " %*u: %32[0-9A-F]:%4x %*[0-9A-F]:%*4x %2x", local, &port, &state) != 3 ||
	    state != (wanted->tcp ? TCP_LISTEN : UDP_OPEN) || port < wanted->first ||
	    port > wanted->last)
		return 0;
	const struct netcfg_addr listener = address_of(local);
	if (!collides(&listener, wanted))
		return 0;
	return err_set(err, ERR_CONFLICT,
		       "something on this host listens on %s port %u already (`ss -lnp` shows "
		       "what); choose another port",
		       wanted->tcp ? "TCP" : "UDP", port);
}

static int check_file(const char *path, const struct ports *wanted, struct err *err)
{
	char line[512];
	int result = 0;
	FILE *in = fopen(path, "re");
	if (!in)
		return 0; /* a kernel without that family */
	while (result == 0 && fgets(line, sizeof(line), in))
		result = check_line(line, wanted, err);
	fclose(in);
	return result;
}

int ports_check_free(const struct ports *wanted, struct err *err)
{
	if (check_file(wanted->tcp ? "/proc/net/tcp" : "/proc/net/udp", wanted, err) < 0)
		return -1;
	return check_file(wanted->tcp ? "/proc/net/tcp6" : "/proc/net/udp6", wanted, err);
}
