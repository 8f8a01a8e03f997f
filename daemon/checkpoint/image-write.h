/* Writes an image (include/holdfast/image.h) to a file, block by block. All memory is mapped by
 * image_writer_new, before the fork: the rest works in a forked child, without malloc and without
 * locks. */
#pragma once

#include <holdfast/image.h>

#include "arena/arena.h"
#include "base/common.h"

typedef struct ImageWriter ImageWriter;

/* One arena of the table. All arenas that exist at the cut are listed, also those that the image
 * does not hold. */
typedef struct ImageArena {
    char name[HOLDFAST_NAME_MAX + 1];
    Identity identity;
    ArenaAttributes attributes;
    uint64_t created_usec;
    uint64_t created_revision; /* of the update that created it: its journal begins there */
    uint64_t entries;
    uint64_t revision;
    uint64_t used_bytes;
    uint64_t pages; /* high-water mark at the cut */
    bool held;      /* the image holds its pages */
} ImageArena;

typedef struct ImageSpec {
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    char label[HOLDFAST_LABEL_MAX + 1]; /* empty: none */
    uint64_t revision;                  /* of the cut */
    uint64_t started_usec;              /* realtime */
    bool zstd;
    bool cached; /* it will be read soon: what is written stays in the page cache */
} ImageSpec;

/* What is known only at the end; kept in the image so that a listing after a restart can tell it.
 */
typedef struct ImageSummary {
    uint64_t pause_usec;
    uint64_t held_usec;
    uint64_t duration_usec;
    uint64_t pages_total;
    uint64_t pages_captured;
    uint64_t state_bytes;
} ImageSummary;

/* Up to HOLDFAST_LABEL_MAX of [A-Za-z0-9 _.:-]; empty is fine. */
bool image_label_valid(Bytes label);

/* fd: an empty file open for writing, still the caller's. arenas and spec: copied. Nothing is
 * written yet. -EFBIG: an arena of more than 2^32 - 1 pages. -EINVAL: an id, label, name or mode
 * that a reader would refuse. */
int image_writer_new(int fd, const ImageSpec *spec, const ImageArena *arenas, size_t count,
                     ImageWriter **ret);
ImageWriter *image_writer_free(ImageWriter *writer);

/* Room for HOLDFAST_BLOCK_PAGES pages, page-aligned: filled by the caller, then written by
 * image_writer_put. First called in the child: it populates the memory. Asked for anew after each
 * put, which may still be written from the one before; may wait for the disk, and then tell what it
 * said: the errno of a write. */
int image_writer_buffer(ImageWriter *writer, void **ret);
/* Writes the first count pages of the buffer, which are the given pages of arena (its index in the
 * table), in any order. Pages that are all zero are left out, and so are pages that were put before
 * (a page may come from the scan and from the ring; both are as of the cut). The buffer is the
 * writer's then. -EINVAL for an arena that is not held or a page at or behind its high-water mark;
 * else the errno of the call that failed, of this put or of one before it, after which the writer
 * can only be freed. */
int image_writer_put(ImageWriter *writer, uint32_t arena, const uint32_t *pages, uint32_t count);
/* Writes index, summary and footer and syncs the file. ret_bytes: the file's size. Errors: the
 * errno of the call. */
int image_writer_finish(ImageWriter *writer, const ImageSummary *summary, uint64_t *ret_bytes);
/* Bytes written so far, or under way, for progress. */
uint64_t image_writer_bytes(const ImageWriter *writer);
