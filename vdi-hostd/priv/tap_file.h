/*
 * The open file behind a tap, in the QEMU that has it.
 *
 * A tap that is deleted leaves its file behind, which can be given another tap (TUNSETIFF) without
 * a word to whoever has it open. What says whose the file was is written into the file itself: the
 * kernel keeps a signal's number with each open file, for programs that ask for O_ASYNC (fcntl(2),
 * F_SETSIG), which QEMU does not. It stays there wherever the descriptor goes, also while no daemon
 * runs.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/** tap_files_mark() - they are those of a desktop's NIC number @nic */
int tap_files_mark(const int *fds, size_t n, uint32_t nic, struct err *err) warn_unused;

/**
 * tap_files_take() - the files of NIC @nic in a QEMU, which have lost their tap
 * @pidfd, @pid, @uid: the same process, and who it runs as (uid and gid)
 * @ret: room for @max descriptors, at least one, one a queue that the tap had; the caller's
 *
 * Takes a child process, for some milliseconds, one second at most. Errors: ERR_NOT_FOUND when the
 * process has none (its NIC was about to be plugged in) or is on its way out; ERR_UNAVAILABLE when
 * it has more than @max; ERR_DENIED when the kernel lets nobody have them (Yama's ptrace_scope over
 * 0).
 */
int tap_files_take(int pidfd, pid_t pid, uid_t uid, uint32_t nic, int *ret, size_t max,
		   size_t *ret_n, struct err *err) warn_unused;
