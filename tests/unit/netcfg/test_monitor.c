#include "netcfg/monitor.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/link.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/netns.h"

#define SEEN_MAX 4096

/* What was told, a line each. */
struct seen {
	char text[65536];
	unsigned int n[NETCFG_EVENT_RESYNC + 1];
};

static void note(void *data, const struct netcfg_event *event)
{
	static const char *const kinds[] = {
		[NETCFG_EVENT_LINK] = "link",
		[NETCFG_EVENT_LINK_GONE] = "link-gone",
		[NETCFG_EVENT_ADDRESS] = "address",
		[NETCFG_EVENT_ADDRESS_GONE] = "address-gone",
		[NETCFG_EVENT_RATE] = "rate",
		[NETCFG_EVENT_TABLE_GONE] = "table-gone",
		[NETCFG_EVENT_TABLE_CHANGED] = "table-changed",
		[NETCFG_EVENT_RESYNC] = "resync",
	};
	struct seen *seen = data;
	char address[NETCFG_ADDR_TEXT_MAX] = "";
	const size_t at = strlen(seen->text);
	seen->n[event->kind]++;
	if (event->address.family)
		netcfg_addr_format(&event->address, address);
	snprintf(seen->text + at, sizeof(seen->text) - at, "%s %s %s%s%s\n", kinds[event->kind],
		 event->link, event->up ? "up" : "", event->master ? "port" : "", address);
}

static void hear(struct netcfg_monitor *monitor, struct seen *seen)
{
	struct err err;
	struct pollfd ready = {.fd = netcfg_monitor_fd(monitor), .events = POLLIN};
	memset(seen, 0, sizeof(*seen));
	while (poll(&ready, 1, 20) > 0)
		assert_ok(netcfg_monitor_read(monitor, note, seen, &err));
	/* nothing there: it does not block */
	assert_ok(netcfg_monitor_read(monitor, note, seen, &err));
}

static struct netcfg_monitor *monitor_new(struct netcfg *netcfg)
{
	struct err err;
	struct netcfg_monitor *monitor;
	uint32_t owner = 0;
	assert_ok(netcfg_firewall_owner(netcfg, &owner, &err));
	assert_int_not_equal(owner, 0);
	assert_ok(netcfg_monitor_open(&monitor, owner, &err));
	assert_true(netcfg_monitor_has_tables(monitor));
	return monitor;
}

#define TOLD(text_)                                                                                \
	do {                                                                                       \
		if (!strstr(seen.text, text_))                                                     \
			fail_msg("\"%s\" was not told: %s", text_, seen.text);                     \
	} while (0)

static void test_links_and_addresses(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	static struct seen seen;
	_cleanup_(netcfg_monitor_closep) struct netcfg_monitor *monitor = monitor_new(netcfg);
	const struct netcfg_bridge bridge = {.addresses = {netns_addr("10.9.8.1/24")},
					     .n_addresses = 1};
	const struct netcfg_tap tap = {.bridge = "vdibr1"};
	int fd;
	hear(monitor, &seen);
	assert_string_equal(seen.text, "");
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	hear(monitor, &seen);
	TOLD("link vdibr1 up");
	TOLD("address vdibr1 10.9.8.1/24");
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, &fd, &err));
	hear(monitor, &seen);
	TOLD("link vdi1n0 upport");

	/* how the bridge treats a port, and how fast it may be */
	netns_run("bridge link set dev vdi1n0 isolated on");
	hear(monitor, &seen);
	TOLD("link vdi1n0 upport");
	netns_run("tc qdisc add dev vdi1n0 root tbf rate 1mbit burst 10kb latency 1ms");
	hear(monitor, &seen);
	TOLD("rate vdi1n0");
	netns_run("tc qdisc del dev vdi1n0 root");
	hear(monitor, &seen);
	TOLD("rate vdi1n0");

	netns_run("ip addr del 10.9.8.1/24 dev vdibr1");
	netns_run("ip link set vdi1n0 nomaster");
	hear(monitor, &seen);
	TOLD("address-gone vdibr1 10.9.8.1/24");
	TOLD("link vdi1n0 up\n");
	netns_run("ip link set vdi1n0 down; ip link del vdibr1");
	hear(monitor, &seen);
	TOLD("link vdi1n0 \n");
	TOLD("link-gone vdibr1");
	close(fd);
	hear(monitor, &seen);
	TOLD("link-gone vdi1n0");
	assert_int_equal(seen.n[NETCFG_EVENT_TABLE_CHANGED], 0);
}

static void test_tables(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	static struct seen seen;
	_cleanup_(netcfg_monitor_closep) struct netcfg_monitor *monitor = monitor_new(netcfg);
	const struct netcfg_firewall network = {.bridge = "vdibr1",
						.kind = NETCFG_FIREWALL_NAT,
						.addresses = {netns_addr("10.9.8.1/24")},
						.n_addresses = 1};
	/* what we do ourselves, and what others do to their own, is no news */
	assert_ok(netcfg_firewall_ensure(netcfg, &network, &err));
	netns_run("nft add table inet other; nft add chain inet other vdi-hostd; nft flush table "
		  "inet other; nft add table ip vdi-hostd");
	hear(monitor, &seen);
	assert_string_equal(seen.text, "");

	netns_run("nft flush chain inet vdi-hostd forward");
	hear(monitor, &seen);
	assert_string_equal(seen.text, "table-changed  \n");
	netns_run("nft delete element inet vdi-hostd bridges '{ vdibr1 }'");
	hear(monitor, &seen);
	assert_string_equal(seen.text, "table-changed  \n");
	netns_run("nft add rule bridge vdi-hostd prerouting accept");
	hear(monitor, &seen);
	assert_string_equal(seen.text, "table-changed  \n");
	assert_ok(netcfg_firewall_ensure(netcfg, &network, &err));
	hear(monitor, &seen);
	assert_string_equal(seen.text, "");
	netns_run("nft flush ruleset");
	hear(monitor, &seen);
	assert_string_equal(seen.text, "table-gone  \n");
}

/* More than the socket holds: told so, and it goes on. */
static void test_lost_messages(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	static struct seen seen;
	_cleanup_(netcfg_monitor_closep) struct netcfg_monitor *monitor = monitor_new(netcfg);
	netns_run("ip link add flood type bridge");
	_cleanup_free_ char *in =
		mem_strdup("for i in $(seq 3000); do echo link set flood up; echo "
			   "link set flood down; done | ip -batch -");
	netns_run(in);
	hear(monitor, &seen);
	assert_true(seen.n[NETCFG_EVENT_RESYNC] >= 1);
	assert_true(seen.n[NETCFG_EVENT_LINK] > 10);
	assert_ok(netcfg_link_delete(netcfg, "flood", "bridge", &err));
	hear(monitor, &seen);
	TOLD("link-gone flood");
}

static void test_without_privilege(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct err err;
		struct netcfg_monitor *monitor;
		bool ok = setgid(65534) == 0 && setuid(65534) == 0 &&
			  netcfg_monitor_open(&monitor, 0, &err) == 0 &&
			  !netcfg_monitor_has_tables(monitor);
		_exit(ok ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_links_and_addresses),
		netns_test(test_tables),
		netns_test(test_lost_messages),
		netns_test(test_without_privilege),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
