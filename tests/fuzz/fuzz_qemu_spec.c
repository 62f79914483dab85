#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "vdi-hostd/priv/qemu_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* the first byte is the number of descriptors, the rest the struct as it comes over the wire */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qemu_spec spec = {0};
	struct argv argv;
	struct err err = {0};
	int fds[QEMU_FDS_MAX];

	if (size < 1)
		return 0;
	memcpy(&spec, data + 1, size - 1 < sizeof(spec) ? size - 1 : sizeof(spec));
	if (qemu_spec_check(&spec, data[0], &err) < 0) {
		assert(err.code == ERR_INVALID);
		return 0;
	}
	for (int i = 0; i < QEMU_FDS_MAX; i++)
		fds[i] = 3 + i;
	qemu_argv_build(&spec, "/usr/bin/qemu-system-x86_64", fds, &argv);
	for (size_t i = 0; i < argv.n; i++) {
		/* nothing that came in can add an option or end one */
		for (const char *c = argv.arg[i]; *c; c++)
			assert(*c >= 0x20 && *c < 0x7f);
		if (strncmp(argv.arg[i], "guest=", 6) == 0)
			assert(strchr(argv.arg[i], ',') == strrchr(argv.arg[i], ','));
	}
	argv_done(&argv);
	return 0;
}
