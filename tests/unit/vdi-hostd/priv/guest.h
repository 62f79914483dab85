/* A desktop's parts for the tests: a folder with sockets, logs and a chain of two qcow2 files. */
#pragma once

#include <stddef.h>

#include "vdi-hostd/priv/proto.h"

#define GUEST_UID_BASE 310000

enum { GUEST_QMP, GUEST_AGENT, GUEST_LOG, GUEST_CONSOLE, GUEST_TOP, GUEST_BASE, GUEST_FDS };

struct guest {
	char dir[64], qmp_path[96], log_path[96], console_path[96];
	int fds[GUEST_FDS];
	struct priv_request req;
};

/** guest_setup() - files, descriptors and a request that starts it */
void guest_setup(struct guest *guest);
void guest_teardown(struct guest *guest);

/** guest_qmp_connect() - a connected QMP socket, greeting read, capabilities negotiated */
int guest_qmp_connect(const struct guest *guest);

/** guest_qmp() - send a command, give back the text of its answer (events are skipped); free() it
 */
char *guest_qmp(int fd, const char *command);

/** guest_status() - the value of a line of /proc/PID/status, such as "CapEff"; static buffer */
const char *guest_status(int pid, const char *key);

/** guest_await_end() - wait up to 10 s for a pidfd's process to end */
void guest_await_end(int pidfd);
