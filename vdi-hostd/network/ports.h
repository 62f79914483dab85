/* Inside of network/ only: which ports of the host have a listener. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/**
 * ports_check_free() - does nothing on the host listen on any of @count ports from @first?
 * @address: host byte order; 0: any of the host's
 *
 * Read from proc(5) /proc/net/{tcp,tcp6,udp,udp6}. Errors: ERR_CONFLICT naming the port.
 */
int ports_check_free(bool tcp, uint32_t address, uint16_t first, uint16_t count,
		     struct err *err) warn_unused;
