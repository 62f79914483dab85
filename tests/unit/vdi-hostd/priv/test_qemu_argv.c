#include "vdi-hostd/priv/qemu_spec.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "guest.h"
#include "netcfg/tap.h"
#include "vdi-hostd/priv/verbs.h"

static int setup(void **state)
{
	struct guest *guest = mem_new(struct guest);
	guest_setup(guest);
	*state = guest;
	return 0;
}

static int teardown(void **state)
{
	guest_teardown(*state);
	free(*state);
	return 0;
}

static struct verbs *verbs_new(void)
{
	struct verbs *verbs = mem_new(struct verbs);
	verbs->rootless = getuid() != 0;
	verbs->config = (struct priv_config){.uid_base = GUEST_UID_BASE,
					     .qemu_binary = "/usr/bin/qemu-system-x86_64"};
	return verbs;
}

static void start(struct verbs *verbs, const struct guest *guest, struct priv_reply *reply,
		  int *pidfd)
{
	struct err err = {0};
	if (verbs_check(&guest->req, guest->fds, GUEST_FDS, &err) < 0)
		fail_msg("%s", err.msg);
	verbs_run(verbs, &guest->req, guest->fds, reply, pidfd);
	if (reply->err.code)
		fail_msg("%s", reply->err.msg);
}

static void show_log(const struct guest *guest)
{
	char command[256];
	snprintf(command, sizeof(command), "cat %s >&2", guest->log_path);
	if (system(command) != 0)
		fail();
}

static void assert_answer(int qmp, const char *command, const char *expect)
{
	_cleanup_free_ char *answer = guest_qmp(qmp, command);
	if (!strstr(answer, expect))
		fail_msg("%s answered %s", command, answer);
}

static void quit(struct verbs *verbs, const struct priv_reply *spawned, int qmp, int pidfd)
{
	struct priv_reply reply;
	struct priv_request req = {
		.verb = PRIV_REAP,
		.u.process = {.pid = spawned->pid, .start_time = spawned->start_time},
	};
	free(guest_qmp(qmp, "{\"execute\":\"quit\"}\n"));
	close(qmp);
	guest_await_end(pidfd);
	close(pidfd);
	verbs_run(verbs, &req, NULL, &reply, NULL);
	assert_int_equal(reply.err.code, 0);
	assert_true(WIFEXITED(reply.wait_status));
	assert_int_equal(WEXITSTATUS(reply.wait_status), 0);
	verbs_done(verbs);
	free(verbs);
}

static void test_real_qemu(void **state)
{
	const struct guest *guest = *state;
	struct verbs *verbs = verbs_new();
	struct priv_reply reply;
	int pidfd;

	start(verbs, guest, &reply, &pidfd);
	int qmp = guest_qmp_connect(guest);
	show_log(guest);
	assert_answer(qmp, "{\"execute\":\"query-status\"}\n", "\"prelaunch\"");
	assert_answer(qmp, "{\"execute\":\"query-uuid\"}\n",
		      "01020304-0506-0708-090a-0b0c0d0e0f10");
	assert_answer(qmp, "{\"execute\":\"query-name\"}\n", "\"test-desktop\"");
	assert_answer(qmp, "{\"execute\":\"query-spice\"}\n", "\"auth\": \"spice\"");
	assert_answer(qmp, "{\"execute\":\"query-block\"}\n", "\"node-name\": \"top\"");
	assert_answer(qmp, "{\"execute\":\"query-named-block-nodes\"}\n",
		      "\"node-name\": \"base-file\"");
	assert_answer(qmp, "{\"execute\":\"cont\"}\n", "return");
	assert_answer(qmp, "{\"execute\":\"query-status\"}\n", "\"running\"");
	assert_answer(qmp, "{\"execute\":\"query-chardev\"}\n", "\"console\"");
	quit(verbs, &reply, qmp, pidfd);
}

static void test_confined(void **state)
{
	const struct guest *guest = *state;
	struct verbs *verbs = verbs_new();
	struct priv_reply reply;
	int pidfd;
	char uids[64];

	if (getuid() != 0) {
		print_message("not root: no uid of its own to test\n");
		skip();
	}
	start(verbs, guest, &reply, &pidfd);
	int qmp = guest_qmp_connect(guest);
	snprintf(uids, sizeof(uids), "%d\t%d\t%d\t%d", GUEST_UID_BASE + 7, GUEST_UID_BASE + 7,
		 GUEST_UID_BASE + 7, GUEST_UID_BASE + 7);
	assert_string_equal(guest_status(reply.pid, "Uid"), uids);
	assert_string_equal(guest_status(reply.pid, "Gid"), uids);
	assert_string_equal(guest_status(reply.pid, "Groups"), "");
	for (size_t i = 0; i < 5; i++) {
		static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd",
						   "CapAmb"};
		assert_string_equal(guest_status(reply.pid, sets[i]), "0000000000000000");
	}
	assert_string_equal(guest_status(reply.pid, "NoNewPrivs"), "1");
	assert_string_equal(guest_status(reply.pid, "Seccomp"), "2");
	/* a file that only root and this test may read, and one that nobody may make */
	assert_answer(qmp,
		      "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"file\","
		      "\"node-name\":\"x\",\"filename\":\"/etc/shadow\",\"read-only\":true}}\n",
		      "Permission denied");
	assert_answer(qmp, "{\"execute\":\"screendump\",\"arguments\":{\"filename\":\"/etc/x\"}}\n",
		      "Permission denied");
	quit(verbs, &reply, qmp, pidfd);
}

static void test_variants(void **state)
{
	static const uint8_t displays[] = {QEMU_DISPLAY_VIRTIO_VGA, QEMU_DISPLAY_STD};

	for (size_t i = 0; i < ARRAY_LEN(displays); i++) {
		struct verbs *verbs = verbs_new();
		struct priv_reply reply;
		struct guest fresh, *guest = &fresh; /* QEMU removed the last one's sockets */
		struct qemu_spec *spec = &fresh.req.u.qemu;
		int pidfd;
		guest_setup(guest);
		spec->display = displays[i];
		spec->audio = 0;
		spec->usb_redir = i ? 8 : 0;
		spec->n_nics = (uint8_t)i;
		start(verbs, guest, &reply, &pidfd);
		int qmp = guest_qmp_connect(guest);
		assert_answer(qmp, "{\"execute\":\"query-status\"}\n", "\"prelaunch\"");
		quit(verbs, &reply, qmp, pidfd);
		guest_teardown(guest);
	}
}

static void test_missing_binary(void **state)
{
	const struct guest *guest = *state;
	struct verbs *verbs = verbs_new();
	struct priv_reply reply;
	int pidfd = -1;

	strcpy(verbs->config.qemu_binary, "/no/such/qemu");
	verbs_run(verbs, &guest->req, guest->fds, &reply, &pidfd);
	assert_int_equal(reply.err.code, ERR_UNAVAILABLE);
	assert_string_equal(reply.err.msg,
			    "cannot run QEMU at /no/such/qemu: No such file or directory; install "
			    "qemu-system-x86 or set qemu_binary");
	assert_int_equal(reply.n_fds, 0);
	strcpy(verbs->config.qemu_binary, "/etc/passwd");
	verbs_run(verbs, &guest->req, guest->fds, &reply, &pidfd);
	assert_int_equal(reply.err.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(reply.err.msg, "Permission denied"));
	assert_int_equal(verbs->children.n, 0);
	verbs_done(verbs);
	free(verbs);
}

static void assert_refused(const struct qemu_spec *spec, size_t n_fds, const char *field)
{
	struct err err = {0};
	assert_int_equal(qemu_spec_check(spec, n_fds, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(err.field, field);
}

#define REFUSE(change, field)                                                                      \
	do {                                                                                       \
		struct qemu_spec spec = guest->req.u.qemu;                                         \
		change;                                                                            \
		assert_refused(&spec, GUEST_FDS, field);                                           \
	} while (0)

static void test_check(void **state)
{
	const struct guest *guest = *state;
	struct err err;

	assert_int_equal(qemu_spec_check(&guest->req.u.qemu, GUEST_FDS, &err), 0);
	REFUSE(spec.slot = 0, "slot");
	REFUSE(spec.slot = PRIV_SLOT_MAX + 1, "slot");
	REFUSE(spec.memory_mib = 0, "memory_mib");
	REFUSE(spec.memory_mib = UINT32_MAX, "memory_mib");
	REFUSE(spec.vcpus = 0, "vcpus");
	REFUSE(spec.vcpus = 129, "vcpus");
	REFUSE(spec.accel = 0, "accel");
	REFUSE(spec.accel = 3, "accel");
	REFUSE(spec.display = 0, "display");
	REFUSE(spec.display = 4, "display");
	REFUSE(spec.usb_redir = 9, "usb_redir");
	REFUSE(spec.audio = 2, "audio");
	REFUSE(spec.clipboard = 0xff, "clipboard");
	REFUSE(spec.file_transfer = 2, "file_transfer");
	REFUSE(spec.n_disks = QEMU_DISKS_MAX + 1, "n_disks");
	REFUSE(spec.n_nics = QEMU_NICS_MAX + 1, "n_nics");
	REFUSE(strcpy(spec.name, ""), "name");
	REFUSE(strcpy(spec.name, "a,debug-threads=on"), "name");
	REFUSE(memset(spec.name, 'a', sizeof(spec.name)), "name");
	REFUSE(spec.qmp_fd = GUEST_FDS, "qmp_fd");
	REFUSE(spec.agent_fd = spec.qmp_fd, "agent_fd");
	REFUSE(spec.log_fd = 0xff, "log_fd");
	REFUSE(spec.console_fd = GUEST_TOP, "disk");
	REFUSE(spec.disks[0].chain_len = 0, "chain_len");
	REFUSE(spec.disks[0].chain_len = QEMU_CHAIN_MAX + 1, "chain_len");
	REFUSE(spec.disks[0].format[1] = 0, "format");
	REFUSE(spec.disks[0].format[1] = 3, "format");
	REFUSE(spec.disks[0].format[0] = QEMU_FILE_RAW, "format");
	REFUSE(spec.disks[0].fd[1] = GUEST_TOP, "disk");
	REFUSE(spec.disks[0].chain_len = 1, "n_fds");
	REFUSE(strcpy(spec.disks[0].node[0], ""), "node");
	REFUSE(strcpy(spec.disks[0].node[0], "a,b"), "node");
	REFUSE(strcpy(spec.disks[0].node[1], "0a"), "node");
	REFUSE(memset(spec.disks[0].node[1], 'a', QEMU_NODE_MAX + 1), "node");
	REFUSE(spec.cdrom_fd = GUEST_TOP, "cdrom_fd");
	REFUSE(spec.incoming = 2, "incoming");
	REFUSE(spec.nics[0].mac[0] = 1, "mac");
	REFUSE(memset(spec.nics[0].mac, 0, 6), "mac");
	REFUSE(spec.nics[0].queues = QEMU_QUEUES_MAX + 1, "queues");
	REFUSE((spec.nics[0].queues = 1, spec.nics[0].tap_fd[0] = GUEST_FDS), "tap_fd");
	REFUSE(spec.nics[0].vhost = 1, "vhost"); /* without a tap */
	REFUSE((spec.nics[0].queues = 1, spec.nics[0].vhost = 2), "vhost");
	REFUSE(spec.nics[0].link_up = 2, "link_up");
	REFUSE(spec.nics[0].number = QEMU_NICS_MAX, "number");
	REFUSE(spec.nics[0].mtu = 1, "mtu");
	REFUSE(memset(&spec, 0xff, sizeof(spec)), "slot");
	REFUSE(memset(&spec, 0, sizeof(spec)), "slot");
	assert_refused(&guest->req.u.qemu, GUEST_FDS + 1, "n_fds");
	assert_refused(&guest->req.u.qemu, QEMU_FDS_MAX + 1, "n_fds");
	assert_refused(&guest->req.u.qemu, 0, "qmp_fd");
}

/* the most of everything still fits the list */
static void test_largest(void **state)
{
	const struct guest *guest = *state;
	struct qemu_spec spec = guest->req.u.qemu;
	int numbers[QEMU_FDS_MAX];
	struct argv argv;
	struct err err = {0};
	uint8_t next = 4;

	spec.usb_redir = 8;
	spec.n_disks = QEMU_DISKS_MAX;
	spec.n_nics = QEMU_NICS_MAX;
	memset(spec.name, 'a', STR_NAME_MAX);
	for (size_t i = 0; i < QEMU_DISKS_MAX; i++) {
		spec.disks[i] = (struct qemu_disk){.chain_len = QEMU_CHAIN_MAX,
						   .boot_index = (uint8_t)(i + 1)};
		memset(spec.disks[i].format, QEMU_FILE_QCOW2, QEMU_CHAIN_MAX);
		for (size_t k = 0; k < QEMU_CHAIN_MAX; k++) {
			spec.disks[i].fd[k] = next++;
			snprintf(spec.disks[i].node[k], sizeof(spec.disks[i].node[k]), "n%zu%.*zu",
				 i, QEMU_NODE_MAX - 2, k);
		}
	}
	for (size_t i = 0; i < QEMU_NICS_MAX; i++) {
		struct qemu_nic *nic = &spec.nics[i];
		*nic = spec.nics[0];
		nic->number = (uint8_t)i;
		nic->queues = QEMU_QUEUES_MAX;
		nic->vhost = 1;
		for (size_t k = 0; k < QEMU_QUEUES_MAX; k++) {
			nic->tap_fd[k] = next++;
			nic->vhost_fd[k] = next++;
		}
	}
	spec.cdrom_fd = next++;
	spec.cdrom_boot = QEMU_DISKS_MAX + 1;
	spec.incoming = 1;
	for (int i = 0; i < QEMU_FDS_MAX; i++)
		numbers[i] = i + 3;
	assert_int_equal(next, QEMU_FDS_MAX);
	if (qemu_spec_check(&spec, next, &err) < 0)
		fail_msg("%s", err.msg);
	qemu_argv_build(&spec, "/usr/bin/qemu-system-x86_64", numbers, &argv);
	assert_true(argv.n < ARRAY_LEN(argv.arg));
	assert_null(argv.arg[argv.n]);
	argv_done(&argv);

	spec.cdrom_boot = spec.disks[0].boot_index;
	assert_refused(&spec, next, "boot_index");
	spec.cdrom_boot = 0;
	spec.disks[3].boot_index = spec.disks[0].boot_index;
	assert_refused(&spec, next, "boot_index");
}

/* each file names the one below it, and the last says that there is none */
static void test_node_names(void **state)
{
	const struct guest *guest = *state;
	const int numbers[] = {3, 4, 5, 6, 7, 8};
	struct argv argv;
	size_t with_backing = 0, without = 0;

	qemu_argv_build(&guest->req.u.qemu, "/usr/bin/qemu", numbers, &argv);
	for (size_t i = 0; i < argv.n; i++) {
		with_backing += strstr(argv.arg[i], "\"backing\":\"base\"") != NULL;
		without += strstr(argv.arg[i], "\"backing\":null") != NULL;
	}
	assert_int_equal(with_backing, 1);
	assert_int_equal(without, 1);
	argv_done(&argv);
}

static void assert_argv(const struct qemu_spec *spec, const char *netdev, const char *queues)
{
	const int numbers[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	struct argv argv;
	size_t found = 0;

	qemu_argv_build(spec, "/usr/bin/qemu", numbers, &argv);
	for (size_t i = 0; i < argv.n; i++) {
		const char *nic = strstr(argv.arg[i], ",bus=nicbus0");
		found += strcmp(argv.arg[i], netdev) == 0;
		found += nic && strcmp(nic, queues) == 0;
	}
	assert_int_equal(found, 2);
	argv_done(&argv);
}

static void test_queues(void **state)
{
	const struct guest *guest = *state;
	struct qemu_spec spec = guest->req.u.qemu;
	struct qemu_nic *nic = &spec.nics[0];
	struct err err;

	assert_argv(&spec, "user,id=net0,restrict=off", ",bus=nicbus0");
	nic->queues = 1;
	nic->tap_fd[0] = GUEST_FDS;
	assert_argv(&spec, "tap,id=net0,fds=9,vhost=off", ",bus=nicbus0");
	nic->vhost = 1;
	nic->vhost_fd[0] = GUEST_FDS + 2;
	assert_argv(&spec, "tap,id=net0,fds=9,vhost=on,vhostfds=11", ",bus=nicbus0");
	nic->queues = 2;
	nic->tap_fd[1] = GUEST_FDS + 1;
	nic->vhost_fd[1] = GUEST_FDS + 3;
	nic->mtu = 1400;
	assert_argv(&spec, "tap,id=net0,fds=9:10,vhost=on,vhostfds=11:12",
		    ",bus=nicbus0,host_mtu=1400,mq=on,vectors=6");
	assert_int_equal(qemu_spec_check(&spec, GUEST_FDS + 4, &err), 0);
	nic->vhost_fd[1] = nic->tap_fd[1];
	assert_refused(&spec, GUEST_FDS + 4, "vhost_fd");
}

/* QEMU itself takes them, with and without vhost-net */
static void run_with_queues(const struct guest *guest, bool vhost)
{
	struct verbs *verbs = verbs_new();
	struct guest with = *guest;
	struct qemu_nic *nic = &with.req.u.qemu.nics[0];
	int fds[GUEST_FDS + 4], pidfd;
	const size_t n = GUEST_FDS + (vhost ? 4 : 2);
	struct priv_reply reply;
	struct err err;

	memcpy(fds, guest->fds, sizeof(guest->fds));
	nic->queues = 2;
	nic->vhost = vhost;
	for (uint8_t i = 0; i < 2; i++) {
		struct ifreq req = {.ifr_name = "mq0",
				    .ifr_flags =
					    IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
		nic->tap_fd[i] = (uint8_t)(GUEST_FDS + i);
		nic->vhost_fd[i] = (uint8_t)(GUEST_FDS + 2 + i);
		fds[nic->tap_fd[i]] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		assert_int_equal(ioctl(fds[nic->tap_fd[i]], TUNSETIFF, &req), 0);
	}
	if (vhost)
		assert_int_equal(netcfg_vhost_open(2, fds + GUEST_FDS + 2, &err), 0);
	with.req.n_fds = (uint32_t)n;
	if (verbs_check(&with.req, fds, n, &err) < 0)
		fail_msg("%s", err.msg);
	verbs_run(verbs, &with.req, fds, &reply, &pidfd);
	assert_int_equal(reply.err.code, 0);
	int qmp = guest_qmp_connect(guest);
	show_log(guest);
	assert_answer(qmp,
		      "{\"execute\":\"qom-get\",\"arguments\":{\"path\":"
		      "\"/machine/peripheral/nic0\",\"property\":\"vectors\"}}\n",
		      "\"return\": 6");
	assert_answer(qmp, "{\"execute\":\"cont\"}\n", "return");
	quit(verbs, &reply, qmp, pidfd);
	for (size_t i = GUEST_FDS; i < n; i++)
		close(fds[i]);
}

/* in a network of their own, which the process keeps */
static void test_real_queues(void **state)
{
	if (getuid() != 0 || unshare(CLONE_NEWNET) < 0) {
		print_message("no network of its own to be had\n");
		skip();
	}
	run_with_queues(*state, false);
}

static void test_real_vhost(void **state)
{
	if (getuid() != 0 || access("/dev/vhost-net", F_OK) < 0) {
		print_message("this kernel has no vhost-net\n");
		skip();
	}
	run_with_queues(*state, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_real_qemu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_confined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_variants, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_binary, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check, setup, teardown),
		cmocka_unit_test_setup_teardown(test_largest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queues, setup, teardown),
		cmocka_unit_test_setup_teardown(test_real_queues, setup, teardown),
		cmocka_unit_test_setup_teardown(test_real_vhost, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
