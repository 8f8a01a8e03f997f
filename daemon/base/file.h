/* Helpers over descriptors: whole reads and writes, memfds, locks, durable names. All return 0 or a
 * negative errno. */
#pragma once

#include <sys/types.h>

#include "base/common.h"

/* Reads exactly size bytes at offset; -ENODATA where the file ends before. Goes on after EINTR. */
int file_read_at(int fd, void *data, size_t size, uint64_t offset);
/* Writes exactly size bytes at offset; a write that makes no progress is -EIO, want of room
 * -ENOSPC. */
int file_write_at(int fd, const void *data, size_t size, uint64_t offset);
/* Writes exactly size bytes to a stream (pipe, socket, file position). */
int file_write(int fd, const void *data, size_t size);
/* A new memfd, CLOEXEC, mode 0600, sealable, of the given size. */
int file_memfd(const char *name, uint64_t size, int *ret_fd);
/* Whether a memfd that somebody else kept for us can be trusted as ours alone: a memfd, open for
 * reading and writing, our effective user's, mode 0600, sealed against shrinking and more seals,
 * and against nothing that we need. -EBADMSG: it cannot. */
int file_check_memfd(int fd, uint64_t *ret_size);
/* Takes the advisory fcntl(2) write lock on the whole file, without waiting: -EAGAIN where another
 * process holds it. Not flock(2): that one is inherited by a forked child and outlives a killed
 * daemon. */
int file_lock(int fd);
/* fsync of the directory itself, so that names in it are durable. */
int file_sync_directory(int directory_fd);
/* Unlinks a file and makes that durable. ret_left: what of it is left, for file_give_back; -1 for a
 * small one. */
int file_unlink(int directory_fd, const char *name, int *ret_left);
/* Gives the room of an unlinked file back, in steps, and closes it: one of gigabytes that goes at
 * once keeps a disk that is told of it (discard) from everything else for a second. Slow. -1 is
 * fine. */
void file_give_back(int left);
/* Makes path and its parents where they are missing, the last one with mode, and their names
 * durable. */
int file_make_directories(const char *path, mode_t mode);
/* Size of the file in bytes. */
int file_size(int fd, uint64_t *ret);
/* For a child that was forked: closes all descriptors from `first` on but those of keep, which
 * rises. Allocates nothing and takes no lock. */
void file_close_all_but(unsigned first, const int *keep, size_t count);
