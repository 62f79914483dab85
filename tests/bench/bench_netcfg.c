/*
 * Networks at work: bench_netcfg ROUNDS prints one JSON object of milliseconds. In a network
 * namespace of its own, so as root. Each figure has its baseline from the same round: the same work
 * by calling ip, bridge, tc and nft.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netcfg/group.h"
#include "netcfg/link.h"
#include "netcfg/rate.h"
#include "netcfg/tap.h"
#include "tests/bench/bench_net.h"
#include "vdi-hostd/priv/server.h"
#include "vdi-hostd/priv/wire.h"

#define MANY       200
#define BURST      25
#define STOPS      50
#define ROUNDS_MAX 200

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

/* ---- a tap: membership, filter, rates; and all of it gone ---- */

static const struct netcfg_rates rates_to = {.to_guest = {100000000, 0}};
static const struct netcfg_rates rates_both = {{100000000, 0}, {50000000, 0}};

static double ms_since(double begin)
{
	return (now() - begin) * 1e3;
}

static int tap_create(const char *name, unsigned int i, const struct netcfg_rates *rates)
{
	const struct netcfg_nic nic = nic_of(name, i);
	struct netcfg_tap tap = {
		.bridge = BENCH_BRIDGE, .port = {.fixed = true, .isolated = true}, .rates = *rates};
	int fd = -1;
	memcpy(tap.port.mac, nic.mac, sizeof(nic.mac));
	must(netcfg_nics_ensure(netcfg, &nic, 1, &err), "filter");
	must(netcfg_tap_create(netcfg, name, &tap, &fd, &err), "tap");
	return fd;
}

static void tap_discard(const char *name)
{
	must(netcfg_tap_discard(netcfg, name, &err), "tap");
	must(netcfg_nics_delete(netcfg, &name, 1, &err), "filter");
}

/**
 * struct taps - milliseconds a tap in each round
 * @create, @delete: one after the other, each gone before the next; @kernel: the one request of
 *                   it that the kernel does not answer until the links are gone
 * @burst, @burst_put_aside, @burst_sweep: BURST of them made, put aside one by one, and swept away
 *                   together
 * @programs_create, @programs_delete: by programs
 */
struct taps {
	double create[ROUNDS_MAX], delete[ROUNDS_MAX], kernel[ROUNDS_MAX];
	double burst[ROUNDS_MAX], burst_put_aside[ROUNDS_MAX], burst_sweep[ROUNDS_MAX];
	double programs_create[ROUNDS_MAX], programs_delete[ROUNDS_MAX];
};

static void taps_ours(const struct netcfg_rates *rates, struct taps *ret, unsigned int round)
{
	double begin = now();
	int fd = tap_create("vdi1n0", round, rates);
	ret->create[round] = ms_since(begin);
	begin = now();
	tap_discard("vdi1n0");
	const double sweep = now();
	must(netcfg_links_sweep(netcfg, &err), "sweep");
	close(fd);
	ret->kernel[round] = ms_since(sweep);
	ret->delete[round] = ms_since(begin);
}

static void taps_burst(const struct netcfg_rates *rates, struct taps *ret, unsigned int round)
{
	char names[BURST][16];
	int fds[BURST];
	double begin = now();
	for (unsigned int i = 0; i < BURST; i++) {
		snprintf(names[i], sizeof(names[i]), "vdi%un1", i);
		fds[i] = tap_create(names[i], 1000 + i, rates);
	}
	ret->burst[round] = ms_since(begin) / BURST;
	begin = now();
	for (unsigned int i = 0; i < BURST; i++)
		tap_discard(names[i]);
	ret->burst_put_aside[round] = ms_since(begin) / BURST;
	begin = now();
	must(netcfg_links_sweep(netcfg, &err), "sweep");
	for (unsigned int i = 0; i < BURST; i++)
		close(fds[i]);
	ret->burst_sweep[round] = ms_since(begin) / BURST;
}

/* The same, with the fewest calls that do it. */
static void taps_programs(const struct netcfg_rates *rates, struct taps *ret, unsigned int round)
{
	char add[1024], del[1024], mac[18], ip[16];
	const struct netcfg_nic nic = nic_of("vdi2n0", round);
	inet_ntop(AF_INET, &nic.addresses[0].v4, ip, sizeof(ip));
	snprintf(mac, sizeof(mac), "52:54:00:00:%02x:%02x", nic.mac[4], nic.mac[5]);
	const char *const form =
		"%1$s element inet vdi-hostd nics { vdi2n0 }\n"
		"%1$s element bridge vdi-hostd nics { vdi2n0 }\n"
		"%1$s element bridge vdi-hostd macs { vdi2n0 . %2$s }\n"
		"%1$s element bridge vdi-hostd source4 { vdi2n0 . %2$s . %3$s }\n"
		"%1$s element bridge vdi-hostd source6 { vdi2n0 . %2$s . fe80::5054:ff:fe00:1 }\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(add, sizeof(add), form, "add", mac, ip);
	snprintf(del, sizeof(del), form, "delete", mac, ip);
#pragma GCC diagnostic pop
	double begin = now();
	CALL("nft", add);
	CALL("ip", "tuntap", "add", "vdi2n0", "mode", "tap", "vnet_hdr");
	CALL("ip", "link", "set", "vdi2n0", "master", BENCH_BRIDGE, "up");
	CALL("bridge", "link", "set", "dev", "vdi2n0", "isolated", "on", "learning", "off", "flood",
	     "off");
	CALL("bridge", "fdb", "replace", mac, "dev", "vdi2n0", "master", "static");
	CALL("tc", "qdisc", "add", "dev", "vdi2n0", "root", "tbf", "rate", "100mbit", "burst",
	     "128kb", "latency", "50ms");
	const bool both = rates->from_guest.bits_per_s != 0;
	if (both) {
		CALL("ip", "link", "add", "ifb-vdi2n0", "type", "ifb");
		CALL("ip", "link", "set", "ifb-vdi2n0", "up");
		CALL("tc", "qdisc", "add", "dev", "ifb-vdi2n0", "root", "tbf", "rate", "50mbit",
		     "burst", "64kb", "latency", "50ms");
		CALL("tc", "qdisc", "add", "dev", "vdi2n0", "ingress");
		CALL("tc", "filter", "add", "dev", "vdi2n0", "parent", "ffff:", "protocol", "all",
		     "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect",
		     "dev", "ifb-vdi2n0");
	}
	ret->programs_create[round] = ms_since(begin);
	begin = now();
	if (both)
		CALL("ip", "link", "del", "dev", "ifb-vdi2n0");
	CALL("ip", "link", "del", "dev", "vdi2n0");
	CALL("nft", del);
	ret->programs_delete[round] = ms_since(begin);
}

static void taps(const char *name, unsigned int rounds, const struct netcfg_rates *rates)
{
	static struct taps taps;
	const struct {
		const char *name;
		const double *value;
	} series[] = {{"create", taps.create},
		      {"delete", taps.delete},
		      {"kernel", taps.kernel},
		      {"burst", taps.burst},
		      {"burst_put_aside", taps.burst_put_aside},
		      {"burst_sweep", taps.burst_sweep},
		      {"programs_create", taps.programs_create},
		      {"programs_delete", taps.programs_delete}};
	must(netcfg_links_sweep(netcfg, &err), "sweep");
	for (unsigned int i = 0; i < rounds; i++) {
		taps_ours(rates, &taps, i);
		taps_programs(rates, &taps, i);
		taps_burst(rates, &taps, i);
	}
	printf("\"%s\": {\"n\": %d", name, BURST);
	for (size_t i = 0; i < ARRAY_LEN(series); i++) {
		printf(", ");
		series_print(series[i].name, series[i].value, rounds);
	}
	printf("}, ");
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

static void many(unsigned int rounds)
{
	static struct netcfg_nic nics[MANY];
	static char names[MANY][16];
	static double ours[ROUNDS_MAX], programs[ROUNDS_MAX];
	static double rules[ROUNDS_MAX], rules_programs[ROUNDS_MAX];
	const char *taps_of[MANY];
	char path[] = "/tmp/bench-nft-XXXXXX", rules_path[] = "/tmp/bench-nft-XXXXXX";
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
	must(netcfg_nics_ensure(netcfg, nics, MANY, &err), "many");
	for (unsigned int i = 0; i < rounds; i++) {
		double begin = now();
		must(netcfg_nics_ensure(netcfg, nics, MANY, &err), "many");
		ours[i] = ms_since(begin);
		begin = now();
		CALL("nft", "-f", path);
		programs[i] = ms_since(begin);
		begin = now();
		groups_put(i % 2);
		rules[i] = ms_since(begin);
		begin = now();
		CALL("nft", "-f", rules_path);
		rules_programs[i] = ms_since(begin);
	}
	unlink(path);
	unlink(rules_path);
	must(netcfg_nics_delete(netcfg, taps_of, MANY, &err), "many");
	printf("\"many\": {\"n\": %d, ", MANY);
	series_print("nics", ours, rounds);
	printf(", ");
	series_print("nics_programs", programs, rounds);
	printf(", ");
	series_print("rules", rules, rounds);
	printf(", ");
	series_print("rules_programs", rules_programs, rounds);
	printf("}, ");
}

/* ---- a start behind many stops ---- */

/* The privileged half, in a process of its own; its end of the wire. */
static int half_start(void)
{
	int ends[2];
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "wire");
	const pid_t pid = fork();
	must(pid, "fork");
	if (pid > 0) {
		close(ends[0]);
		return ends[1];
	}
	struct verbs verbs = {.config = {.uid = 1}};
	close(ends[1]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(netcfg_open(&verbs.netcfg, &err), "netcfg");
	server_run(ends[0], &verbs);
	verbs_done(&verbs);
	_exit(0);
}

static void half_ask(int wire, enum priv_verb verb, unsigned int desktop)
{
	struct priv_request req = {.verb = verb};
	const struct netcfg_nic nic = nic_of("vdi1n0", desktop);
	req.u.tap = (struct priv_tap){.desktop = desktop, .network = 1, .rates = rates_both};
	req.u.tap.address = nic.addresses[0].v4.s_addr;
	memcpy(req.u.tap.mac, nic.mac, sizeof(nic.mac));
	must(wire_send(wire, &req, sizeof(req), NULL, 0), "ask");
}

/* the tap's descriptor, or -1 */
static int half_hear(int wire)
{
	struct priv_reply reply;
	int fds[WIRE_FDS_MAX];
	size_t n = 0;
	must(wire_receive(wire, &reply, sizeof(reply), fds, &n) == 1 ? 0 : -1, "answer");
	err = reply.err;
	must(reply.err.code ? -1 : 0, "privileged half");
	return n ? fds[0] : -1;
}

/* STOPS desktops with rates both ways, of which the taps went with their QEMUs just now */
static void half_run_and_end(int wire)
{
	int fds[STOPS];
	for (unsigned int i = 0; i < STOPS; i++) {
		half_ask(wire, PRIV_TAP_CREATE, 1 + i);
		fds[i] = half_hear(wire);
	}
	for (unsigned int i = 0; i < STOPS; i++)
		close(fds[i]);
}

/* How long until one that starts right behind them has its tap? */
static double stops_together(int wire)
{
	half_run_and_end(wire);
	const double begin = now();
	for (unsigned int i = 0; i < STOPS; i++)
		half_ask(wire, PRIV_TAP_DELETE, 1 + i);
	half_ask(wire, PRIV_TAP_CREATE, 1 + STOPS);
	for (unsigned int i = 0; i < STOPS; i++)
		half_hear(wire);
	const int fd = half_hear(wire);
	const double ret = ms_since(begin);
	close(fd);
	half_ask(wire, PRIV_TAP_DELETE, 1 + STOPS);
	half_hear(wire);
	return ret;
}

/* The same, were each deleted before the next is looked at. */
static double stops_one_by_one(int wire)
{
	half_run_and_end(wire);
	const double begin = now();
	for (unsigned int i = 0; i < STOPS; i++) {
		char name[16];
		snprintf(name, sizeof(name), "vdi%un0", 1 + i);
		tap_discard(name);
		must(netcfg_links_sweep(netcfg, &err), "sweep");
	}
	const int fd = tap_create("vdi1n1", 0, &rates_both);
	const double ret = ms_since(begin);
	tap_discard("vdi1n1");
	close(fd);
	return ret;
}

static void stops(unsigned int rounds)
{
	static double together[ROUNDS_MAX], one_by_one[ROUNDS_MAX];
	const int wire = half_start();
	for (unsigned int i = 0; i < rounds; i++) {
		together[i] = stops_together(wire);
		one_by_one[i] = stops_one_by_one(wire);
	}
	close(wire);
	printf("\"stops\": {\"n\": %d, ", STOPS);
	series_print("together", together, rounds);
	printf(", ");
	series_print("one_by_one", one_by_one, rounds);
	putchar('}');
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? (unsigned int)atoi(argv[1]) : 20;
	if (rounds > ROUNDS_MAX)
		rounds = ROUNDS_MAX;
	must(unshare(CLONE_NEWNET), "a network namespace");
	run("ip link set lo up");
	bridge_make();
	network_guard(0);
	putchar('{');
	taps("tap", rounds, &rates_to);
	taps("tap_both", rounds, &rates_both);
	many(rounds);
	stops(5);
	puts("}");
	netcfg_close(netcfg);
	return 0;
}
