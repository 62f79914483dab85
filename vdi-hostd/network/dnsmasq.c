/*
 * One dnsmasq a network answers DHCP and DNS, with the addresses that this daemon assigned and no
 * others. It outlives the daemon as desktops do, so that a restart loses nobody's lease.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

#define RESPAWN_FIRST_MS 500
#define RESPAWN_LAST_MS  60000
#define LEASES_MAX       (1u << 20)

static void folder(const struct network *network, char *ret, size_t size)
{
	snprintf(ret, size, "%s/networks/%" PRId64, network->all->runtime_dir, network->row.slot);
}

static int make_folder(const struct network *network, struct err *err)
{
	char parent[160], path[200];
	snprintf(parent, sizeof(parent), "%s/networks", network->all->runtime_dir);
	folder(network, path, sizeof(path));
	/* dnsmasq reads its files under a uid of its own */
	if ((mkdir(parent, 0755) < 0 && errno != EEXIST) || chmod(parent, 0755) < 0 ||
	    (mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot make the folder %s",
				   path);
	return 0;
}

void dnsmasq_delete_files(struct network *network)
{
	static const char *const names[] = {"hosts", "hosts.new", "leases"};
	char path[200], file[256];
	folder(network, path, sizeof(path));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(file, sizeof(file), "%s/%s", path, names[i]);
		unlink(file);
	}
	rmdir(path);
}

static void write_host(void *out, const struct network_host *host)
{
	char ip[16];
	address_format(host->ip, ip);
	fprintf(out, "%s,%s,%s\n", host->mac, ip, host->name);
}

int dnsmasq_write_hosts(struct network *network, struct err *err)
{
	struct networks *all = network->all;
	char path[200], fresh[256], file[256];
	if (make_folder(network, err) < 0)
		return -1;
	folder(network, path, sizeof(path));
	snprintf(fresh, sizeof(fresh), "%s/hosts.new", path);
	snprintf(file, sizeof(file), "%s/hosts", path);
	FILE *out = fopen(fresh, "we");
	if (!out)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", fresh);
	if (all->each_host)
		all->each_host(all->each_host_data, network->row.id, write_host, out);
	bool failed = fchmod(fileno(out), 0644) < 0 || ferror(out);
	if (fclose(out) != 0 || failed || rename(fresh, file) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", file);
	return 0;
}

static void on_signalled(void *data, const struct priv_reply *reply, int *fds,
			 const struct err *err)
{
	if (err && err->code != ERR_CANCELLED && err->code != ERR_NOT_FOUND)
		log_warn("a signal to dnsmasq was refused: %s", err->msg);
}

void dnsmasq_signal(struct network *network, int sig)
{
	if (!network->watch)
		return;
	struct priv_request req = {.verb = PRIV_DNSMASQ_SIGNAL};
	req.u.process = (struct priv_process){
		.slot = (uint32_t)network->row.slot,
		.pid = (int32_t)network->row.dnsmasq_pid,
		.start_time = network->row.dnsmasq_start_time,
		.sig = sig,
	};
	priv_call(network->all->priv, &req, NULL, 0, on_signalled, NULL);
}

void dnsmasq_release(struct network *network)
{
	proc_unwatch(TAKE_PTR(network->watch));
	if (network->pidfd >= 0)
		close(TAKE_FD(network->pidfd));
}

static void on_respawn_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_respawn(struct network *network)
{
	uv_timer_t *timer = TAKE_PTR(network->respawn);
	if (timer)
		uv_close((uv_handle_t *)timer, on_respawn_closed);
}

struct waiting {
	struct network *network;
	void (*started)(struct network *network, const struct err *err);
};

static void on_respawned(struct network *network, const struct err *err);

static void respawn(uv_timer_t *timer)
{
	struct network *network = timer->data;
	stop_respawn(network);
	dnsmasq_start(network, on_respawned);
}

static void respawn_later(struct network *network)
{
	unsigned int shift = network->failures < 7 ? network->failures : 7;
	uint64_t wait_ms = (uint64_t)RESPAWN_FIRST_MS << shift;
	network->failures++;
	stop_respawn(network);
	network->respawn = mem_new(uv_timer_t);
	network->respawn->data = network;
	uv_timer_init(network->all->loop, network->respawn);
	uv_timer_start(network->respawn, respawn,
		       wait_ms < RESPAWN_LAST_MS ? wait_ms : RESPAWN_LAST_MS, 0);
}

static void on_respawned(struct network *network, const struct err *err)
{
	if (!err) {
		network_set_degraded(network, "");
		return;
	}
	network_set_degraded(network, err->msg);
	respawn_later(network);
}

static void on_ended(void *data)
{
	struct network *network = data;
	dnsmasq_release(network);
	network->row.dnsmasq_pid = 0;
	if (network->ended) {
		void (*ended)(struct network *) = TAKE_PTR(network->ended);
		ended(network);
		return;
	}
	network_set_degraded(network, "dnsmasq ended; it is started again");
	respawn_later(network);
}

static int hold(struct network *network, int pidfd, struct err *err)
{
	network->pidfd = pidfd;
	return proc_watch(network->all->loop, pidfd, on_ended, network, &network->watch, err);
}

static void on_spawned(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	_cleanup_free_ struct waiting *waiting = data;
	struct network *network = waiting->network;
	struct err failed;
	if (err && err->code == ERR_CANCELLED)
		return; /* the daemon ends */
	if (err) {
		waiting->started(network, err);
		return;
	}
	network->row.dnsmasq_pid = reply->pid;
	network->row.dnsmasq_start_time = reply->start_time;
	memcpy(network->row.boot_id, network->all->boot_id, sizeof(network->row.boot_id));
	if (hold(network, TAKE_FD(fds[0]), &failed) < 0 ||
	    db_network_update(network->all->db, &network->row, &failed) < 0) {
		waiting->started(network, &failed);
		return;
	}
	waiting->started(network, NULL);
}

/* One that a daemon before us spawned. */
static bool adopt(struct network *network)
{
	int pidfd;
	struct err err;
	if (network->row.dnsmasq_pid == 0 ||
	    strcmp(network->row.boot_id, network->all->boot_id) != 0 ||
	    proc_open((pid_t)network->row.dnsmasq_pid, network->row.dnsmasq_start_time, &pidfd,
		      &err) < 0)
		return false;
	return hold(network, pidfd, &err) == 0;
}

void dnsmasq_start(struct network *network,
		   void (*cb)(struct network *network, const struct err *err))
{
	struct err err;
	if (dnsmasq_write_hosts(network, &err) < 0) {
		cb(network, &err);
		return;
	}
	if (network->watch || adopt(network)) {
		dnsmasq_signal(network, SIGHUP);
		cb(network, NULL);
		return;
	}
	struct waiting *waiting = mem_new(struct waiting);
	waiting->network = network;
	waiting->started = cb;
	struct priv_request req = network_request(network, PRIV_DNSMASQ_SPAWN);
	priv_call(network->all->priv, &req, NULL, 0, on_spawned, waiting);
}

void dnsmasq_stop(struct network *network, void (*cb)(struct network *network))
{
	stop_respawn(network);
	if (!network->watch && !adopt(network)) {
		cb(network);
		return;
	}
	network->ended = cb;
	dnsmasq_signal(network, SIGKILL);
}

/* dnsmasq's own format: "expiry mac ip name client-id" a line (dnsmasq(8), --dhcp-leasefile) */
static json_t *parse_lease(const char *line)
{
	int64_t expires;
	char mac[32], ip[48], name[256], until[STR_TIME_MAX];
	if (sscanf(line, "%" SCNd64 " %31s %47s %255s", &expires, mac, ip, name) != 4)
		return NULL;
	str_format_time(expires * 1000, until);
	return json_pack("{s:s, s:s, s:s?, s:s}", "mac", mac, "ip", ip, "hostname",
			 strcmp(name, "*") == 0 ? NULL : name, "expires_at", until);
}

json_t *networks_leases(struct networks *networks, const struct db_network *row, struct err *err)
{
	struct network *network = NULL;
	char path[200], file[256], line[512];
	HASH_FIND(by_id, networks->by_id, row->id, strlen(row->id), network);
	json_t *leases = json_array();
	if (!network || !network_has_kernel_part(network))
		return leases;
	folder(network, path, sizeof(path));
	snprintf(file, sizeof(file), "%s/leases", path);
	FILE *in = fopen(file, "re");
	if (!in)
		return leases; /* no desktop has asked yet */
	size_t read_bytes = 0;
	while (fgets(line, sizeof(line), in) && (read_bytes += strlen(line)) < LEASES_MAX) {
		json_t *lease = parse_lease(line);
		if (lease)
			json_array_append_new(leases, lease);
	}
	fclose(in);
	return leases;
}
