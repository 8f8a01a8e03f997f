/* Writes that the kernel does while the caller goes on: io_setup(2) and its like, which the C
 * library does not wrap. System calls alone, no lock and no memory of the C library's: a forked
 * child may use them. They return 0 or a negative errno.
 *
 * A context belongs to the process that made it, and its end waits for two grace periods of the
 * kernel's (measured: 34 ms), also the one that comes with the end of the process. */
#pragma once

#include <linux/aio_abi.h>

#include "base/common.h"

/* Room for so many writes under way. -EAGAIN: the system has no more (/proc/sys/fs/aio-max-nr);
 * -ENOSYS, -EPERM: not in this kernel, or not for us. */
int aio_new(unsigned depth, aio_context_t *ret);
/* Waits for the writes under way. 0 is fine. */
void aio_free(aio_context_t context);
/* Begins a write; request and data stay as they are until aio_wait has returned this request. An
 * error: nothing is written, and nothing under way. */
int aio_write(aio_context_t context, struct iocb *request, int fd, const void *data, size_t bytes,
              uint64_t offset);
/* Waits for the end of one of the writes under way, of which there must be one. ret_result: the
 * bytes written, which may be fewer than asked for, or a negative errno. */
int aio_wait(aio_context_t context, struct iocb **ret_request, int64_t *ret_result);
