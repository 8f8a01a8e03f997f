/* What the writer and the reader of images must compute alike. */
#pragma once

#include <holdfast/image.h>
#include <holdfast/layout.h>

#include "base/checksum.h"
#include "base/common.h"

#define IMAGE_BLOCK_BYTES ((size_t)HOLDFAST_BLOCK_PAGES * HOLDFAST_PAGE_BYTES)

static inline uint64_t image_alignment(uint32_t encoding)
{
    return encoding == HOLDFAST_BLOCK_RAW ? HOLDFAST_RAW_ALIGNMENT : HOLDFAST_PACKED_ALIGNMENT;
}

/* data: the block as it is stored. */
static inline uint64_t image_block_checksum(uint64_t head_checksum, const HoldfastImageBlock *block,
                                            const void *data)
{
    const HoldfastImagePlace place = {.offset = block->offset, .arena = block->arena};
    uint64_t seed = checksum_seeded(&place, sizeof(place), head_checksum);

    return checksum_seeded(data, block->stored_bytes, seed);
}

static inline uint64_t image_index_checksum(uint64_t head_checksum,
                                            const HoldfastImageSummary *summary,
                                            const HoldfastImageBlock *blocks, uint64_t block_count,
                                            const HoldfastImageRun *runs, uint64_t run_count)
{
    uint64_t seed = checksum_seeded(summary, sizeof(*summary), head_checksum);

    seed = checksum_seeded(blocks, block_count * sizeof(*blocks), seed);
    return checksum_seeded(runs, run_count * sizeof(*runs), seed);
}

static inline uint64_t image_footer_checksum(const HoldfastImageFooter *footer)
{
    return checksum(footer, offsetof(HoldfastImageFooter, checksum));
}

/* What a header or a row may hold, within a field of the given size. Asked by the reader, and by
 * the writer first: what would not be read back must not be written. */
bool image_id_fits(const char *id, size_t field);
bool image_label_fits(const char *label, size_t field);
bool image_name_fits(const char *name, size_t field);
bool image_mode_fits(uint32_t mode);
