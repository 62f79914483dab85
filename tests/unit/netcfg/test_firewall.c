#include "netcfg/firewall.h"

#include "tests/unit/netcfg/netns.h"

#define LIST "nft list table inet vdi-hostd"

static struct netcfg_firewall network(const char *bridge, enum netcfg_firewall_kind kind,
				      const char *address)
{
	return (struct netcfg_firewall){.bridge = bridge,
					.kind = kind,
					.addresses = {netcfg_addr_v4(netns_ip(address), 24)},
					.n_addresses = 1};
}

static void test_nat(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	bool there = true;
	assert_ok(netcfg_firewall_has(netcfg, &one, &there, &err));
	assert_false(there);
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	assert_ok(netcfg_firewall_has(netcfg, &one, &there, &err));
	assert_true(there);
	struct netcfg_firewall other = network("vdibr", NETCFG_FIREWALL_NAT, "10.9.8.1");
	assert_ok(netcfg_firewall_has(netcfg, &other, &there, &err));
	assert_false(there);
	assert_true(netns_shows(LIST, "ip saddr 10.9.8.0/24 oifname != \"vdibr1\" masquerade"));
	assert_true(netns_shows(LIST, "ip saddr 10.9.8.0/24 oifname != @bridges accept"));
	assert_true(netns_shows("cat /proc/sys/net/ipv4/ip_forward", "1"));

	/* again: the very same rules */
	_cleanup_free_ char *before = netns_output(LIST);
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);
}

static void test_isolated(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_ISOLATED, "10.9.8.1");
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	assert_false(netns_shows(LIST, "oifname != \"vdibr1\" masquerade"));
	assert_false(netns_shows(LIST, "@bridges accept"));
	assert_true(netns_shows("cat /proc/sys/net/ipv4/ip_forward", "0"));

	/* it may become a nat one, and back */
	one.kind = NETCFG_FIREWALL_NAT;
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	assert_true(netns_shows(LIST, "oifname != \"vdibr1\" masquerade"));
	one.kind = NETCFG_FIREWALL_ISOLATED;
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	assert_false(netns_shows(LIST, "oifname != \"vdibr1\" masquerade"));
}

static void test_networks_are_apart(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	/* a digit or a dash in front, and a name inside another's */
	const char *const bridges[] = {"vdibr1", "vdibr10", "9br", "-br"};
	const char *const addresses[] = {"10.9.1.1", "10.9.10.1", "10.9.9.1", "10.9.2.1"};
	struct netcfg_firewall all[ARRAY_LEN(bridges)];
	for (size_t i = 0; i < ARRAY_LEN(bridges); i++) {
		all[i] = network(bridges[i], NETCFG_FIREWALL_NAT, addresses[i]);
		assert_ok(netcfg_firewall_ensure(netcfg, &all[i], &err));
	}
	_cleanup_free_ char *rest = netns_output("nft list chain inet vdi-hostd net-vdibr10-from");
	assert_ok(netcfg_firewall_delete(netcfg, "vdibr1", &err));
	bool there = true;
	assert_ok(netcfg_firewall_has(netcfg, &all[0], &there, &err));
	assert_false(there);
	assert_false(netns_shows(LIST, "10.9.1.0/24"));
	assert_false(netns_shows(LIST, "net-vdibr1-"));
	_cleanup_free_ char *still = netns_output("nft list chain inet vdi-hostd net-vdibr10-from");
	assert_string_equal(rest, still);
	for (size_t i = 1; i < ARRAY_LEN(bridges); i++) {
		assert_ok(netcfg_firewall_has(netcfg, &all[i], &there, &err));
		assert_true(there);
		assert_ok(netcfg_firewall_delete(netcfg, bridges[i], &err));
	}
	/* the table goes with the last */
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

static void test_delete_is_idempotent(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	assert_ok(netcfg_firewall_delete(netcfg, "vdibr1", &err));
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	assert_ok(netcfg_firewall_delete(netcfg, "vdibr2", &err));
	bool there = false;
	assert_ok(netcfg_firewall_has(netcfg, &one, &there, &err));
	assert_true(there);

	/* half of it gone by another hand */
	netns_run("nft delete element inet vdi-hostd input '{ \"vdibr1\" }'");
	netns_run("nft delete chain inet vdi-hostd net-vdibr1-input");
	assert_ok(netcfg_firewall_delete(netcfg, "vdibr1", &err));
	assert_ok(netcfg_firewall_delete(netcfg, "vdibr1", &err));
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

static void test_table_deleted_under_us(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	_cleanup_free_ char *before = netns_output(LIST);
	netns_run("nft flush ruleset");
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);

	/* and where only the hooks were emptied */
	netns_run("nft flush chain inet vdi-hostd forward");
	netns_run("nft add rule inet vdi-hostd input accept");
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	_cleanup_free_ char *mended = netns_output(LIST);
	assert_string_equal(before, mended);
}

/* A look tells whatever is not as the network asks for, and only that. */
static void test_a_look_sees(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	struct netcfg_firewall two = network("vdibr10", NETCFG_FIREWALL_ROUTED, "10.9.7.1");
	one.openings[0] = (struct netcfg_opening){NETCFG_TCP, 22, 22};
	one.openings[1] = (struct netcfg_opening){NETCFG_UDP, 8000, 8010};
	one.n_openings = 2;
	const char *const hands[] = {
		"nft flush chain inet vdi-hostd net-vdibr1-input",
		"nft flush chain inet vdi-hostd net-vdibr1-to",
		"nft insert rule inet vdi-hostd net-vdibr1-input tcp dport 23 accept",
		"nft add rule inet vdi-hostd net-vdibr1-from accept comment '\"0\"'",
		/* one opening: gone, and another in its place */
		"nft delete rule inet vdi-hostd net-vdibr1-input handle $(nft -a list chain inet "
		"vdi-hostd net-vdibr1-input | sed -n 's/.*tcp dport 22-22 .*handle //p')",
		"nft replace rule inet vdi-hostd net-vdibr1-input handle $(nft -a list chain inet "
		"vdi-hostd net-vdibr1-input | sed -n 's/.*tcp dport 22-22 .*handle //p') "
		"tcp dport 23 accept",
		"nft delete element inet vdi-hostd bridges '{ \"vdibr1\" }'",
		"nft delete element inet vdi-hostd forward_to '{ \"vdibr1\" }'",
		"nft flush chain inet vdi-hostd forwards-all",
		"nft delete table inet vdi-hostd",
	};
	bool so = false;
	assert_ok(netcfg_firewall_ensure(netcfg, &two, &err));
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	_cleanup_free_ char *before = netns_output(LIST);
	for (size_t i = 0; i < ARRAY_LEN(hands); i++) {
		netns_run(hands[i]);
		assert_ok(netcfg_firewall_has(netcfg, &one, &so, &err));
		if (so)
			fail_msg("not seen: %s", hands[i]);
		assert_ok(netcfg_firewall_ensure(netcfg, &two, &err));
		assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
		assert_ok(netcfg_firewall_has(netcfg, &one, &so, &err));
		assert_true(so);
		assert_ok(netcfg_firewall_has(netcfg, &two, &so, &err));
		assert_true(so);
	}
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);

	/* another wish than that which the rules were made for */
	struct netcfg_firewall other[5];
	for (size_t i = 0; i < ARRAY_LEN(other); i++)
		other[i] = one;
	other[0].n_openings = 1;
	other[1].openings[0].port_last = 23;
	other[2].openings[1].protocol = NETCFG_TCP;
	other[3].kind = NETCFG_FIREWALL_ISOLATED;
	other[4].addresses[0].prefix = 25;
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		assert_ok(netcfg_firewall_has(netcfg, &other[i], &so, &err));
		assert_false(so);
		assert_ok(netcfg_firewall_ensure(netcfg, &other[i], &err));
		assert_ok(netcfg_firewall_has(netcfg, &other[i], &so, &err));
		assert_true(so);
		assert_ok(netcfg_firewall_has(netcfg, &one, &so, &err));
		assert_false(so);
	}
}

static void test_foreign_tables_are_untouched(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	netns_run("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; "
		  "policy drop; ip saddr 1.2.3.4 counter accept; }; }'");
	netns_run("nft 'table inet vdi-hostd-like { set bridges { type ifname; }; }'");
	_cleanup_free_ char *before = netns_output("nft list ruleset");
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	_cleanup_free_ char *with = netns_output("nft list ruleset");
	assert_memory_equal(before, with, strlen(before));
	assert_ok(netcfg_firewall_delete(netcfg, "vdibr1", &err));
	_cleanup_free_ char *after = netns_output("nft list ruleset");
	assert_string_equal(before, after);
}

static void test_a_failed_change_changes_nothing(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	struct netcfg_firewall two = network("vdibr2", NETCFG_FIREWALL_NAT, "10.9.7.1");
	/* a map of that name with other keys is in the way of the whole transaction */
	netns_run("nft 'table inet vdi-hostd { map input { type ipv4_addr : verdict; }; }'");
	_cleanup_free_ char *before = netns_output(LIST);
	assert_err(netcfg_firewall_ensure(netcfg, &one, &err), ERR_IO);
	assert_non_null(strstr(err.msg, "vdibr1"));
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);
	netns_run("nft delete table inet vdi-hostd");
	assert_ok(netcfg_firewall_ensure(netcfg, &one, &err));
	assert_ok(netcfg_firewall_ensure(netcfg, &two, &err));
}

static void test_bad_input(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there;
	struct netcfg_firewall one = network("vdibr1", NETCFG_FIREWALL_NAT, "10.9.8.1");
	const char *const bad[] = {"", "vdibr1234567890x", "a\" }; flush ruleset;", "a b", "A"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		one.bridge = bad[i];
		assert_err(netcfg_firewall_ensure(netcfg, &one, &err), ERR_INVALID);
		assert_err(netcfg_firewall_delete(netcfg, bad[i], &err), ERR_INVALID);
		assert_err(netcfg_firewall_has(netcfg, &one, &there, &err), ERR_INVALID);
	}
	one.bridge = "vdibr1";
	one.addresses[0].prefix = 31;
	assert_err(netcfg_firewall_ensure(netcfg, &one, &err), ERR_INVALID);
	one.addresses[0].prefix = 24;
	one.kind = 0;
	assert_err(netcfg_firewall_ensure(netcfg, &one, &err), ERR_INVALID);
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_nat),
		netns_test(test_isolated),
		netns_test(test_networks_are_apart),
		netns_test(test_delete_is_idempotent),
		netns_test(test_table_deleted_under_us),
		netns_test(test_a_look_sees),
		netns_test(test_foreign_tables_are_untouched),
		netns_test(test_a_failed_change_changes_nothing),
		netns_test(test_bad_input),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
