/* What a DHCP server answers, as an IPv4 packet and as the kernel's log tells it. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "netcfg/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(void *data, const struct netcfg_lease *lease)
{
	const uint32_t first = ntohl(lease->address.s_addr) >> 24;
	if (!netcfg_mac_is_valid(lease->mac) || first == 0 || first == 127 || first >= 224 ||
	    lease->seconds == 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct netcfg_lease lease;
	/* aligned as the kernel's are */
	uint8_t *datagram = malloc(size ? size : 1);
	if (!datagram)
		abort();
	memcpy(datagram, data, size);
	if (netcfg_dhcp_parse(data, size, &lease))
		check(NULL, &lease);
	netcfg_dhcp_told(datagram, size, check, NULL);
	free(datagram);
	return 0;
}
