/* The system calls of asynchronous writes, one function each. Nothing goes wrong here that is not
 * handed up. syscall(2) and not inline code: what looks over a program's calls sees them there. */
#include "base/aio.h"

#include <sys/syscall.h>

int aio_new(unsigned depth, aio_context_t *ret)
{
    aio_context_t context = 0;

    if (syscall(SYS_io_setup, depth, &context) < 0)
        return -errno;
    *ret = context;
    return 0;
}

void aio_free(aio_context_t context)
{
    if (context != 0)
        (void)syscall(SYS_io_destroy, context);
}

int aio_write(aio_context_t context, struct iocb *request, int fd, const void *data, size_t bytes,
              uint64_t offset)
{
    long n;

    *request = (struct iocb){
        .aio_lio_opcode = IOCB_CMD_PWRITE,
        .aio_fildes = (uint32_t)fd,
        .aio_buf = (uintptr_t)data,
        .aio_nbytes = bytes,
        .aio_offset = (int64_t)offset,
    };
    n = syscall(SYS_io_submit, context, 1L, &request);
    if (n < 0)
        return -errno;
    return n == 1 ? 0 : -EAGAIN;
}

int aio_wait(aio_context_t context, struct iocb **ret_request, int64_t *ret_result)
{
    struct io_event event;
    long n;

    do
        n = syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL);
    while (n == 0 || (n < 0 && errno == EINTR));
    if (n < 0)
        return -errno;
    *ret_request = (struct iocb *)(uintptr_t)event.obj;
    *ret_result = event.res;
    return 0;
}
