/*
 * Networks at work: bench_netcfg ROUNDS prints one JSON object. In a network namespace of its own,
 * so as root. Each figure has its baseline from the same run: the same work by calling ip, bridge,
 * tc and nft, and the same traffic without filters.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/group.h"
#include "netcfg/link.h"
#include "netcfg/nic.h"
#include "netcfg/rate.h"
#include "netcfg/tap.h"

#define MANY 200

static struct netcfg *netcfg;
static struct err err;

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err.msg[0] ? err.msg : strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A program and its end, as a script would call it, but for the shell. */
static void call(char *const argv[])
{
	extern char **environ;
	pid_t pid;
	int status;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "%s %s %s: failed\n", argv[0], argv[1], argv[2]);
		exit(1);
	}
}

#define CALL(...) call((char *[]){__VA_ARGS__, NULL})

static struct netcfg_nic nic_of(const char *tap, unsigned int i)
{
	struct netcfg_nic nic = {.tap = tap,
				 .mac = {0x52, 0x54, 0, 0, (uint8_t)(i >> 8), (uint8_t)i}};
	nic.addresses[0] = netcfg_addr_v4((struct in_addr){htonl(0x0a090000 + 2 + i)}, 32);
	nic.n_addresses = 1;
	return nic;
}

static void bridge_make(void)
{
	struct netcfg_bridge bridge = {.n_addresses = 1};
	struct netcfg_firewall network = {
		.bridge = "vdibr1", .kind = NETCFG_FIREWALL_NAT, .n_addresses = 1};
	bridge.addresses[0] = netcfg_addr_v4((struct in_addr){htonl(0x0a090001)}, 16);
	network.addresses[0] = bridge.addresses[0];
	must(netcfg_open(&netcfg, &err), "netcfg");
	must(netcfg_firewall_ensure(netcfg, &network, &err), "network");
	must(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err), "bridge");
}

/* ---- a tap: membership, filter, rates; and all of it gone ---- */

static const struct netcfg_rates rates_to = {.to_guest = {100000000, 0}};
static const struct netcfg_rates rates_both = {{100000000, 0}, {50000000, 0}};

/* struct times - seconds that the two halves took in all */
struct times {
	double create, delete;
};

static void tap_ours(unsigned int i, const struct netcfg_rates *rates, struct times *ret)
{
	const char *const name = "vdi1n0";
	const struct netcfg_nic nic = nic_of(name, i);
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true, .isolated = true}};
	int fd = -1;
	memcpy(tap.port.mac, nic.mac, sizeof(nic.mac));
	const double begin = now();
	must(netcfg_nics_ensure(netcfg, &nic, 1, &err), "filter");
	must(netcfg_tap_create(netcfg, name, &tap, &fd, &err), "tap");
	must(netcfg_rates_ensure(netcfg, name, rates, &err), "rates");
	const double middle = now();
	must(netcfg_rates_remove(netcfg, name, &err), "rates");
	must(netcfg_tap_delete(netcfg, name, &err), "tap");
	must(netcfg_nics_delete(netcfg, &name, 1, &err), "filter");
	ret->delete += now() - middle;
	ret->create += middle - begin;
	close(fd);
}

/* The same, with the fewest calls that do it. */
static void tap_programs(unsigned int i, const struct netcfg_rates *rates, struct times *ret)
{
	char add[1024], del[1024], mac[18], ip[16];
	snprintf(mac, sizeof(mac), "52:54:00:00:%02x:%02x", i >> 8 & 0xff, i & 0xff);
	snprintf(ip, sizeof(ip), "10.9.%u.%u", i >> 8 & 0xff, i & 0xff);
	const char *const form =
		"%1$s element inet vdi-hostd nics { vdi1n0 }\n"
		"%1$s element bridge vdi-hostd nics { vdi1n0 }\n"
		"%1$s element bridge vdi-hostd macs { vdi1n0 . %2$s }\n"
		"%1$s element bridge vdi-hostd source4 { vdi1n0 . %2$s . %3$s }\n"
		"%1$s element bridge vdi-hostd source6 { vdi1n0 . %2$s . fe80::5054:ff:fe00:1 }\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(add, sizeof(add), form, "add", mac, ip);
	snprintf(del, sizeof(del), form, "delete", mac, ip);
#pragma GCC diagnostic pop
	const double begin = now();
	CALL("nft", add);
	CALL("ip", "tuntap", "add", "vdi1n0", "mode", "tap");
	CALL("ip", "link", "set", "vdi1n0", "master", "vdibr1", "up");
	CALL("bridge", "link", "set", "dev", "vdi1n0", "isolated", "on", "learning", "off", "flood",
	     "off");
	CALL("bridge", "fdb", "replace", mac, "dev", "vdi1n0", "master", "static");
	CALL("tc", "qdisc", "add", "dev", "vdi1n0", "root", "tbf", "rate", "100mbit", "burst",
	     "128kb", "latency", "50ms");
	const bool both = rates->from_guest.bits_per_s != 0;
	if (both) {
		CALL("ip", "link", "add", "ifb-vdi1n0", "type", "ifb");
		CALL("ip", "link", "set", "ifb-vdi1n0", "up");
		CALL("tc", "qdisc", "add", "dev", "ifb-vdi1n0", "root", "tbf", "rate", "50mbit",
		     "burst", "64kb", "latency", "50ms");
		CALL("tc", "qdisc", "add", "dev", "vdi1n0", "ingress");
		CALL("tc", "filter", "add", "dev", "vdi1n0", "parent", "ffff:", "protocol", "all",
		     "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect",
		     "dev", "ifb-vdi1n0");
	}
	const double middle = now();
	if (both)
		CALL("ip", "link", "del", "dev", "ifb-vdi1n0");
	CALL("ip", "link", "del", "dev", "vdi1n0");
	CALL("nft", del);
	ret->delete += now() - middle;
	ret->create += middle - begin;
}

static void taps(const char *name, unsigned int rounds, const struct netcfg_rates *rates)
{
	struct times ours = {0}, programs = {0};
	/* in turns: what else the machine does is shared fairly */
	for (unsigned int i = 0; i < rounds; i++) {
		tap_ours(i, rates, &ours);
		if (i % 4 == 0)
			tap_programs(i, rates, &programs);
	}
	const unsigned int n = (rounds + 3) / 4;
	printf("\"%s\": {\"create_s\": %.1f, \"total_s\": %.1f, \"programs_create_s\": %.1f, "
	       "\"programs_total_s\": %.1f}, ",
	       name, rounds / ours.create, rounds / (ours.create + ours.delete),
	       n / programs.create, n / (programs.create + programs.delete));
}

/* ---- a change for many NICs ---- */

static void groups_put(bool drop)
{
	struct netcfg_rule rules[20];
	struct netcfg_group group = {
		.id = 1, .drop_in = drop, .rules = rules, .n_rules = ARRAY_LEN(rules)};
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		rules[i] = (struct netcfg_rule){.direction = NETCFG_IN,
						.protocol = NETCFG_TCP,
						.accept = true,
						.port_first = (uint16_t)(1000 + i),
						.port_last = (uint16_t)(1000 + i)};
	must(netcfg_groups_ensure(netcfg, &group, 1, false, &err), "group");
}

/* The elements that move all NICs into a group, as a file for nft. */
static void file_write(const char *path, char names[][16])
{
	static const char *const maps[] = {"out0 %s group-1-out", "out0-end %s group-1-out-end",
					   "in0 %s group-1-in", "in0-end %s group-1-in-end"};
	FILE *out = fopen(path, "we");
	must(out ? 0 : -1, path);
	for (size_t m = 0; m < ARRAY_LEN(maps); m++) {
		char map[16], chain[32];
		must(sscanf(maps[m], "%15s %%s %31s", map, chain) == 2 ? 0 : -1, "map");
		fprintf(out, "flush map bridge vdi-hostd %s\nadd element bridge vdi-hostd %s { ",
			map, map);
		for (unsigned int i = 0; i < MANY; i++)
			fprintf(out, "%s\"%s\" : jump %s", i ? ", " : "", names[i], chain);
		fputs(" }\n", out);
	}
	fputs("flush set bridge vdi-hostd grouped\nadd element bridge vdi-hostd grouped { ", out);
	for (unsigned int i = 0; i < MANY; i++)
		fprintf(out, "%s\"%s\"", i ? ", " : "", names[i]);
	fputs(" }\nflush set bridge vdi-hostd members-1-4\n"
	      "add element bridge vdi-hostd members-1-4 { ",
	      out);
	for (unsigned int i = 0; i < MANY; i++)
		fprintf(out, "%s10.9.%u.%u", i ? ", " : "", (i + 2) >> 8, (i + 2) & 0xff);
	fputs(" }\n", out);
	must(fclose(out), path);
}

/* The rules of groups_put() as a file for nft. */
static void rules_write(const char *path)
{
	FILE *out = fopen(path, "we");
	must(out ? 0 : -1, path);
	fputs("flush chain bridge vdi-hostd group-1-in\n"
	      "flush chain bridge vdi-hostd group-1-in-end\n",
	      out);
	for (int i = 0; i < 20; i++)
		fprintf(out, "add rule bridge vdi-hostd group-1-in tcp dport %d goto begin-in\n",
			1000 + i);
	fputs("add rule bridge vdi-hostd group-1-in-end goto drop-group-in\n", out);
	must(fclose(out), path);
}

static void many(void)
{
	static struct netcfg_nic nics[MANY];
	static char names[MANY][16];
	const char *taps_of[MANY];
	char path[] = "/tmp/bench-nft-XXXXXX", rules_path[] = "/tmp/bench-nft-XXXXXX";
	double ours = 1e9, programs = 1e9, rules = 1e9, rules_programs = 1e9;
	const int fds[] = {mkstemp(path), mkstemp(rules_path)};
	must(fds[0], path);
	must(fds[1], rules_path);
	close(fds[0]);
	close(fds[1]);
	rules_write(rules_path);
	groups_put(true);
	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "vdi%un1", i);
		taps_of[i] = names[i];
		nics[i] = nic_of(names[i], i);
		nics[i].groups[0] = 1;
		nics[i].n_groups = 1;
	}
	file_write(path, names);
	for (int i = 0; i < 9; i++) {
		double begin = now();
		must(netcfg_nics_ensure(netcfg, nics, MANY, &err), "many");
		/* the first makes them, as no later change does */
		if (i > 0 && now() - begin < ours)
			ours = now() - begin;
		begin = now();
		groups_put(i % 2);
		if (now() - begin < rules)
			rules = now() - begin;
		begin = now();
		CALL("nft", "-f", path);
		if (now() - begin < programs)
			programs = now() - begin;
		begin = now();
		CALL("nft", "-f", rules_path);
		if (now() - begin < rules_programs)
			rules_programs = now() - begin;
	}
	unlink(path);
	unlink(rules_path);
	must(netcfg_nics_delete(netcfg, taps_of, MANY, &err), "many");
	printf("\"nics\": %d, \"nics_ms\": %.2f, \"nft_f_ms\": %.2f, \"rules_ms\": %.2f, \"rules_nft_f_ms\": %.2f, ",
	       MANY, ours * 1e3, programs * 1e3, rules * 1e3, rules_programs * 1e3);
}

/* ---- throughput ---- */

#define PIECE   65536
#define SECONDS 0.4

static int ns_here(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	must(fd, "namespace");
	return fd;
}

static void run(const char *command)
{
	if (system(command) != 0) {
		fprintf(stderr, "%s: failed\n", command);
		exit(1);
	}
}

/* A guest behind a veth that is a port of the bridge, as a tap would be. */
static int guest_make(const char *name, unsigned int i)
{
	const struct netcfg_nic nic = nic_of(name, i);
	char command[256];
	const int here = ns_here();
	must(unshare(CLONE_NEWNET), "namespace");
	const int ns = ns_here();
	must(setns(here, CLONE_NEWNET), "namespace");
	snprintf(command, sizeof(command),
		 "ip link add %s type veth peer name eth0 address 52:54:00:00:%02x:%02x netns "
		 "/proc/%d/fd/%d && ip link set %s master vdibr1 up && bridge link set dev %s "
		 "learning off && bridge fdb replace 52:54:00:00:%02x:%02x dev %s master static",
		 name, nic.mac[4], nic.mac[5], (int)getpid(), ns, name, name, nic.mac[4],
		 nic.mac[5], name);
	run(command);
	must(setns(ns, CLONE_NEWNET), "namespace");
	snprintf(command, sizeof(command),
		 "ip link set eth0 up && ip addr add 10.9.%u.%u/16 dev eth0", (i + 2) >> 8,
		 (i + 2) & 0xff);
	run(command);
	must(setns(here, CLONE_NEWNET), "namespace");
	close(here);
	return ns;
}

/* Bytes a second from one namespace to a port of the other. */
static double blast(int from, int to, uint32_t address)
{
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr = {htonl(address)}};
	static char piece[PIECE];
	const int here = ns_here(), on = 1;
	socklen_t size = sizeof(there);
	must(setns(to, CLONE_NEWNET), "namespace");
	const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "listen");
	must(bind(listener, (struct sockaddr *)&there, sizeof(there)), "bind");
	must(listen(listener, 1), "listen");
	must(getsockname(listener, (struct sockaddr *)&there, &size), "listen");
	must(setns(from, CLONE_NEWNET), "namespace");
	const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(connect(out, (struct sockaddr *)&there, sizeof(there)), "connect");
	must(setns(here, CLONE_NEWNET), "namespace");
	close(here);
	pid_t pid = fork();
	must(pid, "fork");
	if (pid == 0) {
		while (write(out, piece, PIECE) > 0)
			;
		_exit(0);
	}
	close(out);
	const int in = accept(listener, NULL, NULL);
	must(in, "accept");
	const double begin = now();
	double bytes = 0, end = begin;
	for (ssize_t n; end - begin < SECONDS && (n = read(in, piece, PIECE)) > 0; end = now())
		bytes += (double)n;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(in);
	close(listener);
	return bytes / (end - begin);
}

static void throughput(unsigned int turns)
{
	const char *const names[] = {"vdi1n0", "vdi2n0"};
	struct netcfg_nic nics[] = {nic_of(names[0], 0), nic_of(names[1], 1)};
	const int one = guest_make(names[0], 0), two = guest_make(names[1], 1), here = ns_here();
	double best[2][2] = {{0}};
	/* the host's port would be closed with the network's rules on: they are not part of it */
	must(netcfg_firewall_delete(netcfg, "vdibr1", &err), "network");
	const struct netcfg_group group = {.id = 1, .drop_in = true};
	const struct netcfg_rule all = {.direction = NETCFG_IN, .accept = true};
	struct netcfg_group open = group;
	open.rules = &all;
	open.n_rules = 1;
	must(netcfg_groups_ensure(netcfg, &open, 1, false, &err), "group");
	for (int i = 0; i < 2; i++) {
		nics[i].groups[0] = 1;
		nics[i].n_groups = 1;
	}
	for (unsigned int i = 0; i < 2 * turns; i++) {
		const int on = i % 2;
		if (on)
			must(netcfg_nics_ensure(netcfg, nics, 2, &err), "filters");
		const double guest = blast(one, two, 0x0a090003),
			     host = blast(one, here, 0x0a090001);
		best[on][0] = guest > best[on][0] ? guest : best[on][0];
		best[on][1] = host > best[on][1] ? host : best[on][1];
		if (on)
			must(netcfg_nics_delete(netcfg, names, 2, &err), "filters");
	}
	printf("\"guest_off\": %.2f, \"guest_on\": %.2f, \"host_off\": %.2f, \"host_on\": %.2f}\n",
	       best[0][0] * 8 / 1e9, best[1][0] * 8 / 1e9, best[0][1] * 8 / 1e9,
	       best[1][1] * 8 / 1e9);
}

int main(int argc, char **argv)
{
	const unsigned int rounds = argc > 1 ? (unsigned int)atoi(argv[1]) : 40;
	must(unshare(CLONE_NEWNET), "a network namespace");
	run("ip link set lo up");
	bridge_make();
	putchar('{');
	taps("tap", rounds, &rates_to);
	taps("tap_both", rounds, &rates_both);
	many();
	throughput(8);
	netcfg_close(netcfg);
	return 0;
}
