/*
 * The truth beside the wish: what the kernel has of a network now. Links and addresses are read
 * here, the firewall by the privileged half.
 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "netcfg/link.h"
#include "netcfg/port.h"
#include "netcfg/rate.h"
#include "netcfg/vxlan.h"
#include "vdi-hostd/network/private.h"

/* struct question - what the privileged half is asked: a look by its verb */
struct question {
	enum priv_verb verb;
	struct network_tap tap;
	char mac[18];
	struct db_forward forward;
	enum family family;
};

struct look {
	struct network *network;
	bool to_mend; /* only what a repair mends */
	json_t *actual, *differences;
	struct question *question;
	size_t n, at;
	look_cb cb;
	void *data;
	struct look *next, *prev;
};

static void look_now(struct look *look);

static void differ(struct look *look, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void differ(struct look *look, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_array_append_new(look->differences, json_string(text));
}

static void look_free(struct look *look)
{
	DL_DELETE(look->network->looks, look);
	json_decref(look->actual);
	json_decref(look->differences);
	free(look->question);
	free(look);
}

void look_cancel_all(struct network *network)
{
	struct err err;
	err_set(&err, ERR_NOT_FOUND, "network '%s' was deleted meanwhile", network->row.name);
	while (network->looks) {
		struct look *look = network->looks;
		look->cb(look->data, NULL, NULL, NULL, &err);
		look_free(look);
	}
}

/* ---- links ---- */

static json_t *counters_to_json(const struct netcfg_counters *counters)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "rx_bytes",
			 (json_int_t)counters->rx_bytes, "tx_bytes", (json_int_t)counters->tx_bytes,
			 "rx_packets", (json_int_t)counters->rx_packets, "tx_packets",
			 (json_int_t)counters->tx_packets, "rx_dropped",
			 (json_int_t)counters->rx_dropped, "tx_dropped",
			 (json_int_t)counters->tx_dropped);
}

/* The wished addresses are there, and no others but link-local ones. */
static void look_addresses(struct look *look, struct netcfg *netcfg, const char *bridge)
{
	const struct db_network *row = &look->network->row;
	struct netcfg_addr addrs[NETCFG_LINK_ADDRS_MAX];
	size_t n = 0;
	char text[NETCFG_ADDR_TEXT_MAX], own4[NETCFG_ADDR_TEXT_MAX] = "", own6[64] = "";
	json_t *list = json_array();
	bool has4 = false, has6 = false;
	if (row->address) {
		struct netcfg_addr own = netcfg_addr_v4((struct in_addr){htonl(row->address)},
							(unsigned int)row->prefix);
		netcfg_addr_format(&own, own4);
	}
	if (row->address6[0])
		snprintf(own6, sizeof(own6), "%s/64", row->address6);
	if (netcfg_link_addresses(netcfg, bridge, addrs, &n, NULL) < 0)
		n = 0;
	for (size_t i = 0; i < n; i++) {
		bool local = addrs[i].family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&addrs[i].v6);
		netcfg_addr_format(&addrs[i], text);
		json_array_append_new(list, json_string(text));
		bool is4 = strcmp(text, own4) == 0, is6 = strcmp(text, own6) == 0;
		has4 = has4 || is4;
		has6 = has6 || is6;
		if (row->address && !local && !is4 && !is6)
			differ(look, "bridge %s has the address %s, which is not its own", bridge,
			       text);
	}
	if (own4[0] && !has4)
		differ(look, "bridge %s lacks its address %s", bridge, own4);
	if (own6[0] && !has6)
		differ(look, "bridge %s lacks its address %s", bridge, own6);
	json_object_set_new(look->actual, "addresses", list);
}

static void look_bridge(struct look *look, struct netcfg *netcfg, const char *bridge)
{
	const struct db_network *row = &look->network->row;
	struct netcfg_link link;
	char mac[NETCFG_MAC_TEXT_MAX];
	if (netcfg_link_get(netcfg, bridge, &link, NULL) < 0) {
		differ(look, "bridge %s is gone", bridge);
		json_object_set_new(look->actual, "exists", json_false());
		return;
	}
	json_object_set_new(look->actual, "exists", json_true());
	json_object_set_new(look->actual, "up", json_boolean(link.up));
	json_object_set_new(look->actual, "mtu", json_integer(link.mtu));
	json_object_set_new(look->actual, "mac", json_string(netcfg_mac_format(link.mac, mac)));
	json_object_set_new(look->actual, "counters", counters_to_json(&link.counters));
	if (strcmp(link.kind, "bridge") != 0)
		differ(look, "link %s is no bridge", bridge);
	if (!link.up)
		differ(look, "bridge %s is down", bridge);
	if (row->mtu && link.mtu != row->mtu)
		differ(look, "bridge %s has an MTU of %u, not %u", bridge, link.mtu,
		       (unsigned int)row->mtu);
	look_addresses(look, netcfg, bridge);
}

struct ports {
	struct netcfg *netcfg;
	const char *bridge;
	json_t *list;
};

static int add_port(void *data, const struct netcfg_link *link)
{
	struct ports *ports = data;
	if (strcmp(link->master_name, ports->bridge) != 0)
		return 0;
	json_array_append_new(ports->list,
			      json_pack("{s:s, s:b, s:b, s:o}", "name", link->name, "up", link->up,
					"isolated", link->isolated, "counters",
					counters_to_json(&link->counters)));
	return 0;
}

/* not from within the walk: one socket answers one question at a time */
static void add_rates(const struct ports *ports)
{
	struct netcfg_rates rates;
	json_t *port;
	size_t i;
	json_array_foreach(ports->list, i, port)
	{
		const char *name = json_string_value(json_object_get(port, "name"));
		if (netcfg_rates_get(ports->netcfg, name, &rates, NULL) < 0)
			continue;
		json_object_set_new(port, "to_guest_kbit",
				    json_integer((json_int_t)rates.to_guest.bits_per_s / 1000));
		json_object_set_new(port, "from_guest_kbit",
				    json_integer((json_int_t)rates.from_guest.bits_per_s / 1000));
	}
}

/* a link that has to be a port of the bridge */
static bool look_port(struct look *look, struct netcfg *netcfg, const char *bridge,
		      const char *what, const char *name)
{
	struct netcfg_link link;
	if (netcfg_link_get(netcfg, name, &link, NULL) < 0) {
		differ(look, "%s %s is gone", what, name);
		return false;
	}
	if (strcmp(link.master_name, bridge) != 0)
		differ(look, "%s %s is no port of bridge %s", what, name, bridge);
	if (!link.up)
		differ(look, "%s %s is down", what, name);
	return true;
}

/* The peers that it has, and no others. */
static void look_peers(struct look *look, const char *name, const struct netcfg_addr *peers,
		       size_t n)
{
	const struct priv_request req = network_request(look->network, PRIV_NETWORK_LOOK);
	const struct priv_network *wish = &req.u.network;
	json_t *list = json_array();
	bool there[PRIV_PEERS_MAX] = {false};
	char text[16];
	for (size_t i = 0; i < n; i++) {
		bool wished = false;
		address_format(ntohl(peers[i].v4.s_addr), text);
		json_array_append_new(list, json_string(text));
		for (size_t k = 0; k < wish->n_peers; k++)
			if (wish->peers[k] == peers[i].v4.s_addr)
				there[k] = wished = true;
		if (!wished)
			differ(look, "VXLAN %s has the peer %s, which is none", name, text);
	}
	json_object_set_new(look->actual, "peers", list);
	for (size_t k = 0; k < wish->n_peers; k++) {
		address_format(ntohl(wish->peers[k]), text);
		if (!there[k])
			differ(look, "VXLAN %s lacks the peer %s", name, text);
	}
}

static void look_vxlan(struct look *look, struct netcfg *netcfg, const char *bridge)
{
	struct netcfg_addr peers[NETCFG_VXLAN_PEERS_MAX];
	size_t n = 0;
	char name[24];
	snprintf(name, sizeof(name), "vdivx%u", (unsigned int)look->network->row.slot & 0xffff);
	if (look_port(look, netcfg, bridge, "VXLAN", name) &&
	    netcfg_vxlan_peers(netcfg, name, peers, &n, NULL) == 0)
		look_peers(look, name, peers, n);
}

/* a VLAN of the uplink as the bridge's port; somebody may have made another of that name */
static void look_vlan(struct look *look, struct netcfg *netcfg, const char *bridge,
		      const struct netcfg_link *uplink)
{
	const struct db_network *row = &look->network->row;
	struct netcfg_link link;
	char name[24];
	snprintf(name, sizeof(name), "vdivl%u", (unsigned int)row->slot & 0xffff);
	if (!look_port(look, netcfg, bridge, "VLAN", name) ||
	    netcfg_link_get(netcfg, name, &link, NULL) < 0)
		return;
	if (link.lower != uplink->index || link.vlan != row->vlan)
		differ(look, "link %s is not VLAN %u of %s", name, (unsigned int)row->vlan,
		       row->uplink);
}

/*
 * In a VLAN of its own choice it is as wished. Without one it is in what the bridge gives to a new
 * port, or the administrator to this one; a bridge with default_pvid 0 gives none.
 */
static void look_vlan_of_port(struct look *look, struct netcfg *netcfg,
			      const struct netcfg_link *uplink, const struct netcfg_link *far)
{
	const struct db_network *row = &look->network->row;
	uint16_t pvid;
	if (row->vlan || !uplink->vlan_filtering || far->master != uplink->index ||
	    netcfg_port_pvid(netcfg, far->name, &pvid, NULL) < 0 || pvid != 0)
		return;
	differ(look,
	       "bridge %s has veth %s in no VLAN, so it drops all that desktops send; put it into "
	       "one (bridge vlan add dev %s vid VLAN pvid untagged), or make the network anew with "
	       "--vlan",
	       row->uplink, far->name, far->name);
}

/* The two veths that join it to a bridge of the administrator's; what else that one's port is like
 * is the administrator's business. */
static void look_join(struct look *look, struct netcfg *netcfg, const char *bridge,
		      const struct netcfg_link *uplink)
{
	const struct db_network *row = &look->network->row;
	const unsigned int slot = (unsigned int)row->slot & 0xffff;
	struct netcfg_link near, far, own;
	char names[2][24];
	bool in_vlan = true;
	snprintf(names[0], sizeof(names[0]), "vdiup%u", slot);
	snprintf(names[1], sizeof(names[1]), "vdidn%u", slot);
	if (!uplink->up)
		differ(look, "uplink %s is down", row->uplink);
	if (!look_port(look, netcfg, bridge, "veth", names[0]) ||
	    !look_port(look, netcfg, row->uplink, "veth", names[1]) ||
	    netcfg_link_get(netcfg, names[0], &near, NULL) < 0 ||
	    netcfg_link_get(netcfg, names[1], &far, NULL) < 0 ||
	    netcfg_link_get(netcfg, bridge, &own, NULL) < 0)
		return;
	if (near.lower != far.index)
		differ(look, "veths %s and %s are not each other's ends", near.name, far.name);
	if (near.mtu != own.mtu || far.mtu != uplink->mtu)
		differ(look, "veths %s and %s do not have the MTU of their bridges", near.name,
		       far.name);
	if (!look->to_mend)
		look_vlan_of_port(look, netcfg, uplink, &far);
	if (row->vlan && far.master == uplink->index &&
	    netcfg_port_has_pvid(netcfg, far.name, (uint16_t)row->vlan, &in_vlan, NULL) == 0 &&
	    !in_vlan)
		differ(look, "veth %s is not in VLAN %u of bridge %s alone", far.name,
		       (unsigned int)row->vlan, row->uplink);
}

/* A link that has to be its port, a VLAN of one, or a bridge that it is joined to. */
static void look_uplink(struct look *look, struct netcfg *netcfg, const char *bridge)
{
	const struct db_network *row = &look->network->row;
	struct netcfg_link uplink;
	if (netcfg_link_get(netcfg, row->uplink, &uplink, NULL) < 0)
		differ(look, "uplink %s is gone", row->uplink);
	else if (row->joined || (row->vlan && uplink.vlan_filtering))
		look_join(look, netcfg, bridge, &uplink);
	else if (row->vlan)
		look_vlan(look, netcfg, bridge, &uplink);
	else
		look_port(look, netcfg, bridge, "uplink", row->uplink);
}

static void look_links(struct look *look)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	const struct db_network *row = &look->network->row;
	char bridge[16];
	struct err err;
	network_bridge_name(look->network, bridge);
	if (netcfg_open(&netcfg, &err) < 0) {
		differ(look, "the kernel's links cannot be read: %s", err.msg);
		return;
	}
	look_bridge(look, netcfg, bridge);
	struct ports ports = {netcfg, bridge, json_array()};
	(void)!netcfg_links_each(netcfg, add_port, &ports, &err);
	add_rates(&ports);
	json_object_set_new(look->actual, "ports", ports.list);
	if (row->vni)
		look_vxlan(look, netcfg, bridge);
	if (row->uplink[0])
		look_uplink(look, netcfg, bridge);
}

/* ---- what only the privileged half can see: one question after the other ---- */

static void ask_next(struct look *look);

static void add_question(struct look *look, const struct question *question)
{
	/* room doubles at each power of two */
	if ((look->n & (look->n - 1)) == 0)
		look->question = mem_realloc(look->question, look->n ? 2 * look->n : 1,
					     sizeof(*look->question));
	look->question[look->n++] = *question;
}

static void add_tap(void *out, const struct network_tap *tap)
{
	struct question question = {.verb = PRIV_TAP_LOOK, .tap = *tap};
	snprintf(question.mac, sizeof(question.mac), "%s", tap->mac);
	add_question(out, &question);
}

static void differ_in_tap(void *data, const char *text)
{
	differ(data, "%s", text);
}

static void look_taps(struct look *look)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	if (netcfg_open(&netcfg, NULL) < 0)
		return;
	for (size_t i = 0; i < look->n; i++)
		if (look->question[i].verb == PRIV_TAP_LOOK)
			tap_compare(look->network, netcfg, &look->question[i].tap, differ_in_tap,
				    look);
}

static int request_of(const struct look *look, const struct question *question,
		      struct priv_request *ret, struct err *err)
{
	struct network *network = look->network;
	struct network_tap tap = question->tap;
	if (question->verb == PRIV_TAP_LOOK) {
		tap.mac = question->mac;
		return networks_tap_request(network->all, &network->row, &tap, PRIV_TAP_LOOK, ret,
					    err);
	}
	*ret = question->verb == PRIV_FORWARD_LOOK
		       ? forward_request(&question->forward, question->family, PRIV_FORWARD_LOOK)
		       : network_request(network, PRIV_NETWORK_LOOK);
	return 0;
}

static void differ_in_network(struct look *look, uint32_t missing)
{
	const char *mac = json_string_value(json_object_get(look->actual, "mac"));
	char bridge[16];
	network_bridge_name(look->network, bridge);
	if (missing & PRIV_MISSING_FIREWALL)
		differ(look,
		       "the firewall's rules of the network are gone, or not as they should be");
	if (missing & PRIV_MISSING_MAC)
		differ(look, "bridge %s has the MAC %s, which is not its own", bridge,
		       mac ? mac : "of another");
}

static void differ_by(struct look *look, const struct question *question, uint32_t missing)
{
	if (question->verb == PRIV_TAP_LOOK)
		differ(look, "tap vdi%un%u is not guarded against false addresses as it should be",
		       question->tap.desktop, question->tap.nic);
	else if (question->verb == PRIV_FORWARD_LOOK)
		differ(look, "%s: port %lld of the host does not lead to its desktop",
		       question->family == IPV4 ? "IPv4" : "IPv6",
		       (long long)question->forward.host_port);
	else
		differ_in_network(look, missing);
}

static void on_answer(struct network *network, const struct priv_reply *reply, int *fds,
		      const struct err *err)
{
	struct look *look = network->looks;
	const struct question *question = &look->question[look->at++];
	if (err)
		differ(look, "the firewall cannot be seen: %.200s", err->msg);
	else if (reply->missing)
		differ_by(look, question, reply->missing);
	ask_next(look);
}

static void ask_next(struct look *look)
{
	struct network *network = look->network;
	struct priv_request req;
	struct err err;
	if (look->at < look->n) {
		if (request_of(look, &look->question[look->at], &req, &err) == 0) {
			network_call(network, &req, false, on_answer);
			return;
		}
		differ(look, "%.200s", err.msg);
	}
	/* the next begins before this one is told: it may delete the network */
	look->cb(look->data, network, look->actual, look->differences, NULL);
	look_free(look);
	if (network->looks)
		look_now(network->looks);
}

static void look_now(struct look *look)
{
	struct network *network = look->network;
	struct forward *forward;
	if (network_has_kernel_part(network)) {
		look_links(look);
		add_question(look, &(struct question){.verb = PRIV_NETWORK_LOOK});
		if (network->all->each_tap)
			network->all->each_tap(network->all->each_tap_data, network->row.id,
					       add_tap, look);
		look_taps(look);
	}
	if (network_has_dnsmasq(network) && !network->watch && !network->spawning)
		differ(look, "dnsmasq does not run");
	DL_FOREACH (network->forwards, forward) {
		for (enum family f = 0; f < FAMILIES; f++)
			if (!forward->unwanted && forward_leads(&forward->row, f))
				add_question(look, &(struct question){.verb = PRIV_FORWARD_LOOK,
								      .forward = forward->row,
								      .family = f});
	}
	ask_next(look);
}

void look_begin(struct network *network, bool to_mend, look_cb cb, void *data)
{
	struct look *look = mem_new(struct look);
	bool first = !network->looks;
	look->network = network;
	look->to_mend = to_mend;
	look->actual = json_object();
	look->differences = json_array();
	look->cb = cb;
	look->data = data;
	DL_APPEND(network->looks, look);
	if (first)
		look_now(look);
}
