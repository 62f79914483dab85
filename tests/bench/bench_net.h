/* What the benches of networks share. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/nic.h"

#define BENCH_BRIDGE "vdibr1"
#define BENCH_HOST   0x0a090001 /* in a /16 */

static struct netcfg *netcfg;
static struct err err;

static inline void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err.msg[0] ? err.msg : strerror(errno));
	exit(1);
}

static inline void run(const char *command)
{
	if (system(command) != 0) {
		fprintf(stderr, "%s: failed\n", command);
		exit(1);
	}
}

static inline double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* NIC number @i of the network, at its address */
static inline struct netcfg_nic nic_of(const char *tap, unsigned int i)
{
	struct netcfg_nic nic = {.tap = tap,
				 .mac = {0x52, 0x54, 0, 0, (uint8_t)(i >> 8), (uint8_t)i}};
	nic.addresses[0] = netcfg_addr_v4((struct in_addr){htonl(BENCH_HOST + 1 + i)}, 32);
	nic.n_addresses = 1;
	return nic;
}

static inline struct netcfg_addr bench_host(void)
{
	return netcfg_addr_v4((struct in_addr){htonl(BENCH_HOST)}, 16);
}

static inline void bridge_make(void)
{
	struct netcfg_bridge bridge = {.n_addresses = 1};
	bridge.addresses[0] = bench_host();
	must(netcfg_open(&netcfg, &err), "netcfg");
	must(netcfg_bridge_ensure(netcfg, BENCH_BRIDGE, &bridge, &err), "bridge");
}

/* the network's rules; its guests may reach @port of the host by TCP and UDP, or none: 0 */
static inline void network_guard(uint16_t port)
{
	struct netcfg_firewall network = {
		.bridge = BENCH_BRIDGE, .kind = NETCFG_FIREWALL_NAT, .n_addresses = 1};
	network.addresses[0] = bench_host();
	for (int i = 0; port && i < 2; i++)
		network.openings[network.n_openings++] =
			(struct netcfg_opening){i ? NETCFG_UDP : NETCFG_TCP, port, port};
	must(netcfg_firewall_ensure(netcfg, &network, &err), "network");
}

/* "NAME": [...], of milliseconds or whatever else */
static inline void series_print(const char *name, const double *value, size_t n)
{
	printf("\"%s\": [", name);
	for (size_t i = 0; i < n; i++)
		printf("%s%.6g", i ? ", " : "", value[i]);
	putchar(']');
}
