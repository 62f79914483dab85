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

struct wanted {
	bool tcp;
	uint32_t address;
	unsigned int first, last;
};

/* An address as /proc shows it: words in the machine's byte order. */
static uint32_t ipv4_of(const char *hex, bool *ret_any)
{
	uint32_t word[4] = {0};
	if (strlen(hex) == 8) {
		sscanf(hex, "%8x", &word[0]);
		*ret_any = word[0] == 0;
		return ntohl(word[0]);
	}
	sscanf(hex, "%8x%8x%8x%8x", &word[0], &word[1], &word[2], &word[3]);
	/* ::, which takes IPv4 as well, and IPv4 addresses in IPv6's clothes */
	*ret_any = !word[0] && !word[1] && !word[2] && !word[3];
	return !word[0] && !word[1] && word[2] == htonl(0xffff) ? ntohl(word[3]) : 0;
}

static int check_line(const char *line, const struct wanted *wanted, struct err *err)
{
	char local[33];
	unsigned int port, state;
	bool any;
	if (sscanf(line, " %*u: %32[0-9A-F]:%4x %*[0-9A-F]:%*4x %2x", local, &port, &state) != 3 ||
	    state != (wanted->tcp ? TCP_LISTEN : UDP_OPEN) || port < wanted->first ||
	    port > wanted->last)
		return 0;
	uint32_t address = ipv4_of(local, &any);
	if (!any && (address == 0 || address >> 24 == 127))
		return 0; /* of IPv6 alone, or of nobody's but the host's own */
	if (!any && wanted->address && address != wanted->address)
		return 0;
	return err_set(err, ERR_CONFLICT,
		       "something on this host listens on %s port %u already (`ss -lnp` shows "
		       "what); choose another port",
		       wanted->tcp ? "TCP" : "UDP", port);
}

static int check_file(const char *path, const struct wanted *wanted, struct err *err)
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

int ports_check_free(bool tcp, uint32_t address, uint16_t first, uint16_t count, struct err *err)
{
	const struct wanted wanted = {tcp, address, first, first + count - 1u};
	if (check_file(tcp ? "/proc/net/tcp" : "/proc/net/udp", &wanted, err) < 0)
		return -1;
	return check_file(tcp ? "/proc/net/tcp6" : "/proc/net/udp6", &wanted, err);
}
