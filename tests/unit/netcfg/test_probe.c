#include "netcfg/probe.h"

#include <fcntl.h>
#include <sys/wait.h>

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
	print_message("vlan: %s, bridge vlan filtering: %s\n",
		      found & NETCFG_HAS_VLAN ? "yes" : "no",
		      found & NETCFG_HAS_BRIDGE_VLAN ? "yes" : "no");
}

/* the same question to the kernel by another tool has the same answer */
static void test_vlan_agrees_with_ip(void **state)
{
	struct err err;
	uint32_t found = 0;
	assert_ok(netcfg_probe(&found, &err));
	netns_run("ip link add lower type dummy || ip link add lower type bridge");
	bool vlan = system("ip link add link lower name v2 type vlan id 2 2>/dev/null") == 0;
	bool filter = system("ip link add brv type bridge vlan_filtering 1 2>/dev/null") == 0;
	assert_int_equal(!!(found & NETCFG_HAS_VLAN), vlan);
	assert_int_equal(!!(found & NETCFG_HAS_BRIDGE_VLAN), filter);
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
		netns_test(test_vlan_agrees_with_ip),
		netns_test(test_without_privilege),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
