#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/proc.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/desktop/desktop.h"
#include "vdi-hostd/host_info.h"

static const struct {
	uint32_t bit;
	const char *name;
} features[] = {
	{PRIV_HAS_BRIDGE, "bridge"},
	{PRIV_HAS_TUN, "tun"},
	{PRIV_HAS_NFT, "nftables"},
	{PRIV_HAS_DNSMASQ, "dnsmasq"},
	{PRIV_HAS_CGROUP_MEMORY, "cgroup_memory"},
	{PRIV_HAS_CGROUP_CPU, "cgroup_cpu"},
	{PRIV_HAS_VHOST_NET, "vhost_net"},
	{PRIV_HAS_VLAN, "vlan"},
	{PRIV_HAS_BRIDGE_VLAN, "bridge_vlan_filtering"},
	{PRIV_HAS_LANDLOCK, "landlock"},
	{PRIV_HAS_KVM_DEVICE, "kvm_device"},
	{PRIV_HAS_VXLAN, "vxlan"},
	{PRIV_HAS_RATE_TO, "rate_to_guest"},
	{PRIV_HAS_RATE_FROM, "rate_from_guest"},
	{PRIV_HAS_NFT_BRIDGE, "nftables_bridge"},
	{PRIV_HAS_NFT_NETDEV, "nftables_netdev"},
	{PRIV_HAS_BRIDGE_CT, "bridge_connection_tracking"},
	{PRIV_HAS_PORT_ISOLATION, "port_isolation"},
	{PRIV_HAS_MULTI_QUEUE, "multi_queue"},
	{PRIV_HAS_IPV6, "ipv6"},
	{PRIV_HAS_NFT_LOG, "nft_log"},
};

static const struct json_field info_fields[] = {
	{"version", JSON_FIELD_STRING, .doc = "of this daemon"},
	{"qemu_version", JSON_FIELD_STRING, .doc = "of the QEMU that desktops are started with"},
	{"accelerator", JSON_FIELD_STRING, .doc = "kvm or tcg"},
	{"accelerator_reason", JSON_FIELD_STRING, .doc = "why that one"},
	{"rootless", JSON_FIELD_BOOL, .doc = "runs without root: networks are of kind user only"},
	{"features", JSON_FIELD_OBJECT,
	 .doc = "what this host's kernel and programs offer, by name"},
	{"spice_port", JSON_FIELD_INT, .doc = "the TCP port that screens are reached at"},
	{"started_at", JSON_FIELD_TIME, .doc = "when this daemon started"},
	{0},
};

static struct api_token host_info(struct api_call *call, const void *data)
{
	const struct host_info *info = api_call_host(call)->info;
	char started[STR_TIME_MAX];
	str_format_time(info->started_at, started);
	json_t *has = json_object();
	for (size_t i = 0; i < ARRAY_LEN(features); i++)
		json_object_set_new(has, features[i].name,
				    json_boolean(info->features & features[i].bit));
	return api_reply(
		call, json_pack("{s:s, s:s, s:s, s:s, s:b, s:o, s:i, s:s}", "version", VDI_VERSION,
				"qemu_version", info->qemu_version, "accelerator",
				info->accel == QEMU_ACCEL_KVM ? "kvm" : "tcg", "accelerator_reason",
				info->accel_why, "rootless", info->rootless, "features", has,
				"spice_port", info->spice_port, "started_at", started));
}

static struct api_token host_ping(struct api_call *call, const void *data)
{
	return api_reply(call, json_object());
}

static const struct json_field stats_fields[] = {
	{"cpus", JSON_FIELD_INT, .doc = "processors of the host"},
	{"load_1m", JSON_FIELD_ANY, .doc = "load average of the last minute"},
	{"memory_total_bytes", JSON_FIELD_INT, .doc = "memory of the host"},
	{"memory_available_bytes", JSON_FIELD_INT, .doc = "of it not in use"},
	{"store_total_bytes", JSON_FIELD_INT, .doc = "size of the disk of the image store"},
	{"store_free_bytes", JSON_FIELD_INT, .doc = "of it free"},
	{"store_level", JSON_FIELD_STRING,
	 .doc = "ok, low, or critical: then no desktop is started and nothing is imported"},
	{"daemon_memory_bytes", JSON_FIELD_INT, .doc = "memory that this daemon holds"},
	{"desktops", JSON_FIELD_INT, .doc = "how many there are"},
	{"desktops_running", JSON_FIELD_INT, .doc = "and how many of them run"},
	{0},
};

static int64_t meminfo_bytes(const char *text, const char *key)
{
	const char *line = strstr(text, key);
	int64_t kib = 0;
	return line && sscanf(line + strlen(key), ": %" SCNd64, &kib) == 1 ? kib * 1024 : 0;
}

static void count_running(void *data, struct desktop *desktop)
{
	if (desktop_state(desktop) == DESKTOP_RUNNING)
		(*(int64_t *)data)++;
}

static struct api_token host_stats(struct api_call *call, const void *data)
{
	const struct api_host *host = api_call_host(call);
	char text[4096] = "";
	double load[1] = {0};
	int64_t disk_free, disk_total, running = 0;
	struct proc_stat self = {0};
	struct err err;
	_cleanup_close_ int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	if (getloadavg(load, 1) < 0)
		load[0] = 0;
	if (images_disk_free(host->images, &disk_free, &disk_total, &err) < 0 ||
	    proc_stat_read(getpid(), &self, &err) < 0)
		return api_fail(call, &err);
	desktops_each(host->desktops, count_running, &running);
	return api_reply(call, json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I}",
					 "cpus", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN),
					 "load_1m", load[0], "memory_total_bytes",
					 (json_int_t)meminfo_bytes(text, "MemTotal"),
					 "memory_available_bytes",
					 (json_int_t)meminfo_bytes(text, "MemAvailable"),
					 "store_total_bytes", (json_int_t)disk_total,
					 "store_free_bytes", (json_int_t)disk_free, "store_level",
					 images_space_names[images_space(host->images)],
					 "daemon_memory_bytes", (json_int_t)self.rss_bytes,
					 "desktops", (json_int_t)desktops_count(host->desktops),
					 "desktops_running", (json_int_t)running));
}

const struct api_method api_host_methods[] = {
	{"host.ping", API_ROLE_ANYONE, 0, NULL, 0, NULL, host_ping, "Answer, to show life."},
	{"host.info", API_ROLE_OPERATOR, 0, NULL, 0, info_fields, host_info,
	 "Show what this host is and can do."},
	{"host.stats", API_ROLE_OPERATOR, 0, NULL, 0, stats_fields, host_stats,
	 "Show what this host has and uses."},
	{0},
};
