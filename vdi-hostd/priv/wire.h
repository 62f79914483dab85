/* One message of the wire: a fixed-size struct and descriptors. Used by both ends. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define WIRE_FDS_MAX 208 /* the kernel takes 253 */

/**
 * wire_send() - one message, whole
 * Return: 0, or -1 with errno (EAGAIN on a non-blocking socket that is full)
 */
int wire_send(int fd, const void *message, size_t size, const int *fds, size_t n_fds);

/**
 * wire_receive() - one message of exactly @size bytes
 * @ret_fds: room for WIRE_FDS_MAX; close-on-exec, the caller's; none on failure
 * Return: 1, 0 at the end of the stream, or -1 with errno: EAGAIN, EMSGSIZE (another size),
 *         EPROTO (descriptors were cut off)
 */
int wire_receive(int fd, void *ret_message, size_t size, int *ret_fds, size_t *ret_n_fds);
