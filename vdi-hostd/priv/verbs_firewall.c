/*
 * Port forwards and firewall groups; word of others who were at our tables, and of what DHCP
 * servers of others give out.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "netcfg/dhcp.h"
#include "netcfg/monitor.h"
#include "vdi-hostd/priv/network_names.h"

int verb_forward_check(const struct priv_request *req, const int *fds, size_t n_fds,
		       struct err *err)
{
	const struct netcfg_forward *forward = &req->u.forward;

	if (forward->protocol != NETCFG_TCP && forward->protocol != NETCFG_UDP)
		return err_set_field(err, "protocol", "protocol %d has no ports",
				     (int)forward->protocol);
	if (forward->port_first == 0 || forward->port_last < forward->port_first ||
	    forward->port_last - forward->port_first >= NETCFG_FORWARD_PORTS_MAX ||
	    forward->guest_port == 0 ||
	    forward->guest_port + (forward->port_last - forward->port_first) > 65535)
		return err_set_field(err, "port_first", "ports %u to %u cannot lead to %u",
				     forward->port_first, forward->port_last, forward->guest_port);
	if (network_check_address(&forward->host, true, "host", err) < 0)
		return -1;
	return network_check_address(&forward->guest, false, "guest", err);
}

int verb_forward_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err)
{
	if (network_need_netcfg(verbs, err) < 0)
		return -1;
	return netcfg_forward_ensure(verbs->netcfg, &req->u.forward, err);
}

int verb_forward_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err)
{
	if (network_need_netcfg(verbs, err) < 0)
		return -1;
	return netcfg_forward_delete(verbs->netcfg, &req->u.forward, err);
}

int verb_forward_look(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err)
{
	bool there;

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_forward_has(verbs->netcfg, &req->u.forward, &there, err) < 0)
		return -1;
	reply->missing = there ? 0 : PRIV_MISSING_FORWARD;
	return 0;
}

static int check_rule(const struct netcfg_rule *rule, struct err *err)
{
	uint8_t accept;
	memcpy(&accept, &rule->accept, 1);
	if (accept > 1)
		return err_set_field(err, "accept", "%u is neither yes nor no", accept);
	if (rule->direction != NETCFG_IN && rule->direction != NETCFG_OUT)
		return err_set_field(err, "direction", "there is no direction %d",
				     (int)rule->direction);
	if ((unsigned int)rule->protocol > NETCFG_ICMP)
		return err_set_field(err, "protocol", "there is no protocol %d",
				     (int)rule->protocol);
	if (rule->port_last < rule->port_first || (rule->port_last && !rule->port_first))
		return err_set_field(err, "port_first", "ports %u to %u are no range",
				     rule->port_first, rule->port_last);
	return network_check_address(&rule->remote, true, "remote", err);
}

int verb_group_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct priv_group *group = &req->u.group;

	if (group->id == 0)
		return err_set_field(err, "id", "a group's id begins with 1");
	if (group->n_rules > PRIV_RULES_MAX)
		return err_set_field(err, "n_rules", "%u rules are over %d", group->n_rules,
				     PRIV_RULES_MAX);
	for (size_t i = 0; i < group->n_rules; i++)
		if (check_rule(&group->rules[i], err) < 0)
			return -1;
	return 0;
}

int verb_group_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_group *group = &req->u.group;
	const struct netcfg_group wish = {
		.id = group->id,
		.drop_in = group->drop_in,
		.drop_out = group->drop_out,
		.rules = group->rules,
		.n_rules = group->n_rules,
	};

	if (network_need_netcfg(verbs, err) < 0)
		return -1;
	return netcfg_groups_ensure(verbs->netcfg, &wish, 1, group->revoke, err);
}

int verb_group_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err)
{
	if (network_need_netcfg(verbs, err) < 0)
		return -1;
	return netcfg_group_delete(verbs->netcfg, req->u.group.id, err);
}

/* The kernel tells of tables only those who may change them: here, and a byte says so beyond. */
int verb_watch(struct verbs *verbs, const struct priv_request *req, const int *fds,
	       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	uint32_t owner = 0;
	int ends[2];

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_firewall_owner(verbs->netcfg, &owner, err) < 0)
		return -1;
	if (!verbs->monitor && netcfg_monitor_open(&verbs->monitor, owner, err) < 0)
		return -1;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_set(err, ERR_LIMIT, "no pipe is to be had");
	if (verbs->watch_fd > 0)
		close(verbs->watch_fd);
	verbs->watch_fd = ends[1];
	reply_fds[0] = ends[0];
	reply->n_fds = 1;
	return 0;
}

static void see_event(void *data, const struct netcfg_event *event)
{
	bool *changed = data;
	switch (event->kind) {
	case NETCFG_EVENT_TABLE_GONE:
	case NETCFG_EVENT_TABLE_CHANGED:
	case NETCFG_EVENT_RESYNC:
		*changed = true;
		return;
	case NETCFG_EVENT_LINK:
	case NETCFG_EVENT_LINK_GONE:
	case NETCFG_EVENT_ADDRESS:
	case NETCFG_EVENT_ADDRESS_GONE:
	case NETCFG_EVENT_RATE:
		return; /* the other half sees these itself */
	}
}

void verbs_see_events(struct verbs *verbs)
{
	bool changed = false;
	struct err err;

	if (netcfg_monitor_read(verbs->monitor, see_event, &changed, &err) < 0) {
		log_warn("privileged half: changes of tables are not heard any more: %s", err.msg);
		netcfg_monitor_close(verbs->monitor);
		verbs->monitor = NULL;
		changed = true;
	}
	/* a pipe that is full says it already */
	if (changed)
		(void)!write(verbs->watch_fd, "t", 1);
}

/* Only who has the privilege may begin to hear; what is heard is parsed beyond. */
int verb_dhcp_listen(struct verbs *verbs, const struct priv_request *req, const int *fds,
		     struct priv_reply *reply, int *reply_fds, struct err *err)
{
	if (network_need_netcfg(verbs, err) < 0 || netcfg_dhcp_listen(&reply_fds[0], err) < 0)
		return -1;
	reply->n_fds = 1;
	return 0;
}
