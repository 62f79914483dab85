#include "netcfg/probe.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "netcfg/tap.h"
#include "tests/unit/netcfg/netns.h"

static void test_finds_what_is_used_here(void **state)
{
	struct err err;
	uint32_t found = 0;
	_cleanup_free_ char *before = netns_output("ip link; nft list ruleset");
	assert_ok(netcfg_probe(&found, &err));
	assert_true(found & NETCFG_HAS_BRIDGE);
	assert_true(found & NETCFG_HAS_TUN);
	assert_true(found & NETCFG_HAS_NFT);
	assert_int_equal(!!(found & NETCFG_HAS_VHOST_NET), access("/dev/vhost-net", R_OK) == 0);
	/* nothing of it stays, no child either */
	_cleanup_free_ char *after = netns_output("ip link; nft list ruleset");
	assert_string_equal(before, after);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	for (uint32_t i = 0; netcfg_feature_name(1U << i); i++)
		print_message("%s: %s\n", netcfg_feature_name(1U << i),
			      found & 1U << i ? "yes" : "no");
	assert_null(netcfg_feature_name(0));
	assert_null(netcfg_feature_name(3));
}

/* all of them, or none and why */
static void test_vhost_opens(void **state)
{
	struct err err;
	int fds[3];
	if (access("/dev/vhost-net", F_OK) < 0) {
		assert_err(netcfg_vhost_open(ARRAY_LEN(fds), fds, &err), ERR_NOT_FOUND);
		return;
	}
	assert_ok(netcfg_vhost_open(ARRAY_LEN(fds), fds, &err));
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		close(fds[i]);
	}
}

/* the same question to the kernel by another tool has the same answer */
static void test_agrees_with_other_tools(void **state)
{
	struct err err;
	uint32_t found = 0;
	assert_ok(netcfg_probe(&found, &err));
	netns_run("ip link add lower type dummy || ip link add lower type bridge");
	bool vlan = system("ip link add link lower name v2 type vlan id 2 2>/dev/null") == 0;
	bool filter = system("ip link add brv type bridge vlan_filtering 1 2>/dev/null") == 0;
	assert_int_equal(!!(found & NETCFG_HAS_VLAN), vlan);
	assert_int_equal(!!(found & NETCFG_HAS_BRIDGE_VLAN), filter);
	bool vxlan = system("ip link add vx type vxlan id 2 dstport 4789 2>/dev/null") == 0;
	bool ifb =
		system("ip link add i type ifb 2>/dev/null && ip link add v type veth peer name w "
		       "&& tc qdisc add dev v ingress && tc filter add dev v parent ffff: "
		       "protocol all u32 match u32 0 0 action mirred egress redirect dev i "
		       "2>/dev/null") == 0;
	bool ct = system("nft add table bridge t && nft 'add chain bridge t c { type filter hook "
			 "forward priority 0; }' && nft add rule bridge t c ct state established "
			 "accept 2>/dev/null") == 0;
	assert_int_equal(!!(found & NETCFG_HAS_VXLAN), vxlan);
	assert_int_equal(!!(found & NETCFG_HAS_RATE_FROM), ifb);
	assert_int_equal(!!(found & NETCFG_HAS_BRIDGE_CT), ct);
}

static void test_without_privilege(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct err err;
		uint32_t found = ~0u;
		bool ok = setgid(65534) == 0 && setuid(65534) == 0 &&
			  netcfg_probe(&found, &err) == 0 && (found & ~NETCFG_HAS_VHOST_NET) == 0;
		_exit(ok ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_finds_what_is_used_here),
		netns_test(test_vhost_opens),
		netns_test(test_agrees_with_other_tools),
		netns_test(test_without_privilege),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
