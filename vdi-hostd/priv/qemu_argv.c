#include "vdi-hostd/priv/qemu_spec.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/priv/proto.h"

#define MEMORY_MIB_MIN 16
#define MEMORY_MIB_MAX (4u << 20)
#define VCPUS_MAX      128
#define USB_REDIR_MAX  8
#define SPARE_PORTS    4

/*
 * Places on the root bus, so that a device keeps its address (and a guest its interface names)
 * whatever else a desktop has. 0x1f is the chip set's own.
 */
#define SLOT_VIDEO   0x01
#define SLOT_NICS    0x03 /* .. 0x0a */
#define SLOT_DISKS   0x0b /* .. 0x0e */
#define SLOT_XHCI    0x10
#define SLOT_SERIAL  0x11
#define SLOT_BALLOON 0x12
#define SLOT_RNG     0x13
#define SLOT_SPARE   0x14 /* .. 0x17 */
#define SLOT_AUDIO   0x1b

_Static_assert(SLOT_NICS + QEMU_NICS_MAX <= SLOT_DISKS, "NICs run into disks");
_Static_assert(SLOT_DISKS + QEMU_DISKS_MAX <= SLOT_XHCI, "disks run into the USB controller");
_Static_assert(SLOT_SPARE + SPARE_PORTS <= SLOT_AUDIO, "spare ports run into the sound card");

static int use_fd(bool *used, size_t n_fds, uint8_t index, const char *field, struct err *err)
{
	if (index >= n_fds)
		return err_set_field(err, field, "descriptor %u of %zu is not there", index, n_fds);
	if (used[index])
		return err_set_field(err, field, "descriptor %u is used twice", index);
	used[index] = true;
	return 0;
}

static int in_range(uint64_t value, uint64_t min, uint64_t max, const char *field, struct err *err)
{
	if (value >= min && value <= max)
		return 0;
	return err_set_field(err, field, "%s is %llu, not in %llu to %llu", field,
			     (unsigned long long)value, (unsigned long long)min,
			     (unsigned long long)max);
}

static int check_scalars(const struct qemu_spec *spec, struct err *err)
{
	const struct {
		const char *field;
		uint64_t value, min, max;
	} rows[] = {
		{"slot", spec->slot, 1, PRIV_SLOT_MAX},
		{"memory_mib", spec->memory_mib, MEMORY_MIB_MIN, MEMORY_MIB_MAX},
		{"vcpus", spec->vcpus, 1, VCPUS_MAX},
		{"accel", spec->accel, QEMU_ACCEL_TCG, QEMU_ACCEL_KVM},
		{"display", spec->display, QEMU_DISPLAY_QXL, QEMU_DISPLAY_STD},
		{"usb_redir", spec->usb_redir, 0, USB_REDIR_MAX},
		{"audio", spec->audio, 0, 1},
		{"clipboard", spec->clipboard, 0, 1},
		{"file_transfer", spec->file_transfer, 0, 1},
		{"incoming", spec->incoming, 0, 1},
		{"n_disks", spec->n_disks, 0, QEMU_DISKS_MAX},
		{"n_nics", spec->n_nics, 0, QEMU_NICS_MAX},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (in_range(rows[i].value, rows[i].min, rows[i].max, rows[i].field, err) < 0)
			return -1;
	if (!memchr(spec->name, '\0', sizeof(spec->name)) || !str_is_name(spec->name))
		return err_set_field(err, "name", "the desktop's name is none");
	return 0;
}

static int check_node(const char *node, struct err *err)
{
	size_t len = strnlen(node, QEMU_NODE_MAX + 1);

	if (len == 0 || len > QEMU_NODE_MAX ||
	    strspn(node, "abcdefghijklmnopqrstuvwxyz0123456789") != len || node[0] < 'a')
		return err_set_field(err, "node", "a node's name is none");
	return 0;
}

static int check_disk(const struct qemu_disk *disk, bool *used, size_t n_fds, struct err *err)
{
	if (in_range(disk->chain_len, 1, QEMU_CHAIN_MAX, "chain_len", err) < 0)
		return -1;
	for (size_t level = 0; level < disk->chain_len; level++) {
		if (in_range(disk->format[level], QEMU_FILE_QCOW2, QEMU_FILE_RAW, "format", err) <
		    0)
			return -1;
		if (disk->format[level] == QEMU_FILE_RAW && level + 1u < disk->chain_len)
			return err_set_field(err, "format",
					     "a raw file can only be the base of a chain");
		if (check_node(disk->node[level], err) < 0 ||
		    use_fd(used, n_fds, disk->fd[level], "disk", err) < 0)
			return -1;
	}
	return 0;
}

static int check_boot_order(const struct qemu_spec *spec, struct err *err)
{
	uint8_t order[QEMU_DISKS_MAX + 1] = {spec->cdrom_boot};

	for (size_t i = 0; i < spec->n_disks; i++)
		order[i + 1] = spec->disks[i].boot_index;
	for (size_t i = 0; i <= spec->n_disks; i++)
		for (size_t k = 0; k < i; k++)
			if (order[i] && order[i] == order[k])
				return err_set_field(err, "boot_index",
						     "two drives have boot index %u", order[i]);
	return 0;
}

static int check_nic(const struct qemu_nic *nic, bool *used, size_t n_fds, struct err *err)
{
	static const uint8_t zero[6];
	if ((nic->mac[0] & 1) || memcmp(nic->mac, zero, sizeof(zero)) == 0)
		return err_set_field(err, "mac", "a NIC's address must be a unicast one");
	if (in_range(nic->link_up, 0, 1, "link_up", err) < 0 ||
	    in_range(nic->number, 0, QEMU_NICS_MAX - 1, "number", err) < 0 ||
	    in_range(nic->queues, 0, QEMU_QUEUES_MAX, "queues", err) < 0 ||
	    in_range(nic->vhost, 0, nic->queues > 0, "vhost", err) < 0 ||
	    (nic->mtu && in_range(nic->mtu, PRIV_MTU_MIN, PRIV_MTU_MAX, "mtu", err) < 0))
		return -1;
	for (size_t i = 0; i < nic->queues; i++)
		if (use_fd(used, n_fds, nic->tap_fd[i], "tap_fd", err) < 0 ||
		    (nic->vhost && use_fd(used, n_fds, nic->vhost_fd[i], "vhost_fd", err) < 0))
			return -1;
	return 0;
}

int qemu_spec_check(const struct qemu_spec *spec, size_t n_fds, struct err *err)
{
	bool used[QEMU_FDS_MAX] = {false};
	if (n_fds > QEMU_FDS_MAX)
		return err_set_field(err, "n_fds", "%zu descriptors are over the limit of %d",
				     n_fds, QEMU_FDS_MAX);
	if (check_scalars(spec, err) < 0)
		return -1;
	if (use_fd(used, n_fds, spec->qmp_fd, "qmp_fd", err) < 0 ||
	    use_fd(used, n_fds, spec->agent_fd, "agent_fd", err) < 0 ||
	    use_fd(used, n_fds, spec->log_fd, "log_fd", err) < 0 ||
	    use_fd(used, n_fds, spec->console_fd, "console_fd", err) < 0)
		return -1;
	for (size_t i = 0; i < spec->n_disks; i++)
		if (check_disk(&spec->disks[i], used, n_fds, err) < 0)
			return -1;
	if (spec->cdrom_fd != QEMU_NO_MEDIUM &&
	    use_fd(used, n_fds, spec->cdrom_fd, "cdrom_fd", err) < 0)
		return -1;
	for (size_t i = 0; i < spec->n_nics; i++)
		if (check_nic(&spec->nics[i], used, n_fds, err) < 0 ||
		    (i > 0 && in_range(spec->nics[i].number, spec->nics[i - 1].number + 1u,
				       QEMU_NICS_MAX - 1, "number", err) < 0))
			return -1;
	for (size_t i = 0; i < n_fds; i++)
		if (!used[i])
			return err_set_field(err, "n_fds", "descriptor %zu is used by nothing", i);
	return check_boot_order(spec, err);
}

void argv_push(struct argv *argv, const char *fmt, ...)
{
	assert(argv->n + 1 < ARRAY_LEN(argv->arg));
	va_list args;
	va_start(args, fmt);
	if (vasprintf(&argv->arg[argv->n], fmt, args) < 0)
		abort();
	va_end(args);
	argv->arg[++argv->n] = NULL;
}

static void push_words(struct argv *argv, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		argv_push(argv, "%s", words[i]);
}

static const char *on_off(bool on)
{
	return on ? "on" : "off";
}

static void push_machine(const struct qemu_spec *spec, struct argv *argv)
{
	static const char *const start[] = {"-no-user-config", "-nodefaults", "-S"};
	static const char *const rest[] = {
		"-display",
		"none",
		"-rtc",
		"base=utc,driftfix=slew",
		"-boot",
		"menu=off,strict=on",
		"-msg",
		"timestamp=on",
		"-sandbox",
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	};
	const bool kvm = spec->accel == QEMU_ACCEL_KVM;
	const uint8_t *u = spec->uuid;

	push_words(argv, start, ARRAY_LEN(start));
	argv_push(argv, "-name");
	argv_push(argv, "guest=%s,process=vdi-%s", spec->name, spec->name);
	argv_push(argv, "-machine");
	argv_push(argv, "q35,accel=%s,usb=off,vmport=off,dump-guest-core=off", kvm ? "kvm" : "tcg");
	argv_push(argv, "-uuid");
	argv_push(argv, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		  u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		  u[13], u[14], u[15]);
	argv_push(argv, "-cpu");
	argv_push(argv, kvm ? "host" : "max");
	argv_push(argv, "-m");
	argv_push(argv, "size=%uM", spec->memory_mib);
	argv_push(argv, "-smp");
	argv_push(argv, "cpus=%u,sockets=1,cores=%u,threads=1", spec->vcpus, spec->vcpus);
	push_words(argv, rest, ARRAY_LEN(rest));
}

static void push_device(struct argv *argv, const char *device, unsigned int slot)
{
	argv_push(argv, "-device");
	argv_push(argv, "%s,bus=pcie.0,addr=0x%02x", device, slot);
}

static void push_screen(const struct qemu_spec *spec, struct argv *argv)
{
	/*
	 * port=0: SPICE without any listener; viewers come by add_client. Ticketing stays on, and
	 * nobody gets in before a password was set.
	 */
	argv_push(argv, "-spice");
	argv_push(argv,
		  "port=0,disable-copy-paste=%s,disable-agent-file-xfer=%s,"
		  "seamless-migration=on,image-compression=auto_glz,streaming-video=filter",
		  on_off(!spec->clipboard), on_off(!spec->file_transfer));
	switch ((enum qemu_display)spec->display) {
	case QEMU_DISPLAY_QXL:
		push_device(argv,
			    "qxl-vga,id=video,ram_size_mb=64,vram_size_mb=16,vram64_size_mb=16,"
			    "vgamem_mb=16",
			    SLOT_VIDEO);
		break;
	case QEMU_DISPLAY_VIRTIO_VGA:
		push_device(argv, "virtio-vga,id=video,romfile=", SLOT_VIDEO);
		break;
	case QEMU_DISPLAY_STD:
		push_device(argv, "VGA,id=video,vgamem_mb=16", SLOT_VIDEO);
		break;
	}
	if (!spec->audio)
		return;
	argv_push(argv, "-audiodev");
	argv_push(argv, "spice,id=audio");
	push_device(argv, "ich9-intel-hda,id=hda", SLOT_AUDIO);
	argv_push(argv, "-device");
	argv_push(argv, "hda-duplex,id=sound,bus=hda.0,audiodev=audio");
}

static void push_channels(const struct qemu_spec *spec, const int *fds, struct argv *argv)
{
	argv_push(argv, "-chardev");
	argv_push(argv, "socket,id=qmp,fd=%d,server=on,wait=off", fds[spec->qmp_fd]);
	argv_push(argv, "-mon");
	argv_push(argv, "chardev=qmp,mode=control");

	/* the descriptor set's number is the descriptor's */
	argv_push(argv, "-add-fd");
	argv_push(argv, "fd=%d,set=%d", fds[spec->console_fd], fds[spec->console_fd]);
	argv_push(argv, "-chardev");
	argv_push(argv, "file,id=console,path=/dev/fdset/%d,append=on", fds[spec->console_fd]);
	argv_push(argv, "-serial");
	argv_push(argv, "chardev:console");

	push_device(argv, "virtio-serial-pci,id=vserial", SLOT_SERIAL);
	argv_push(argv, "-chardev");
	argv_push(argv, "spicevmc,id=vdagent,name=vdagent");
	argv_push(argv, "-device");
	argv_push(argv, "virtserialport,bus=vserial.0,chardev=vdagent,name=com.redhat.spice.0");
	argv_push(argv, "-chardev");
	argv_push(argv, "socket,id=agent,fd=%d,server=on,wait=off", fds[spec->agent_fd]);
	argv_push(argv, "-device");
	argv_push(argv, "virtserialport,bus=vserial.0,chardev=agent,name=org.qemu.guest_agent.0");
}

static void push_usb(const struct qemu_spec *spec, struct argv *argv)
{
	/* a port for the tablet and one for each redirected device, at either speed */
	push_device(argv, "qemu-xhci,id=xhci,p2=10,p3=10", SLOT_XHCI);
	argv_push(argv, "-device");
	argv_push(argv, "usb-tablet,id=tablet,bus=xhci.0");
	for (unsigned int i = 0; i < spec->usb_redir; i++) {
		argv_push(argv, "-chardev");
		argv_push(argv, "spicevmc,id=usbredir%u,name=usbredir", i);
		argv_push(argv, "-device");
		argv_push(argv, "usb-redir,id=usb%u,bus=xhci.0,chardev=usbredir%u", i, i);
	}
}

static void push_file(const struct qemu_disk *disk, size_t level, int fd, struct argv *argv)
{
	static const char *const formats[] = {[QEMU_FILE_QCOW2] = "qcow2", [QEMU_FILE_RAW] = "raw"};
	const char *read_only = level ? "true" : "false", *node = disk->node[level];
	/*
	 * what stands below is read by whoever stands on it, and a merge opens it for writing a
	 * second time, which its own lock on the first descriptor would forbid
	 */
	const char *locking = level ? "off" : "auto";
	char backing[64] = "";

	/* left out, QEMU would open whatever path the header names */
	if (level + 1u < disk->chain_len)
		snprintf(backing, sizeof(backing), ",\"backing\":\"%s\"", disk->node[level + 1]);
	else if (disk->format[level] == QEMU_FILE_QCOW2)
		snprintf(backing, sizeof(backing), ",\"backing\":null");

	argv_push(argv, "-add-fd");
	argv_push(argv, "fd=%d,set=%d", fd, fd);
	argv_push(argv, "-blockdev");
	argv_push(argv,
		  "{\"driver\":\"file\",\"node-name\":\"%s-file\","
		  "\"filename\":\"/dev/fdset/%d\",\"read-only\":%s,\"auto-read-only\":false,"
		  "\"locking\":\"%s\",\"discard\":\"unmap\",\"cache\":{\"direct\":false}}",
		  node, fd, read_only, locking);
	argv_push(argv, "-blockdev");
	argv_push(argv,
		  "{\"driver\":\"%s\",\"node-name\":\"%s\",\"file\":\"%s-file\","
		  "\"read-only\":%s,\"auto-read-only\":false,\"discard\":\"unmap\"%s}",
		  formats[disk->format[level]], node, node, read_only, backing);
}

static void push_disk(const struct qemu_spec *spec, size_t index, const int *fds, struct argv *argv)
{
	const struct qemu_disk *disk = &spec->disks[index];
	char boot[32] = "";

	for (size_t level = disk->chain_len; level-- > 0;)
		push_file(disk, level, fds[disk->fd[level]], argv);
	if (disk->boot_index)
		snprintf(boot, sizeof(boot), ",bootindex=%u", disk->boot_index);
	argv_push(argv, "-device");
	/* a full store pauses the guest instead of showing it errors */
	argv_push(argv,
		  "virtio-blk-pci,id=disk%zu,drive=%s,werror=stop,rerror=stop%s,"
		  "bus=pcie.0,addr=0x%02zx",
		  index, disk->node[0], boot, SLOT_DISKS + index);
}

/* On the chip set's own SATA controller, which every guest can boot from. */
static void push_cdrom(const struct qemu_spec *spec, const int *fds, struct argv *argv)
{
	char drive[32] = "", boot[32] = "";

	if (spec->cdrom_fd != QEMU_NO_MEDIUM) {
		int fd = fds[spec->cdrom_fd];
		argv_push(argv, "-add-fd");
		argv_push(argv, "fd=%d,set=%d", fd, fd);
		argv_push(argv, "-blockdev");
		argv_push(argv,
			  "{\"driver\":\"file\",\"node-name\":\"medium0-file\","
			  "\"filename\":\"/dev/fdset/%d\",\"read-only\":true,"
			  "\"auto-read-only\":false}",
			  fd);
		argv_push(argv, "-blockdev");
		argv_push(argv, "{\"driver\":\"raw\",\"node-name\":\"medium0\","
				"\"file\":\"medium0-file\",\"read-only\":true}");
		snprintf(drive, sizeof(drive), ",drive=medium0");
	}
	if (spec->cdrom_boot)
		snprintf(boot, sizeof(boot), ",bootindex=%u", spec->cdrom_boot);
	argv_push(argv, "-device");
	argv_push(argv, "ide-cd,id=cdrom0,bus=ide.0%s%s", drive, boot);
}

/* A port costs next to nothing, and one that is there at boot can be plugged into later. */
static void push_root_port(struct argv *argv, const char *name, unsigned int number,
			   unsigned int chassis, unsigned int slot)
{
	argv_push(argv, "-device");
	/* there is not enough I/O space for all of them, and virtio needs none */
	argv_push(argv, "pcie-root-port,id=%s%u,chassis=%u,io-reserve=0,bus=pcie.0,addr=0x%02x",
		  name, number, chassis, slot + number);
}

/* struct fd_list - "3:4:5" */
struct fd_list {
	char text[QEMU_QUEUES_MAX * 12];
};

static struct fd_list list_fds(const uint8_t *index, size_t n, const int *fds)
{
	struct fd_list ret = {""};
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(ret.text + len, sizeof(ret.text) - len, "%s%d",
					i ? ":" : "", fds[index[i]]);
	return ret;
}

static void push_netdev(const struct qemu_nic *nic, const int *fds, struct argv *argv)
{
	const struct fd_list taps = list_fds(nic->tap_fd, nic->queues, fds);
	const struct fd_list vhosts = list_fds(nic->vhost_fd, nic->queues, fds);

	argv_push(argv, "-netdev");
	if (nic->queues == 0)
		argv_push(argv, "user,id=net%u,restrict=off", nic->number);
	else if (nic->vhost)
		argv_push(argv, "tap,id=net%u,fds=%s,vhost=on,vhostfds=%s", nic->number, taps.text,
			  vhosts.text);
	else
		argv_push(argv, "tap,id=net%u,fds=%s,vhost=off", nic->number, taps.text);
}

static void push_nic(const struct qemu_nic *nic, const int *fds, struct argv *argv)
{
	const uint8_t *m = nic->mac;
	char mtu[32] = "", queues[32] = "";

	push_netdev(nic, fds, argv);
	if (nic->mtu)
		snprintf(mtu, sizeof(mtu), ",host_mtu=%u", nic->mtu);
	if (nic->queues > 1)
		snprintf(queues, sizeof(queues), ",mq=on,vectors=%u",
			 QEMU_NIC_VECTORS(nic->queues));
	argv_push(argv, "-device");
	argv_push(argv,
		  "virtio-net-pci,id=nic%u,netdev=net%u,mac=%02x:%02x:%02x:%02x:%02x:%02x,"
		  "romfile=,bus=nicbus%u%s%s",
		  nic->number, nic->number, m[0], m[1], m[2], m[3], m[4], m[5], nic->number, mtu,
		  queues);
}

static void push_nics(const struct qemu_spec *spec, const int *fds, struct argv *argv)
{
	for (unsigned int i = 0; i < QEMU_NICS_MAX; i++)
		push_root_port(argv, "nicbus", i, SPARE_PORTS + 1 + i, SLOT_NICS);
	for (size_t i = 0; i < spec->n_nics; i++)
		push_nic(&spec->nics[i], fds, argv);
}

static void push_rest(struct argv *argv)
{
	push_device(argv, "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on",
		    SLOT_BALLOON);
	argv_push(argv, "-object");
	argv_push(argv, "rng-builtin,id=rng");
	push_device(argv, "virtio-rng-pci,id=virtio-rng,rng=rng", SLOT_RNG);
	for (unsigned int i = 0; i < SPARE_PORTS; i++)
		push_root_port(argv, "spare", i, i + 1, SLOT_SPARE);
}

void qemu_argv_build(const struct qemu_spec *spec, const char *binary, const int *fds,
		     struct argv *ret)
{
	ret->n = 0;
	argv_push(ret, "%s", binary);
	push_machine(spec, ret);
	push_channels(spec, fds, ret);
	push_screen(spec, ret);
	for (size_t i = 0; i < spec->n_disks; i++)
		push_disk(spec, i, fds, ret);
	push_cdrom(spec, fds, ret);
	push_nics(spec, fds, ret);
	push_usb(spec, ret);
	push_rest(ret);
	if (spec->incoming) {
		argv_push(ret, "-incoming");
		argv_push(ret, "defer");
	}
}

void argv_done(struct argv *argv)
{
	for (size_t i = 0; i < argv->n; i++)
		free(argv->arg[i]);
	argv->n = 0;
}
