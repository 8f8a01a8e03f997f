/* Reads images: opens and checks the table and the index, restores arenas into memfds, verifies.
 * Everything read is bounds-checked; an image is untrusted. Errors: -EBADMSG for a failed check
 * (image_reader_where and _why tell), -EPROTONOSUPPORT for a version or an incompatible flag that
 * is not known, other errnos for I/O and want of memory (which never mean damage). */
#pragma once

#include "checkpoint/image-write.h"

typedef struct ImageReader ImageReader;

/* Opens and checks header, table, index and footer; not the blocks. fd: still the caller's, must
 * stay open. */
int image_reader_new(int fd, ImageReader **ret);
ImageReader *image_reader_free(ImageReader *reader);

const ImageSpec *image_reader_spec(const ImageReader *reader);
const ImageSummary *image_reader_summary(const ImageReader *reader);
size_t image_reader_arenas(const ImageReader *reader);
const ImageArena *image_reader_arena(const ImageReader *reader, size_t index);
/* Size of the file as the footer says. */
uint64_t image_reader_bytes(const ImageReader *reader);
uint32_t image_reader_layout_version(const ImageReader *reader);

/* Called now and then with the pages done; return false to give up (-ECANCELED). */
typedef bool (*ImageProgress)(void *context, uint64_t pages_done, uint64_t pages_total);

/* Fills a fresh memfd with the pages of one arena, checking each block's checksum. ret_fd: ready
 * for arena_open. */
int image_reader_restore(ImageReader *reader, size_t index, ImageProgress progress, void *context,
                         int *ret_fd);
/* Reads everything and checks it: all blocks, and that no page is held twice. Restores nothing. */
int image_reader_verify(ImageReader *reader, ImageProgress progress, void *context);

/* Of a file that opening called -EPROTONOSUPPORT: the version and the incompatible flags that its
 * header names, which keep their places in all versions. */
int image_read_version(int fd, uint32_t *ret_version, uint64_t *ret_flags);

/* After -EBADMSG: the place ("block 17 at offset 1234567") and the reason ("checksum does not
 * match"). */
const char *image_reader_where(const ImageReader *reader);
const char *image_reader_why(const ImageReader *reader);
/* The same where image_reader_new itself failed and left no reader: static texts in *ret_where,
 * *ret_why. */
int image_open(int fd, ImageReader **ret, const char **ret_where, const char **ret_why);
