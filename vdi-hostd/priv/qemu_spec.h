/*
 * What a desktop's QEMU is made of, in plain typed fields: the privileged half builds the command
 * line from this and from nothing else. Fixed size, no pointers; it crosses a process boundary.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QEMU_DISKS_MAX  4
#define QEMU_CHAIN_MAX  16 /* files in one backing chain */
#define QEMU_NICS_MAX   8
#define QEMU_QUEUES_MAX 8    /* of a NIC */
#define QEMU_NODE_MAX   26   /* QEMU takes 31, and "-file" is appended */
#define QEMU_NO_MEDIUM  0xff /* in place of a descriptor: an empty CD drive */
/* sockets and logs, disks, disc, two a queue */
#define QEMU_FDS_MAX (4 + QEMU_DISKS_MAX * QEMU_CHAIN_MAX + 1 + QEMU_NICS_MAX * 2 * QEMU_QUEUES_MAX)
_Static_assert(QEMU_FDS_MAX <= QEMU_NO_MEDIUM, "an index of a descriptor is a byte");

enum qemu_accel { QEMU_ACCEL_TCG = 1, QEMU_ACCEL_KVM };
enum qemu_display { QEMU_DISPLAY_QXL = 1, QEMU_DISPLAY_VIRTIO_VGA, QEMU_DISPLAY_STD };
enum qemu_file_format { QEMU_FILE_QCOW2 = 1, QEMU_FILE_RAW };

/* interrupts of a NIC of several queues: one each way, one for changes, one for commands */
#define QEMU_NIC_VECTORS(queues) (2u * (queues) + 2)

/**
 * struct qemu_disk - a virtio disk: its chain from the top (written to) down to the base
 * @fd: for each file the index in the request's descriptor list; the top is open O_RDWR, the rest
 *      O_RDONLY (QEMU takes a descriptor only with the very access mode that it asks for)
 *
 * @node: what each file is called in QEMU: a letter, then [a-z0-9]; its protocol layer is
 *        NODE-file. Files keep their names while layers come and go above and below them.
 *
 * Disk D is device `diskD`.
 */
struct qemu_disk {
	uint8_t chain_len;
	uint8_t format[QEMU_CHAIN_MAX]; /* enum qemu_file_format */
	uint8_t fd[QEMU_CHAIN_MAX];
	char node[QEMU_CHAIN_MAX][QEMU_NODE_MAX + 1];
	uint8_t boot_index; /* 0: not bootable */
};

/**
 * struct qemu_nic - a virtio NIC
 * @queues: of its tap; 0: QEMU's user-mode network instead (kind `user`)
 * @vhost:  bool: the kernel moves its packets
 * @tap_fd, @vhost_fd: for each queue the index in the descriptor list
 * @number: its place on the guest's bus, 0..QEMU_NICS_MAX - 1; kept while others come and go
 * @mtu: what the guest is told, or 0
 * @link_up: the command line cannot say it: 0 asks the caller for set_link before the guest runs
 *
 * NIC number N is device `nicN` on netdev `netN`, behind root port `nicbusN`.
 */
struct qemu_nic {
	uint8_t number;
	uint8_t mac[6];
	uint16_t mtu;
	uint8_t queues, vhost;
	uint8_t tap_fd[QEMU_QUEUES_MAX], vhost_fd[QEMU_QUEUES_MAX];
	uint8_t link_up;
};

/**
 * struct qemu_spec - one desktop
 *
 * The descriptors: [qmp_fd] the listening QMP socket, [agent_fd] the listening socket of the guest
 * agent, [log_fd] QEMU's stderr, [console_fd] the serial console's log (both regular files open
 * O_WRONLY | O_APPEND), then those of disks and NICs. Indexes are into the list sent along with the
 * request; each is used exactly once. QEMU removes the paths of its sockets as it ends, where it
 * may (in rootless mode).
 *
 * @cdrom_fd: index of an ISO image open O_RDONLY (node `medium0` on `medium0-file`), or
 *            QEMU_NO_MEDIUM; the drive is there in either case, as device `cdrom0`
 * @cdrom_boot: place in the boot order as of disks, 0: not bootable
 * @incoming: wait for migrate-incoming instead of being a machine that was just switched on
 *
 * Fixed ids: device `video`, chardevs `qmp` `agent` `console` `vdagent` `usbredirN`, devices
 * `usbN`, `balloon`, root ports `nicbus0` to `nicbus7`, each with its NIC or empty, and spare ones
 * `spare0` to `spare3` for what is plugged in later.
 */
struct qemu_spec {
	uint32_t slot;
	uint8_t uuid[16];
	char name[64]; /* str_is_name(): shown in the process list and by SPICE */
	uint32_t memory_mib;
	uint16_t vcpus;
	uint8_t accel;         /* enum qemu_accel */
	uint8_t display;       /* enum qemu_display */
	uint8_t usb_redir;     /* channels, 0..8 */
	uint8_t audio;         /* bool */
	uint8_t clipboard;     /* bool: copy and paste through the vdagent */
	uint8_t file_transfer; /* bool */
	uint8_t cdrom_fd, cdrom_boot;
	uint8_t incoming; /* bool */
	uint8_t n_disks, n_nics;
	uint8_t qmp_fd, agent_fd, log_fd, console_fd;
	struct qemu_disk disks[QEMU_DISKS_MAX];
	struct qemu_nic nics[QEMU_NICS_MAX];
};

/**
 * qemu_spec_check() - is every field in its range, every index inside @n_fds and used once?
 * Errors: ERR_INVALID
 */
int qemu_spec_check(const struct qemu_spec *spec, size_t n_fds, struct err *err) warn_unused;

/** struct argv - a bounded argument list that owns its strings */
struct argv {
	char *arg[640]; /* ends with NULL */
	size_t n;
};

/** argv_push() - append one argument; too many is a fault of our own and ends the process */
void argv_push(struct argv *argv, const char *fmt, ...) printf_like(2, 3);

/**
 * qemu_argv_build() - the command line for a spec that passed qemu_spec_check()
 * @fds: the numbers that the descriptors will have in the new process, by index
 */
void qemu_argv_build(const struct qemu_spec *spec, const char *binary, const int *fds,
		     struct argv *ret);

void argv_done(struct argv *argv);
