#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "vdi-hostd/desktop/private.h"
#include "vdi-hostd/image/iso.h"

/* places in the boot order */
enum { BOOT_FIRST = 1, BOOT_DISK, BOOT_LAST };

/* A listening socket that QEMU inherits: one may connect before QEMU is up, and again after a
 * restart. */
static int listen_at(const struct desktop *desktop, enum desktop_file file, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (desktop_path(desktop, file, addr.sun_path, sizeof(addr.sun_path), err) < 0)
		return -1;
	unlink(addr.sun_path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot listen at %s",
				   addr.sun_path);
	return TAKE_FD(fd);
}

/* QEMU's own log begins anew with each start: its end is the last words of this one. */
static int open_log(const struct desktop *desktop, enum desktop_file file, struct err *err)
{
	char path[256];
	if (desktop_path(desktop, file, path, sizeof(path), err) < 0)
		return -1;
	int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
	if (file == DESKTOP_QEMU_LOG)
		flags |= O_TRUNC;
	int fd = open(path, flags, 0600);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot open %s", path);
	return fd;
}

void desktop_spec_close(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(TAKE_FD(fds[i]));
}

static uint8_t add_fd(int *fds, size_t *n, int fd)
{
	fds[*n] = fd;
	return (uint8_t)(*n)++;
}

static int add_disk(struct desktop *desktop, unsigned int index, struct qemu_spec *spec, int *fds,
		    size_t *n, struct err *err)
{
	const struct db_disk *row = &desktop->row.disks[index];
	const char *image_id = index == DB_DISK_SYSTEM ? desktop->row.image_id : "";
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t len = 0;
	if (row->file[0] == '\0')
		return 0;
	if (images_chain_open(desktop->all->env.images, row->file, image_id, layers, &len, err) < 0)
		return -1;
	struct qemu_disk *disk = &spec->disks[spec->n_disks++];
	for (size_t i = 0; i < len; i++) {
		disk->format[i] = QEMU_FILE_QCOW2;
		disk->fd[i] = add_fd(fds, n, layers[i].fd);
		memcpy(disk->node[i], layers[i].node, sizeof(disk->node[i]));
	}
	disk->chain_len = (uint8_t)len;
	disk->boot_index = index == DB_DISK_SYSTEM ? BOOT_DISK : 0;
	return 0;
}

static int add_disks(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *n,
		     struct err *err)
{
	const struct desktop_keeper *keeper = &desktop->all->keeper;
	if (keeper->settle && keeper->settle(keeper->data, desktop, err) < 0)
		return -1;
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (add_disk(desktop, i, spec, fds, n, err) < 0)
			return -1;
	return 0;
}

static int add_disc(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *n,
		    struct err *err)
{
	int fd = -1;
	if (desktop->row.iso_id[0] == '\0')
		return 0;
	if (isos_open(desktop->all->env.images, desktop->row.iso_id, &fd, err) < 0)
		return err_prefix(err, "the disc in the drive; eject it, or import it again");
	spec->cdrom_fd = add_fd(fds, n, fd);
	return 0;
}

static void add_tap(struct tap *tap, struct qemu_nic *to, int *fds, size_t *n)
{
	to->queues = (uint8_t)tap->queues;
	to->vhost = tap->vhost;
	for (size_t i = 0; i < tap->queues; i++)
		to->tap_fd[i] = add_fd(fds, n, tap->fd[i]);
	for (size_t i = 0; tap->vhost && i < tap->queues; i++)
		to->vhost_fd[i] = add_fd(fds, n, tap->fd[tap->queues + i]);
	*tap = (struct tap){0};
}

static void add_nics(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *n)
{
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));) {
		const struct db_network *network = desktop_nic_network(desktop, nic);
		struct qemu_nic *to = &spec->nics[spec->n_nics++];
		(void)!networks_parse_mac(nic->row.mac, to->mac);
		to->number = (uint8_t)nic->row.number;
		to->link_up = nic->row.link_up;
		to->mtu = network ? (uint16_t)network->mtu : 0;
		add_tap(&nic->tap, to, fds, n);
	}
}

static void parse_uuid(const char *text, uint8_t ret[16])
{
	size_t n = 0;
	for (const char *c = text; *c && n < 16;) {
		unsigned int byte;
		if (*c == '-') {
			c++;
			continue;
		}
		if (sscanf(c, "%2x", &byte) != 1)
			return;
		ret[n++] = (uint8_t)byte;
		c += 2;
	}
}

static int open_ends(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *n,
		     struct err *err)
{
	static const enum desktop_file files[] = {DESKTOP_QMP_SOCKET, DESKTOP_AGENT_SOCKET,
						  DESKTOP_QEMU_LOG, DESKTOP_CONSOLE_LOG};
	uint8_t *const index[] = {&spec->qmp_fd, &spec->agent_fd, &spec->log_fd, &spec->console_fd};
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		bool socket = files[i] == DESKTOP_QMP_SOCKET || files[i] == DESKTOP_AGENT_SOCKET;
		int fd = socket ? listen_at(desktop, files[i], err)
				: open_log(desktop, files[i], err);
		if (fd < 0)
			return -1;
		*index[i] = add_fd(fds, n, fd);
	}
	return 0;
}

int desktop_spec_build(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *ret_n,
		       struct err *err)
{
	const struct db_desktop *row = &desktop->row;
	size_t n = 0;
	*spec = (struct qemu_spec){
		.slot = (uint32_t)row->slot,
		.memory_mib = (uint32_t)row->memory_mib,
		.vcpus = (uint16_t)row->vcpus,
		.accel = (uint8_t)desktop->all->env.accel,
		/* what suits a desktop */
		.display = QEMU_DISPLAY_QXL,
		.usb_redir = 4,
		.audio = 1,
		.clipboard = 1,
		.file_transfer = 1,
		.incoming = desktop->memory_fd >= 0,
		.cdrom_fd = QEMU_NO_MEDIUM,
		.cdrom_boot = row->boot == DB_BOOT_CDROM ? BOOT_FIRST : BOOT_LAST,
	};
	parse_uuid(row->id, spec->uuid);
	snprintf(spec->name, sizeof(spec->name), "%s", row->name);
	if (desktop_make_dirs(desktop, err) < 0 || open_ends(desktop, spec, fds, &n, err) < 0 ||
	    add_disks(desktop, spec, fds, &n, err) < 0 ||
	    add_disc(desktop, spec, fds, &n, err) < 0) {
		desktop_spec_close(fds, n);
		return -1;
	}
	add_nics(desktop, spec, fds, &n);
	*ret_n = n;
	return 0;
}
