#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "vdi-hostd/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config, before;
	struct err err = {0};

	if (config_defaults(&config, false, &err) < 0)
		return 0;
	memcpy(&before, &config, sizeof(before));
	if (config_parse(&config, "fuzz", (const char *)data, size, &err) < 0) {
		assert(err.code != 0);
		assert(memcmp(&config, &before, sizeof(config)) == 0);
	} else {
		assert(config.state_dir[0] == '/');
		assert(config.uid_base > 0 && config.tool_uid > 0);
		assert(config.spice_port >= 0 && config.spice_port <= 65535);
	}
	return 0;
}
