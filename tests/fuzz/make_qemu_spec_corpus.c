/*
 * Writes corpus/qemu_spec, for the struct as it is now:
 *	ninja tests/fuzz/make_qemu_spec_corpus && tests/fuzz/make_qemu_spec_corpus FOLDER
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vdi-hostd/priv/qemu_spec.h"

struct input {
	uint8_t n_fds;
	struct qemu_spec spec;
};

static void put(const char *folder, const char *name, const struct input *input)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "we");
	if (!f || fputc(input->n_fds, f) == EOF ||
	    fwrite(&input->spec, sizeof(input->spec), 1, f) != 1 || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

static void add_disk(struct input *input, uint8_t chain_len)
{
	struct qemu_disk *disk = &input->spec.disks[input->spec.n_disks++];
	disk->chain_len = chain_len;
	disk->boot_index = input->spec.n_disks;
	for (uint8_t i = 0; i < chain_len; i++) {
		disk->format[i] = QEMU_FILE_QCOW2;
		disk->fd[i] = input->n_fds++;
		snprintf(disk->node[i], sizeof(disk->node[i]), "d%un%u", input->spec.n_disks, i);
	}
}

static void add_nic(struct input *input, uint8_t queues, bool vhost)
{
	struct qemu_nic *nic = &input->spec.nics[input->spec.n_nics];
	*nic = (struct qemu_nic){.number = input->spec.n_nics++,
				 .mac = {0x52, 0x54, 0, 0, 0, input->spec.n_nics},
				 .mtu = 1400,
				 .queues = queues,
				 .vhost = vhost};
	for (uint8_t i = 0; i < queues; i++)
		nic->tap_fd[i] = input->n_fds++;
	for (uint8_t i = 0; vhost && i < queues; i++)
		nic->vhost_fd[i] = input->n_fds++;
}

static struct input begin(void)
{
	struct input input;
	memset(&input, 0, sizeof(input));
	input.n_fds = 4;
	input.spec = (struct qemu_spec){
		.slot = 7,
		.name = "desktop-1",
		.memory_mib = 2048,
		.vcpus = 2,
		.accel = QEMU_ACCEL_KVM,
		.display = QEMU_DISPLAY_QXL,
		.usb_redir = 4,
		.audio = 1,
		.cdrom_fd = QEMU_NO_MEDIUM,
		.agent_fd = 1,
		.log_fd = 2,
		.console_fd = 3,
	};
	return input;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	struct input ordinary = begin(), bad;
	add_disk(&ordinary, 2);
	add_nic(&ordinary, 1, false);
	put(argv[1], "ordinary", &ordinary);

	struct input queues = begin();
	add_disk(&queues, 1);
	add_nic(&queues, 0, false);
	add_nic(&queues, 2, false);
	add_nic(&queues, 2, true);
	put(argv[1], "queues", &queues);

	struct input most = begin();
	for (int i = 0; i < QEMU_DISKS_MAX; i++)
		add_disk(&most, QEMU_CHAIN_MAX);
	most.spec.cdrom_fd = most.n_fds++;
	for (int i = 0; i < QEMU_NICS_MAX; i++)
		add_nic(&most, QEMU_QUEUES_MAX, true);
	put(argv[1], "most", &most);

	bad = ordinary;
	strcpy(bad.spec.name, "a,debug-threads=on");
	put(argv[1], "comma", &bad);
	bad = ordinary;
	memset(bad.spec.name, 'a', sizeof(bad.spec.name));
	put(argv[1], "no-end", &bad);
	bad = queues;
	bad.spec.nics[2].vhost_fd[1] = bad.spec.nics[2].tap_fd[1];
	put(argv[1], "twice", &bad);
	memset(&bad, 0xff, sizeof(bad));
	put(argv[1], "ones", &bad);
	memset(&bad, 0, sizeof(bad));
	put(argv[1], "zero", &bad);
	return 0;
}
