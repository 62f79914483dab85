/* The privileged half's loop. */
#pragma once

#include "vdi-hostd/priv/verbs.h"

/**
 * server_run() - answer requests until the other end of the wire is gone
 * @fd: the wire, blocking
 *
 * A malformed request ends the process by abort(3): the other half is either broken or taken over,
 * and nothing that it says is to be believed any more.
 */
void server_run(int fd, struct verbs *verbs);
