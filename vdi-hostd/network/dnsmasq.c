/*
 * One dnsmasq a network answers DHCP and DNS, with the addresses that this daemon assigned and no
 * others. It outlives the daemon as desktops do, so that a restart loses nobody's lease.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

#define SETTLE_MS 100 /* one that cannot bind or read its options ends within a few */

static void on_signalled(struct network *network, const struct priv_reply *reply, int *fds,
			 const struct err *err)
{
	if (!err || err->code == ERR_NOT_FOUND)
		return;
	log_warn("network %s: a signal to dnsmasq was refused: %s", network->row.name, err->msg);
	/* who waits for its end would wait for ever */
	if (network->ended) {
		void (*ended)(struct network *) = TAKE_PTR(network->ended);
		dnsmasq_release(network);
		ended(network);
	}
}

static void send_signal(struct network *network, int sig)
{
	struct priv_request req = {.verb = PRIV_DNSMASQ_SIGNAL};
	req.u.process = (struct priv_process){
		.slot = (uint32_t)network->row.slot,
		.pid = (int32_t)network->row.dnsmasq_pid,
		.start_time = network->row.dnsmasq_start_time,
		.sig = sig,
	};
	network_call(network, &req, false, on_signalled);
}

void dnsmasq_kill(struct network *network)
{
	if (network->watch)
		send_signal(network, SIGKILL);
}

void dnsmasq_reload(struct network *network)
{
	if (network->settling)
		network->hosts_changed = true; /* it may have read the file already, or not */
	else if (!network->watch)
		return; /* it reads the file as it starts */
	else if (files_leases_block(network)) {
		/* dnsmasq keeps an address for who had it before, and has no way to be told
		 * otherwise */
		network->renew = true;
		send_signal(network, SIGTERM);
	} else {
		send_signal(network, SIGHUP);
	}
}

void dnsmasq_release(struct network *network)
{
	proc_unwatch(TAKE_PTR(network->watch));
	if (network->pidfd >= 0)
		close(TAKE_FD(network->pidfd));
}

static void finish_start(struct network *network, const struct err *err)
{
	void (*started)(struct network *, const struct err *) = TAKE_PTR(network->started);
	network_timer_stop(&network->settling);
	if (started)
		started(network, err);
}

static void on_ended(void *data)
{
	struct network *network = data;
	struct err err;
	bool renew = network->renew;
	network->renew = false;
	dnsmasq_release(network);
	network->row.dnsmasq_pid = 0;
	if (network->ended) {
		void (*ended)(struct network *) = TAKE_PTR(network->ended);
		ended(network);
	} else if (network->settling) {
		err_set(&err, ERR_UNAVAILABLE,
			"dnsmasq of network '%s' ended as soon as it was started; what it said is "
			"in the daemon's log",
			network->row.name);
		finish_start(network, &err);
	} else if (!network->plan) {
		if (!renew)
			network_set_degraded(network, "dnsmasq ended; it is started again");
		if (uv_now(network->all->loop) - network->up_since > 60000)
			network->failures = 0;
		network_repair_later(network, renew);
	}
}

static int hold(struct network *network, int pidfd, struct err *err)
{
	network->pidfd = pidfd;
	network->up_since = uv_now(network->all->loop);
	if (proc_watch(network->all->loop, pidfd, on_ended, network, &network->watch, err) == 0)
		return 0;
	dnsmasq_release(network);
	return -1;
}

static int record(struct network *network, pid_t pid, uint64_t start_time, bool stale,
		  struct err *err)
{
	network->row.dnsmasq_pid = pid;
	network->row.dnsmasq_start_time = start_time;
	network->row.dnsmasq_stale = stale;
	memcpy(network->row.boot_id, network->all->boot_id, sizeof(network->row.boot_id));
	return db_network_update(network->all->db, &network->row, err);
}

/* Does a process have that argument? */
static bool has_argument(const char *pid, const char *argument)
{
	char path[64], text[8192];
	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	for (const char *c = text; c < text + n; c += strlen(c) + 1)
		if (strcmp(c, argument) == 0)
			return true;
	return false;
}

/*
 * One that no row names: the daemon ended between its start and the row. It is known by its lease
 * file, which is no other's.
 */
static pid_t find_unrecorded(const struct network *network)
{
	char path[256], argument[300];
	if (files_path(network, "leases", path, sizeof(path)) < 0)
		return 0;
	snprintf(argument, sizeof(argument), "--dhcp-leasefile=%s", path);
	DIR *proc = opendir("/proc");
	pid_t found = 0;
	struct dirent *entry;
	while (proc && !found && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    has_argument(entry->d_name, argument))
			found = (pid_t)atoi(entry->d_name);
	if (proc)
		closedir(proc);
	return found;
}

/* One that a daemon before us spawned. */
static bool adopt(struct network *network)
{
	int pidfd;
	struct err err;
	uint64_t start_time;
	if (network->row.dnsmasq_pid != 0 &&
	    strcmp(network->row.boot_id, network->all->boot_id) == 0 &&
	    proc_open((pid_t)network->row.dnsmasq_pid, network->row.dnsmasq_start_time, &pidfd,
		      &err) == 0)
		return hold(network, pidfd, &err) == 0;
	pid_t pid = find_unrecorded(network);
	if (pid == 0 || proc_start_time(pid, &start_time, &err) < 0 ||
	    proc_open(pid, start_time, &pidfd, &err) < 0)
		return false;
	if (record(network, pid, start_time, network->row.dnsmasq_stale, &err) < 0)
		log_warn("network %s: %s", network->row.name, err.msg);
	return hold(network, pidfd, &err) == 0;
}

static void on_settled(uv_timer_t *timer)
{
	struct network *network = timer->data;
	bool reload = network->hosts_changed;
	network->hosts_changed = false;
	finish_start(network, NULL);
	if (reload)
		dnsmasq_reload(network);
}

static void kill_now(struct network *network)
{
	if (network->watch || adopt(network)) {
		send_signal(network, SIGKILL);
		return;
	}
	void (*ended)(struct network *) = TAKE_PTR(network->ended);
	ended(network);
}

static void on_spawned(struct network *network, const struct priv_reply *reply, int *fds,
		       const struct err *err)
{
	struct err failed;
	network->spawning = false;
	if (!err && (hold(network, TAKE_FD(fds[0]), &failed) < 0 ||
		     record(network, reply->pid, reply->start_time, false, &failed) < 0))
		err = &failed;
	if (network->ended) /* it was to be stopped meanwhile */
		kill_now(network);
	else if (err)
		finish_start(network, err);
	else
		network->settling = network_timer(network, SETTLE_MS, on_settled);
}

static void start_again(struct network *network)
{
	void (*cb)(struct network *, const struct err *) = TAKE_PTR(network->restarted);
	dnsmasq_start(network, cb);
}

void dnsmasq_start(struct network *network,
		   void (*cb)(struct network *network, const struct err *err))
{
	struct err err;
	if (files_write_hosts(network, &err) < 0) {
		cb(network, &err);
		return;
	}
	if (network->spawning || network->settling) {
		/* begun by a plan that ran out of time */
		network->started = cb;
		network->hosts_changed = true;
		return;
	}
	if (network->watch || adopt(network)) {
		if (network->row.dnsmasq_stale) {
			/* it was started for settings of before */
			network->restarted = cb;
			dnsmasq_stop(network, start_again);
			return;
		}
		dnsmasq_reload(network);
		cb(network, NULL);
		return;
	}
	if (files_prune_leases(network, &err) < 0) {
		cb(network, &err);
		return;
	}
	network->started = cb;
	network->spawning = true;
	network->hosts_changed = false;
	struct priv_request req = network_request(network, PRIV_DNSMASQ_SPAWN);
	network_call(network, &req, false, on_spawned);
}

void dnsmasq_stop(struct network *network, void (*cb)(struct network *network))
{
	network->started = NULL;
	network->ended = cb;
	network_timer_stop(&network->settling);
	if (!network->spawning)
		kill_now(network);
}
