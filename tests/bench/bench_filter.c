/*
 * What filters cost: bench_filter PAIRS prints one JSON object; as root.
 *
 * Hosts are made, each a network namespace with a bridge and two guests behind veths: one has all
 * of the firewall, another none. They have their turns, off, on, on, off, a short slice each. What
 * else the machine does is the same for neighbours, by and large; so each slice stands against its
 * neighbour, and who reads the figures takes the middle of these ratios. How far to trust them is
 * told by a third host, without filters as the first. A fourth has one rule, which masquerades:
 * guests that reach the world as the host need that whether or not they are filtered, and it has
 * the host track every connection.
 *
 * Measured two ways. Throughput: a sender on one processor, a receiver on another, by the clock.
 * Work: one process has both ends, so that all that happens to a packet happens in its own time,
 * and counts the time that it had the processor. That leaves out what else the machine does, and
 * hides nothing behind an end that is slower than the way between them.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netcfg/group.h"
#include "tests/bench/bench_net.h"

#define SLICE_S   0.01       /* of the processor's time */
#define SLICE     (16 << 20) /* by the clock: so many bytes, */
#define SETTLE    (2 << 20)  /* after so many */
#define PAIRS_MAX 1000
#define PORT      5201
#define BULK      65536

/**
 * struct kind - a way to measure: pieces of @size, @n at once; @split: with a sender of its own
 * A transfer, in the largest pieces that the links take; and packets that are all overhead.
 */
static const struct kind {
	const char *name;
	int type;
	size_t size, n;
	bool split;
} kinds[] = {{"throughput", SOCK_STREAM, BULK, 1, true},
	     {"bulk", SOCK_STREAM, BULK, 1, false},
	     {"small", SOCK_DGRAM, 64, 32, false}};

static const char *const guests[] = {"vdi1n0", "vdi2n0"};

static int ns_here(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	must(fd, "namespace");
	return fd;
}

static void enter(int ns)
{
	must(setns(ns, CLONE_NEWNET), "namespace");
}

/* A guest behind a veth that is a port of the bridge, as a tap would be. */
static int guest_make(const char *name, unsigned int i)
{
	const struct netcfg_nic nic = nic_of(name, i);
	char command[512], address[INET_ADDRSTRLEN];
	const int here = ns_here();
	must(unshare(CLONE_NEWNET), "namespace");
	const int ns = ns_here();
	enter(here);
	snprintf(command, sizeof(command),
		 "ip link add %s type veth peer name eth0 address 52:54:00:00:%02x:%02x netns "
		 "/proc/%d/fd/%d && ip link set %s master " BENCH_BRIDGE
		 " up && bridge link set dev %s "
		 "learning off && bridge fdb replace 52:54:00:00:%02x:%02x dev %s master static",
		 name, nic.mac[4], nic.mac[5], (int)getpid(), ns, name, name, nic.mac[4],
		 nic.mac[5], name);
	run(command);
	enter(ns);
	inet_ntop(AF_INET, &nic.addresses[0].v4, address, sizeof(address));
	snprintf(command, sizeof(command), "ip link set eth0 up && ip addr add %s/16 dev eth0",
		 address);
	run(command);
	enter(here);
	close(here);
	return ns;
}

/* All that stands between the guests of a host, but for rates. */
static void filters_make(void)
{
	const struct netcfg_rule all[] = {{.direction = NETCFG_IN, .accept = true},
					  {.direction = NETCFG_OUT, .accept = true}};
	const struct netcfg_group group = {
		.id = 1, .drop_in = true, .drop_out = true, .rules = all, .n_rules = 2};
	struct netcfg_nic nics[] = {nic_of(guests[0], 0), nic_of(guests[1], 1)};
	network_guard(PORT);
	must(netcfg_groups_ensure(netcfg, &group, 1, false, &err), "group");
	for (int i = 0; i < 2; i++) {
		nics[i].groups[0] = 1;
		nics[i].n_groups = 1;
	}
	must(netcfg_nics_ensure(netcfg, nics, 2, &err), "NICs");
}

/* struct host - namespaces: its own, its guests' */
struct host {
	int ns, guest[2];
};

/* enum firewall - what stands between the guests of a host */
enum firewall { NOTHING, NAT_ALONE, FILTERS };

static struct host host_make(enum firewall firewall)
{
	struct host host;
	must(unshare(CLONE_NEWNET), "namespace");
	host.ns = ns_here();
	run("ip link set lo up");
	/* br_netfilter would show bridged packets to the host's own tables: docker's way, not ours
	 */
	run("for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done");
	bridge_make();
	for (unsigned int i = 0; i < 2; i++)
		host.guest[i] = guest_make(guests[i], i);
	if (firewall == FILTERS)
		filters_make();
	if (firewall == NAT_ALONE)
		run("nft 'table ip nat { chain source { type nat hook postrouting priority srcnat; "
		    "iifname " BENCH_BRIDGE " masquerade; }; }'");
	netcfg_close(netcfg);
	return host;
}

/* ---- traffic ---- */

/* struct flow - both ends of a connection, or of datagrams; @sender: 0: this process */
struct flow {
	const struct kind *kind;
	int out, in;
	pid_t sender;
};

static void processor_take(int which)
{
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(which, &cpus);
	/* where there is but one, both have that */
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		errno = 0;
}

/* Until it is killed; it begins when it is told to. */
static pid_t sender_begin(const struct flow *flow)
{
	static char piece[BULK];
	const pid_t pid = fork();
	must(pid, "fork");
	if (pid > 0) {
		must(waitpid(pid, NULL, WUNTRACED), "sender");
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	processor_take(1);
	raise(SIGSTOP);
	while (send(flow->out, piece, flow->kind->size, 0) > 0)
		;
	_exit(1);
}

/* @to: a guest's number, or -1: the host */
static struct flow flow_begin(const struct host *host, int to, const struct kind *kind)
{
	const uint32_t address = to < 0 ? BENCH_HOST : BENCH_HOST + 1 + (uint32_t)to;
	struct sockaddr_in there = {
		.sin_family = AF_INET, .sin_addr = {htonl(address)}, .sin_port = htons(PORT)};
	struct flow flow = {.kind = kind};
	const int on = 1;
	enter(to < 0 ? host->ns : host->guest[to]);
	int listener = flow.in = socket(AF_INET, kind->type | SOCK_CLOEXEC, 0);
	must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "listen");
	must(bind(listener, (struct sockaddr *)&there, sizeof(there)), "bind");
	if (kind->type == SOCK_STREAM)
		must(listen(listener, 1), "listen");
	enter(host->guest[0]);
	flow.out = socket(AF_INET, kind->type | SOCK_CLOEXEC, 0);
	must(connect(flow.out, (struct sockaddr *)&there, sizeof(there)), "connect");
	if (kind->type == SOCK_STREAM) {
		flow.in = accept(listener, NULL, NULL);
		must(flow.in, "accept");
		close(listener);
	}
	if (kind->split)
		flow.sender = sender_begin(&flow);
	return flow;
}

static void flow_end(const struct flow *flow)
{
	if (flow->sender) {
		kill(flow->sender, SIGKILL);
		waitpid(flow->sender, NULL, 0);
	}
	close(flow->out);
	close(flow->in);
}

/* Bytes that arrived in one turn. */
static size_t turn(const struct flow *flow)
{
	static char piece[BULK];
	size_t bytes = 0;
	/* a buffer that is full for now is no failure */
	for (size_t i = 0; i < flow->kind->n; i++)
		if (send(flow->out, piece, flow->kind->size, MSG_DONTWAIT) < 0 && errno != EAGAIN)
			must(-1, "send");
	for (ssize_t n; (n = recv(flow->in, piece, sizeof(piece), MSG_DONTWAIT)) > 0;)
		bytes += (size_t)n;
	return bytes;
}

static double processor_time(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void receive(int in, size_t bytes)
{
	static char piece[BULK];
	while (bytes > 0) {
		const ssize_t n = recv(in, piece, bytes < sizeof(piece) ? bytes : sizeof(piece), 0);
		must(n > 0 ? 0 : -1, "receive");
		bytes -= (size_t)n;
	}
}

/* Bytes a second. */
static double slice_by_clock(const struct flow *flow)
{
	must(kill(flow->sender, SIGCONT), "sender");
	receive(flow->in, SETTLE);
	const double begin = now();
	receive(flow->in, SLICE);
	const double took = now() - begin;
	must(kill(flow->sender, SIGSTOP), "sender");
	return SLICE / took;
}

/* Bytes a second of the processor's time. */
static double slice(const struct flow *flow)
{
	if (flow->sender)
		return slice_by_clock(flow);
	double bytes = 0, end, begin = processor_time();
	do {
		bytes += (double)turn(flow);
		end = processor_time();
	} while (end - begin < SLICE_S);
	return bytes / (end - begin);
}

/* @host: the first of them is what the other stands against */
static void compare(const char *prefix, const struct host *const host[2], int to,
		    const struct kind *kind, unsigned int pairs)
{
	static double rate[2][PAIRS_MAX];
	struct flow flow[2];
	for (int on = 0; on < 2; on++) {
		flow[on] = flow_begin(host[on], to, kind);
		slice(&flow[on]);
	}
	for (unsigned int i = 0; i < pairs; i++) {
		const bool first = i % 2;
		rate[first][i] = slice(&flow[first]);
		rate[!first][i] = slice(&flow[!first]);
	}
	for (int on = 0; on < 2; on++)
		flow_end(&flow[on]);
	printf("\"%s%s_%s\": {", prefix, to < 0 ? "host" : "guest", kind->name);
	series_print("off", rate[0], pairs);
	printf(", ");
	series_print("on", rate[1], pairs);
	putchar('}');
}

int main(int argc, char **argv)
{
	unsigned int pairs = argc > 1 ? (unsigned int)atoi(argv[1]) : 200;
	if (pairs > PAIRS_MAX)
		pairs = PAIRS_MAX;
	const struct host off = host_make(NOTHING), again = host_make(NOTHING);
	const struct host nat = host_make(NAT_ALONE), on = host_make(FILTERS);
	const struct comparison {
		const char *prefix;
		const struct host *host[2];
		int to;
	} comparisons[] = {{"", {&off, &on}, 1},
			   {"", {&off, &on}, -1},
			   {"nat_", {&nat, &on}, -1},
			   /* how far from 1 are two that are the same? */
			   {"same_", {&off, &again}, 1}};
	processor_take(0);
	putchar('{');
	for (size_t i = 0; i < ARRAY_LEN(kinds) * ARRAY_LEN(comparisons); i++) {
		const struct comparison *this = &comparisons[i % ARRAY_LEN(comparisons)];
		printf("%s", i ? ", " : "");
		compare(this->prefix, this->host, this->to, &kinds[i / ARRAY_LEN(comparisons)],
			pairs);
	}
	puts("}");
	return 0;
}
