/* What desktops stand on, in place of priv/, image/ and network/; see bench.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"
#include "vdi-hostd/image/quota.h"

static struct bench *bench_of(const void *part)
{
	return (struct bench *)(uintptr_t)part;
}

struct bench_answer {
	struct bench *bench;
	struct priv_request req;
	int qmp_fd;
	priv_reply_cb cb;
	void *data;
	uv_timer_t timer;
	struct bench_answer *next;
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void give_tap(struct bench *bench, uint32_t queues, struct priv_reply *reply, int *fds)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	if (bench->tap_end >= 0)
		close(bench->tap_end);
	bench->tap_end = ends[0];
	reply->queues = queues;
	reply->n_fds = bench->has_vhost ? 2 * queues : queues;
	reply->vhost_sys = bench->vhost_sys;
	for (size_t i = 0; i < reply->n_fds; i++)
		fds[i] = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
	close(ends[1]);
}

static void format_uuid(const uint8_t *u, char *ret)
{
	snprintf(ret, STR_UUID_LEN + 1,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
}

pid_t bench_spawn(struct bench *bench, const char *id)
{
	int ready[2];
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		dup2(ready[1], 1);
		execl("/bin/sh", "sh", "-c", "echo; kill -STOP $$", "qemu", "-uuid", id,
		      (char *)NULL);
		_exit(127);
	}
	close(ready[1]);
	char byte;
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_true(bench->n_pids < BENCH_PROCESS);
	bench->pids[bench->n_pids++] = pid;
	return pid;
}

static int spawn(struct bench_answer *answer, struct priv_reply *reply)
{
	struct bench *bench = answer->bench;
	struct err err;
	format_uuid(answer->req.u.qemu.uuid, bench->id);
	reply->pid = bench_spawn(bench, bench->id);
	assert_int_equal(proc_start_time(reply->pid, &reply->start_time, &err), 0);
	bench->guest_runs = false;
	bench_listen(bench, TAKE_FD(answer->qmp_fd));
	if (bench->unwatchable)
		return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return (int)syscall(SYS_pidfd_open, reply->pid, 0);
}

static void reap(struct bench_answer *answer, struct priv_reply *reply)
{
	int status;
	if (waitpid(answer->req.u.process.pid, &status, WNOHANG) > 0)
		reply->wait_status = status;
}

static void perform(uv_timer_t *timer)
{
	struct bench_answer *answer = timer->data;
	struct bench *bench = answer->bench;
	struct priv_reply reply = {.wait_status = -1};
	int fds[2 * QEMU_QUEUES_MAX];
	if (answer->req.verb == bench->fail)
		err_set(&reply.err, ERR_IO, "told to fail");
	else if (answer->req.verb == PRIV_TAP_CREATE)
		give_tap(bench, answer->req.u.tap.queues, &reply, fds);
	else if (answer->req.verb == PRIV_QEMU_SPAWN)
		fds[reply.n_fds++] = spawn(answer, &reply);
	else if (answer->req.verb == PRIV_QEMU_SIGNAL && !bench->immortal)
		kill(answer->req.u.process.pid, answer->req.u.process.sig);
	else if (answer->req.verb == PRIV_REAP)
		reap(answer, &reply);
	for (struct bench_answer **at = &bench->answers; *at; at = &(*at)->next) {
		if (*at != answer)
			continue;
		*at = answer->next;
		break;
	}
	if (answer->cb)
		answer->cb(answer->data, &reply, fds, reply.err.code ? &reply.err : NULL);
	for (size_t i = 0; i < reply.n_fds; i++)
		mem_closep(&fds[i]);
	mem_closep(&answer->qmp_fd);
	uv_close((uv_handle_t *)timer, on_closed);
}

void priv_call(struct priv *priv, const struct priv_request *req, const int *fds, size_t n_fds,
	       priv_reply_cb cb, void *data)
{
	struct bench *bench = bench_of(priv);
	struct bench_answer *answer = mem_new(struct bench_answer);
	answer->bench = bench;
	answer->req = *req;
	answer->cb = cb;
	answer->data = data;
	answer->qmp_fd = -1;
	bench->calls[req->verb]++;
	if (req->verb == PRIV_TAP_ATTACH)
		bench->tap = req->u.tap;
	if (req->verb == PRIV_QEMU_SPAWN) {
		struct err err;
		if (qemu_spec_check(&req->u.qemu, n_fds, &err) < 0)
			fail_msg("%s", err.msg);
		answer->qmp_fd = fcntl(fds[req->u.qemu.qmp_fd], F_DUPFD_CLOEXEC, 3);
		bench->spec = req->u.qemu;
	}
	uv_timer_init(&bench->loop, &answer->timer);
	answer->timer.data = answer;
	answer->next = bench->answers;
	bench->answers = answer;
	if (req->verb != bench->hold)
		uv_timer_start(&answer->timer, perform, 0, 0);
}

void bench_release(struct bench *bench)
{
	bench->hold = 0;
	for (struct bench_answer *answer = bench->answers; answer; answer = answer->next)
		if (!uv_is_active((uv_handle_t *)&answer->timer))
			uv_timer_start(&answer->timer, perform, 0, 0);
}

/* As the wire's end does it: after the desktops are gone. */
void priv_close(struct priv *priv)
{
	struct bench *bench = bench_of(priv);
	struct priv_reply reply = {.wait_status = -1};
	struct err err;
	err_set(&err, ERR_CANCELLED, "the wire is closed");
	while (bench->answers) {
		struct bench_answer *answer = bench->answers;
		bench->answers = answer->next;
		if (answer->cb)
			answer->cb(answer->data, &reply, NULL, &err);
		mem_closep(&answer->qmp_fd);
		uv_close((uv_handle_t *)&answer->timer, on_closed);
	}
}

bool priv_is_rootless(const struct priv *priv)
{
	return false;
}

static const struct db_image image = {
	.id = BENCH_IMAGE,
	.name = "img",
	.version = 1,
	.state = DB_IMAGE_PUBLISHED,
	.file = "img.qcow2",
	.virtual_size = 1 << 20,
};

static const struct db_image next_image = {
	.id = BENCH_NEXT_IMAGE,
	.name = "img",
	.version = 2,
	.state = DB_IMAGE_DRAFT,
	.file = "next.qcow2",
	.virtual_size = 2 << 20,
};

const struct db_image *images_find(struct images *images, const char *ref, struct err *err)
{
	if (strcmp(ref, next_image.id) == 0)
		return &next_image;
	if (strcmp(ref, image.id) == 0 || strcmp(ref, image.name) == 0)
		return &image;
	err_set(err, ERR_NOT_FOUND, "there is no image '%s'", ref);
	return NULL;
}

int images_overlay_create(struct images *images, const struct db_image *base, const char *file,
			  int64_t virtual_size, struct err *err)
{
	struct bench *bench = bench_of(images);
	if (bench->fail_overlay)
		return err_set(err, ERR_LIMIT, "the store is full");
	bench->made++;
	bench->overlays++;
	return 0;
}

int images_refuse_broken(struct images *images, const struct db_image *row, struct err *err)
{
	return 0;
}

int images_quota_charge_check(struct images *images, const char *owner, int64_t extra_bytes,
			      struct err *err)
{
	if (strcmp(owner, "full") != 0)
		return 0;
	return err_set(err, ERR_LIMIT, "'full' has %lld bytes too many", (long long)extra_bytes);
}

int images_overlay_renew(struct images *images, const struct db_image *base, const char *file,
			 int64_t virtual_size, struct err *err)
{
	return images_overlay_create(images, base, file, virtual_size, err);
}

int images_overlay_delete(struct images *images, const char *file, struct err *err)
{
	struct bench *bench = bench_of(images);
	if (bench->fail_overlay_delete)
		return err_set(err, ERR_IO, "the store is broken");
	if (bench->overlays > 0)
		bench->overlays--;
	return 0;
}

int images_overlay_allocated(struct images *images, const char *file, int64_t *ret, struct err *err)
{
	*ret = 4096;
	return 0;
}

int images_disk_free(struct images *images, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	*ret_free = bench_of(images)->room;
	*ret_total = 1 << 30;
	return 0;
}

int images_space_check(struct images *images, const char *what, struct err *err)
{
	if (!bench_of(images)->no_space)
		return 0;
	return err_set(err, ERR_LIMIT, "%s: no space", what);
}

void images_layer_file(const char *desktop_id, char ret[96])
{
	snprintf(ret, 96, "%s-01234567.qcow2", desktop_id);
}

int images_overlay_adopt(struct images *images, const char *file, const char *made, struct err *err)
{
	return err_set(err, ERR_UNSUPPORTED, "nothing to adopt");
}

int images_layer_create(struct images *images, const char *file, const char *below,
			int64_t virtual_size, struct err *err)
{
	bench_of(images)->overlays++;
	return 0;
}

int images_chain_open(struct images *images, const char *file, const char *image_id,
		      struct image_layer *ret, size_t *ret_n, struct err *err)
{
	if (bench_of(images)->fail_chain)
		return err_set(err, ERR_CORRUPT, "the disk is damaged");
	for (int i = 0; i < 2; i++) {
		ret[i] = (struct image_layer){.fd = open("/dev/null", O_RDWR | O_CLOEXEC)};
		snprintf(ret[i].node, sizeof(ret[i].node), "n%d", i);
	}
	*ret_n = 2;
	return 0;
}

static const struct db_iso discs[] = {
	{.id = BENCH_DISC, .name = "disc", .state = DB_ISO_READY, .file = "disc.iso"},
	{.id = BENCH_OTHER_DISC, .name = "other", .state = DB_ISO_READY, .file = "other.iso"},
	{.id = BENCH_HALF_DISC, .name = "half", .state = DB_ISO_IMPORTING, .file = "half.iso"},
};

const struct db_iso *isos_find(struct images *images, const char *ref, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(discs); i++)
		if (strcmp(ref, discs[i].id) == 0 || strcmp(ref, discs[i].name) == 0)
			return &discs[i];
	err_set(err, ERR_NOT_FOUND, "there is no ISO '%s'", ref);
	return NULL;
}

int isos_refuse_importing(const struct db_iso *row, struct err *err)
{
	return row->state == DB_ISO_READY ? 0 : err_set(err, ERR_BUSY, "not yet");
}

int isos_open(struct images *images, const char *iso_id, int *ret_fd, struct err *err)
{
	if (bench_of(images)->fail_disc)
		return err_set(err, ERR_NOT_FOUND, "the disc is lost");
	*ret_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

int images_layers(struct images *images, const char *file, struct image_layer *ret, size_t *ret_n,
		  struct err *err)
{
	*ret_n = 1;
	ret[0] = (struct image_layer){.fd = -1};
	snprintf(ret[0].file, sizeof(ret[0].file), "%s", file);
	return 0;
}

static const struct db_network networks[] = {
	{.id = BENCH_NAT,
	 .name = "nat",
	 .kind = DB_NETWORK_NAT,
	 .slot = 1,
	 .address = 0x0a500001,
	 .prefix = 24},
	{.id = BENCH_USER, .name = "user", .kind = DB_NETWORK_USER, .slot = 2},
	{.id = BENCH_OFFICE,
	 .name = "office",
	 .kind = DB_NETWORK_BRIDGED,
	 .slot = 3,
	 .uplink = "br0",
	 .source_guard = true},
	{.id = BENCH_LAB,
	 .name = "lab",
	 .kind = DB_NETWORK_BRIDGED,
	 .slot = 4,
	 .uplink = "br0",
	 .source_guard = true},
	{.id = BENCH_FAR,
	 .name = "far",
	 .kind = DB_NETWORK_BRIDGED,
	 .slot = 5,
	 .uplink = "br0",
	 .vlan = 7,
	 .source_guard = true},
	{.id = BENCH_OPEN, .name = "open", .kind = DB_NETWORK_BRIDGED, .slot = 6, .uplink = "br1"},
};

const struct db_network *networks_find(struct networks *all, const char *ref, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(networks); i++)
		if (strcmp(ref, networks[i].id) == 0 || strcmp(ref, networks[i].name) == 0)
			return &networks[i];
	err_set(err, ERR_NOT_FOUND, "there is no network '%s'", ref);
	return NULL;
}

int networks_read_groups(struct networks *all, const json_t *names, struct db_nic_groups *ret,
			 struct err *err)
{
	return 0;
}

int networks_fit_groups(struct networks *all, const struct db_network *network,
			const struct db_nic_groups *groups, struct err *err)
{
	return 0;
}

const struct db_firewall_group *networks_find_group(struct networks *all, const char *ref,
						    struct err *err)
{
	return NULL;
}

int networks_parse_mac(const char *text, uint8_t ret[6])
{
	memset(ret, 2, 6);
	return 0;
}

int networks_tap_request(struct networks *all, const struct db_network *network,
			 const struct network_tap *tap, enum priv_verb verb,
			 struct priv_request *ret, struct err *err)
{
	*ret = (struct priv_request){.verb = verb};
	ret->u.tap.desktop = tap->desktop;
	ret->u.tap.network = (uint32_t)network->slot;
	ret->u.tap.queues = (uint8_t)tap->queues;
	ret->u.tap.address = htonl(tap->ip);
	return 0;
}

int networks_hosts_changed(struct networks *all, const char *network_id, struct err *err)
{
	bench_of(all)->hosts_changes++;
	return bench_of(all)->fail_hosts ? err_set(err, ERR_IO, "no list today") : 0;
}

int networks_pick_address(struct networks *all, const struct db_network *network, const char *name,
			  uint32_t *ret, struct err *err)
{
	*ret = network->address + 1 + (uint32_t)bench_of(all)->overlays;
	return 0;
}

void bench_insert_parts(struct db *db)
{
	struct err err;
	if (db_image_insert(db, &image, &err) < 0 || db_image_insert(db, &next_image, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < ARRAY_LEN(discs); i++)
		if (db_iso_insert(db, &discs[i], &err) < 0)
			fail_msg("%s", err.msg);
	for (size_t i = 0; i < ARRAY_LEN(networks); i++)
		if (db_network_insert(db, &networks[i], &err) < 0)
			fail_msg("%s", err.msg);
}
