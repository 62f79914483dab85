/* The daemon: reads its configuration, splits in two, puts the parts together and runs the loop. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/api/server.h"
#include "vdi-hostd/broker/broker.h"
#include "vdi-hostd/config.h"
#include "vdi-hostd/db/job.h"
#include "vdi-hostd/desktop/desktop.h"
#include "vdi-hostd/disk/disk.h"
#include "vdi-hostd/host_info.h"
#include "vdi-hostd/image/verify.h"
#include "vdi-hostd/notify.h"

#define CONFIG_FILE "/etc/vdi-hostd/vdi-hostd.conf"

struct options {
	const char *config, *state, *runtime, *socket;
	bool check;
};

struct daemon {
	struct options options;
	struct config config;
	struct host_info info;
	uv_loop_t loop;
	uv_signal_t sigterm, sigint, sighup;
	struct api_host host;
	struct api_server *server;
	bool stopping;
	int status;
};

static void print_usage(FILE *out)
{
	fputs("usage: vdi-hostd [--config FILE] [--state DIR] [--runtime DIR] [--socket PATH] "
	      "[--check]\n"
	      "  --config FILE  instead of " CONFIG_FILE "\n"
	      "  --state DIR    where images and the database are kept\n"
	      "  --runtime DIR  sockets and what else is gone with the host's boot\n"
	      "  --socket PATH  where the control API listens\n"
	      "  --check        check the configuration and end\n"
	      "  --version      print the version and end\n",
	      out);
}

static int parse_options(int argc, char **argv, struct options *ret)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},  {"state", required_argument, NULL, 's'},
		{"runtime", required_argument, NULL, 'r'}, {"socket", required_argument, NULL, 'k'},
		{"check", no_argument, NULL, 'n'},         {"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},          {0},
	};
	int c;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) >= 0) {
		switch (c) {
		case 'c':
			ret->config = optarg;
			break;
		case 's':
			ret->state = optarg;
			break;
		case 'r':
			ret->runtime = optarg;
			break;
		case 'k':
			ret->socket = optarg;
			break;
		case 'n':
			ret->check = true;
			break;
		case 'v':
			puts("vdi-hostd " VDI_VERSION);
			exit(0);
		case 'h':
			print_usage(stdout);
			exit(0);
		default:
			print_usage(stderr);
			return -1;
		}
	}
	if (optind == argc)
		return 0;
	print_usage(stderr);
	return -1;
}

static int override(char *dst, size_t size, const char *option, const char *value, struct err *err)
{
	if (!value || str_copy(dst, size, value) == 0)
		return 0;
	return err_set_field(err, option, "the path given with --%s is too long", option);
}

static int read_config(const struct options *options, bool rootless, struct config *ret,
		       struct err *err)
{
	if (config_defaults(ret, rootless, err) < 0)
		return -1;
	/* the file at the usual place may be missing, one that was named may not */
	const char *file = options->config ? options->config : CONFIG_FILE;
	if ((options->config || access(file, F_OK) == 0) && config_load(ret, file, err) < 0)
		return -1;
	if (override(ret->state_dir, sizeof(ret->state_dir), "state", options->state, err) < 0 ||
	    override(ret->runtime_dir, sizeof(ret->runtime_dir), "runtime", options->runtime, err) <
		    0)
		return -1;
	if (options->runtime && !options->socket &&
	    str_path_join(ret->socket, sizeof(ret->socket), ret->runtime_dir, "control.sock") < 0)
		return err_set_field(err, "runtime", "the path given with --runtime is too long");
	return override(ret->socket, sizeof(ret->socket), "socket", options->socket, err);
}

/* Parents are made as the umask says; the folder itself is the daemon's alone. */
static int make_folder(const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err)
{
	char part[256];
	if (str_copy(part, sizeof(part), path) < 0)
		return err_set(err, ERR_LIMIT, "the path %.100s... is too long", path);
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return err_set_sys(err, err_from_errno(errno), errno,
					   "cannot make the folder %s", part);
		*slash = '/';
	}
	if (mkdir(part, mode) < 0 && errno != EEXIST)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot make the folder %s",
				   part);
	if (geteuid() == 0 && chown(part, uid, gid) < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot give the folder %s to the daemon's user", part);
	return 0;
}

static int find_account(const struct config *config, struct priv_config *priv, struct err *err)
{
	const struct passwd *user = getpwnam(config->user);
	if (!user)
		return err_set(err, ERR_NOT_FOUND,
			       "there is no user '%s' to run as; make it with `useradd --system "
			       "--user-group %s`",
			       config->user, config->user);
	const struct group *group = getgrnam(config->group);
	if (!group)
		return err_set(err, ERR_NOT_FOUND,
			       "there is no group '%s'; make it with `groupadd --system %s`",
			       config->group, config->group);
	priv->uid = user->pw_uid;
	priv->gid = group->gr_gid;
	return 0;
}

/*
 * Split in two. From here on root's half does nothing but the verbs of priv/proto.h, and this
 * function returns in the half that has no privileges.
 */
static int split(struct daemon *daemon, struct priv_config *priv, int *ret_fd, struct err *err)
{
	const struct config *config = &daemon->config;
	bool rootless = geteuid() != 0;
	*priv = (struct priv_config){
		.uid = geteuid(),
		.gid = getegid(),
		.uid_base = (uid_t)config->uid_base,
		.tool_uid = (uid_t)config->tool_uid,
		.vhost = config->vhost,
	};
	if (!rootless && find_account(config, priv, err) < 0)
		return -1;
	if (str_copy(priv->runtime_dir, sizeof(priv->runtime_dir), config->runtime_dir) < 0 ||
	    str_copy(priv->qemu_binary, sizeof(priv->qemu_binary), config->qemu_binary) < 0 ||
	    str_copy(priv->qemu_img_binary, sizeof(priv->qemu_img_binary),
		     config->qemu_img_binary) < 0 ||
	    str_copy(priv->dnsmasq_binary, sizeof(priv->dnsmasq_binary), config->dnsmasq_binary) <
		    0)
		return err_set(err, ERR_LIMIT, "a path in the configuration is too long");
	if (make_folder(config->state_dir, 0700, priv->uid, priv->gid, err) < 0 ||
	    make_folder(config->runtime_dir, 0755, priv->uid, priv->gid, err) < 0)
		return -1;
	*ret_fd = -1;
	return rootless ? 0 : priv_fork(priv, ret_fd, err);
}

static void stop(struct daemon *daemon, int status)
{
	struct api_host *host = &daemon->host;
	if (daemon->stopping)
		return;
	daemon->stopping = true;
	daemon->status = status;
	log_info("stopping; the desktops go on");
	notify_state("STOPPING=1");
	api_server_free(TAKE_PTR(daemon->server));
	broker_free(TAKE_PTR(host->broker));
	desktops_free(TAKE_PTR(host->desktops));
	disks_free(TAKE_PTR(host->disks));
	networks_free(TAKE_PTR(host->networks));
	images_free(TAKE_PTR(host->images));
	jobs_free(TAKE_PTR(host->jobs));
	priv_close(TAKE_PTR(host->priv));
	uv_close((uv_handle_t *)&daemon->sigterm, NULL);
	uv_close((uv_handle_t *)&daemon->sigint, NULL);
	uv_close((uv_handle_t *)&daemon->sighup, NULL);
}

static void on_stop_signal(uv_signal_t *signal, int number)
{
	stop(signal->data, 0);
}

static void on_priv_lost(void *data)
{
	log_err("the privileged half is gone; the desktops go on, and a restart finds them again");
	stop(data, 1);
}

/* What a running daemon can take over is taken over; the rest is named and counts from the next
 * start. */
static void on_reload(uv_signal_t *signal, int number)
{
	struct daemon *daemon = signal->data;
	struct config fresh;
	struct err err;
	if (read_config(&daemon->options, daemon->info.rootless, &fresh, &err) < 0) {
		log_err("the configuration stays as it was: %s", err.msg);
		return;
	}
	log_open("vdi-hostd", fresh.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	daemon->config.debug = fresh.debug;
	if (memcmp(&fresh, &daemon->config, sizeof(fresh)) != 0)
		log_warn("the configuration was read again: `debug` counts from now on, the other "
			 "changes from the next start of the daemon");
	else
		log_info("the configuration was read again");
}

static void watch_signal(struct daemon *daemon, uv_signal_t *signal, int number, uv_signal_cb cb)
{
	uv_signal_init(&daemon->loop, signal);
	signal->data = daemon;
	uv_signal_start(signal, cb, number);
}

static void open_api(struct daemon *daemon)
{
	struct err err;
	const struct config *config = &daemon->config;
	const struct api_server_config server = {
		.socket = config->socket,
		.group = daemon->info.rootless ? NULL : config->group,
	};
	images_verify_every(daemon->host.images, config->verify_interval_h * 3600 * 1000);
	if (api_server_new(&daemon->host, &server, api_tables, &daemon->server, &err) < 0) {
		log_err("%s", err.msg);
		stop(daemon, 1);
		return;
	}
	log_info("ready: control API at %s, screens at %s port %d, guests run under %s (%s)",
		 config->socket, config->spice_listen, daemon->info.spice_port,
		 daemon->info.accel == QEMU_ACCEL_KVM ? "kvm" : "tcg", daemon->info.accel_why);
	notify_state("READY=1");
}

static void on_disks_reconciled(void *data)
{
	struct daemon *daemon = data;
	if (!daemon->stopping)
		open_api(daemon);
}

static void on_desktops_reconciled(void *data)
{
	struct daemon *daemon = data;
	if (!daemon->stopping)
		disks_reconcile(daemon->host.disks, on_disks_reconciled, daemon);
}

static void on_networks_reconciled(void *data)
{
	struct daemon *daemon = data;
	if (!daemon->stopping)
		desktops_reconcile(daemon->host.desktops, on_desktops_reconciled, daemon);
}

static void on_probed(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct daemon *daemon = data;
	if (err && err->code == ERR_CANCELLED)
		return;
	if (err)
		log_warn("what the kernel offers is not known: %s", err->msg);
	else
		daemon->info.features = reply->features;
	networks_set_features(daemon->host.networks, daemon->info.features);
	networks_reconcile(daemon->host.networks, on_networks_reconciled, daemon);
}

static int assemble(struct daemon *daemon, const struct priv_config *priv_config, int priv_fd,
		    struct err *err)
{
	struct config *config = &daemon->config;
	struct api_host *host = &daemon->host;
	char path[256];
	*host = (struct api_host){.loop = &daemon->loop, .config = config, .info = &daemon->info};
	if (str_path_join(path, sizeof(path), config->state_dir, "vdi-hostd.db") < 0)
		return err_set(err, ERR_LIMIT, "the path of the state folder is too long");
	if (db_open(path, &host->db, err) < 0 ||
	    host_info_choose_accel(&daemon->info, host->db, config, err) < 0 ||
	    db_job_fail_running(host->db, "the daemon was restarted meanwhile; start it again",
				err) < 0 ||
	    priv_open(&daemon->loop, priv_fd, priv_config, on_priv_lost, daemon, &host->priv, err) <
		    0 ||
	    jobs_new(&daemon->loop, host->db, &host->jobs, err) < 0 ||
	    images_new(&daemon->loop, host->db, host->jobs, host->priv, config->state_dir,
		       &host->images, err) < 0 ||
	    networks_new(&daemon->loop, host->db, host->priv, config->runtime_dir, &host->networks,
			 err) < 0)
		return -1;
	const struct desktops_env env = {
		.loop = &daemon->loop,
		.db = host->db,
		.priv = host->priv,
		.images = host->images,
		.networks = host->networks,
		.accel = daemon->info.accel,
		.state_dir = config->state_dir,
		.runtime_dir = config->runtime_dir,
		.uid_base = (uid_t)config->uid_base,
		.memory_reserve_mib = config->memory_reserve_mib,
		.start_timeout_s = config->start_timeout_s,
		.stop_timeout_s = config->stop_timeout_s,
	};
	const struct broker_config broker = {
		.listen = config->spice_listen,
		.public_host = config->spice_public_host,
		.port = (int)config->spice_port,
		.ticket_ttl_s = config->ticket_ttl_s,
	};
	if (desktops_new(&env, &host->desktops, err) < 0)
		return -1;
	const struct disks_env disks = {
		.loop = &daemon->loop,
		.db = host->db,
		.priv = host->priv,
		.jobs = host->jobs,
		.images = host->images,
		.networks = host->networks,
		.desktops = host->desktops,
		.merge_rate = config->merge_rate_mib_s << 20,
	};
	if (disks_new(&disks, &host->disks, err) < 0 ||
	    broker_new(&daemon->loop, host->desktops, &broker, &host->broker, err) < 0)
		return -1;
	daemon->info.spice_port = broker_port(host->broker);
	const struct images_space_limits limits = {
		.low_percent = config->space_low_percent,
		.critical_percent = config->space_critical_percent,
		.critical_mib = config->space_critical_mib,
	};
	images_space_watch(host->images, &limits);
	networks_hosts_source(host->networks, desktops_each_address, host->desktops);
	networks_taps_source(host->networks, desktops_each_tap, host->desktops);
	networks_leases_sink(host->networks, desktops_learn, host->desktops);
	return 0;
}

static int run(struct daemon *daemon, const struct priv_config *priv_config, int priv_fd)
{
	struct err err;
	/* fixed, they stay low: what a burst of requests took goes back to the host after it */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	mallopt(M_TRIM_THRESHOLD, 64 << 10);
	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	uv_loop_init(&daemon->loop);
	watch_signal(daemon, &daemon->sigterm, SIGTERM, on_stop_signal);
	watch_signal(daemon, &daemon->sigint, SIGINT, on_stop_signal);
	watch_signal(daemon, &daemon->sighup, SIGHUP, on_reload);
	daemon->info.rootless = priv_fd < 0;
	daemon->info.started_at = str_now_ms();
	host_info_find_qemu_version(&daemon->info, daemon->config.qemu_binary);
	if (assemble(daemon, priv_config, priv_fd, &err) < 0) {
		log_err("%s", err.msg);
		stop(daemon, 1);
	} else {
		const struct priv_request probe = {.verb = PRIV_PROBE};
		priv_call(daemon->host.priv, &probe, NULL, 0, on_probed, daemon);
	}
	uv_run(&daemon->loop, UV_RUN_DEFAULT);
	uv_loop_close(&daemon->loop);
	db_close(daemon->host.db);
	return daemon->status;
}

int main(int argc, char **argv)
{
	static struct daemon daemon;
	struct priv_config priv_config;
	struct err err;
	int priv_fd;
	log_open("vdi-hostd", LOG_LEVEL_INFO);
	if (parse_options(argc, argv, &daemon.options) < 0)
		return 2;
	if (sodium_init() < 0 ||
	    read_config(&daemon.options, geteuid() != 0, &daemon.config, &err) < 0) {
		log_err("%s", err.msg);
		return 2;
	}
	if (daemon.options.check) {
		puts("the configuration is fine");
		return 0;
	}
	log_open("vdi-hostd", daemon.config.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	if (split(&daemon, &priv_config, &priv_fd, &err) < 0) {
		log_err("%s", err.msg);
		return 1;
	}
	return run(&daemon, &priv_config, priv_fd);
}
