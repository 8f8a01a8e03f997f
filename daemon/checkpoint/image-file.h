/* The file of an image while it is written, from front to back: past the page cache where that
 * pays, and several blocks under way at the disk at once. Made before a fork, used after it:
 * without malloc and without locks. After an error the file is good for nothing but
 * image_file_deinit. */
#pragma once

#include "base/aio.h"

#define IMAGE_FILE_BUFFERS 2

/* What is or was written from. */
typedef struct ImageFileBuffer {
    struct iocb request;
    char *data;
    bool under_way;
} ImageFileBuffer;

typedef struct ImageFile {
    int fd;
    uint64_t offset;  /* where the next byte goes */
    uint64_t size;    /* what the file was brought to ahead of that, if it is more */
    uint64_t flushed; /* up to here write-back was begun */
    uint64_t waited;  /* write-back is complete up to here */

    bool may_bypass; /* the page cache */
    bool bypassing;
    bool may_overlap; /* writing with what comes next */
    aio_context_t context;
    unsigned under_way;

    char *memory;
    size_t memory_bytes;
    bool populated;
    unsigned buffer_count;
    ImageFileBuffer buffers[IMAGE_FILE_BUFFERS];
    unsigned current; /* the buffer that is filled */
} ImageFile;

/* fd: an empty file open for writing, still the caller's. bypass: whole pages may go past the page
 * cache. bytes_expected: about so much will be written. -ENOMEM. */
int image_file_init(ImageFile *file, int fd, bool bypass, uint64_t bytes_expected);
/* Also of one whose init failed. Waits for what is under way. */
void image_file_deinit(ImageFile *file);

/* The buffer to fill next: IMAGE_BLOCK_BYTES, page-aligned, the same one until it was given to
 * image_file_append_buffer. Waits where all are under way; an error is one of theirs. First called
 * in the child, which populates it: a private page that exists at a fork is copied on its first
 * write. */
int image_file_buffer(ImageFile *file, char **ret);
/* Writes the first bytes of that buffer, or begins to; an error may be that of an earlier one. */
int image_file_append_buffer(ImageFile *file, size_t bytes);
/* Writes what lies elsewhere; done when it returns. */
int image_file_append(ImageFile *file, const void *data, size_t bytes);
/* Zeros up to the next multiple. */
int image_file_pad(ImageFile *file, uint64_t alignment);
/* Waits until all that was appended is written, and ends the file there. Needed before what has no
 * whole pages is appended behind buffers, and before image_file_sync. */
int image_file_settle(ImageFile *file);
int image_file_sync(ImageFile *file);
