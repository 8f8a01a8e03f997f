/* The inside of an ImageReader: image-read.c opens and checks, image-blocks.c reads the blocks. For
 * these two alone. */
#pragma once

#include "checkpoint/image-format.h"
#include "checkpoint/image-read.h"

/* Where and why a check failed. */
typedef struct ImageFault {
    char where[96];
    const char *why;
} ImageFault;

struct ImageReader {
    int fd;
    uint64_t file_bytes;
    HoldfastImageFooter footer;
    uint32_t layout_version;

    ImageSpec spec;
    ImageSummary summary;
    ImageArena *arenas;
    size_t arena_count;

    void *index; /* what the next three point into */
    const HoldfastImageSummary *stored_summary;
    const HoldfastImageBlock
        *blocks;                  /* checked: all of their fields are within what they refer to */
    const HoldfastImageRun *runs; /* checked: within their arenas */

    ImageFault fault;
};
