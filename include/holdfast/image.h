/* The layout of an image on disk: see the structs below. Integers are little-endian, reserved space
 * is zero.
 *
 *   header    who the image is: id, label, cut, parent
 *   table     all arenas that exist at the cut, and whether this image holds them
 *   blocks    up to 256 pages of one arena each, raw (at a multiple of 4096) or zstd, each with its
 *             checksum
 *   index     summary; for each block: arena, place, size, checksum; the runs of pages that the
 *             blocks hold
 *   footer    of fixed size at the very end: finds and checksums header, table and index, and
 *             through them all else
 *
 * Pages that are in no block are zero. No page is in two blocks. Blocks follow each other without a
 * gap but for what their alignment asks; that padding is zero, so every byte of a file is either
 * under a checksum or known.
 *
 * Checksums are XXH3, 64 bits, with seeds that tie the parts together:
 *
 *   footer        seed 0, over all of the footer before its checksum
 *   head          seed 0, over header and table
 *   summary       seed: the head's checksum
 *   descriptors   of the blocks; seed: the summary's checksum
 *   runs          seed: the descriptors' checksum; this one stands in the footer as the index's
 *   a block       over its stored bytes; seed: the checksum of its place (HoldfastImagePlace),
 *                 whose seed is the head's checksum
 *
 * So the block of another image, or of another place in this one, does not pass.
 *
 * A reader that finds an unknown version or an unknown bit in `incompatible` must refuse the file
 * (it is not damaged); it may ignore unknown bits in `compatible`. Magic, version and flags keep
 * their places in all versions. */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define HOLDFAST_IMAGE_MAGIC "HFIMAGE" /* 8 bytes with its NUL */
#define HOLDFAST_IMAGE_END_MAGIC "HFIMEND"
#define HOLDFAST_IMAGE_VERSION 1
#define HOLDFAST_BLOCK_PAGES 256u
#define HOLDFAST_IMAGE_ID_MAX 48u /* "<cut revision, 20 digits>-<YYYYMMDDThhmmssZ>" */
#define HOLDFAST_LABEL_MAX 64u

/* Bits of `incompatible`. */
#define HOLDFAST_IMAGE_ZSTD (UINT64_C(1) << 0) /* there may be blocks compressed with zstd */
#define HOLDFAST_IMAGE_INCOMPATIBLE_KNOWN HOLDFAST_IMAGE_ZSTD

/* Bits of HoldfastImageArena.flags. */
#define HOLDFAST_IMAGE_HELD (UINT32_C(1) << 0) /* the image holds the arena's pages */

/* HoldfastImageBlock.encoding, and at which multiples such blocks start. The index starts at a
 * multiple of 8. */
#define HOLDFAST_BLOCK_RAW 0u
#define HOLDFAST_BLOCK_ZSTD 1u
#define HOLDFAST_RAW_ALIGNMENT 4096u
#define HOLDFAST_PACKED_ALIGNMENT 8u

/* At offset 0. Texts end in NUL and are padded with NULs. */
typedef struct HoldfastImageHeader {
    char magic[8];
    uint32_t version;
    uint32_t layout_version; /* of the memory of the arenas (layout.h) */
    uint64_t compatible;
    uint64_t incompatible;
    uint64_t revision;     /* of the cut */
    uint64_t started_usec; /* time of the cut, since the Unix epoch */
    uint32_t arenas;       /* rows of the table, which follows at once */
    uint32_t reserved0;
    char id[56];
    char parent[56]; /* of an incremental image; empty: a whole one */
    char label[72];
    uint8_t reserved1[16];
} HoldfastImageHeader;

static_assert(sizeof(HoldfastImageHeader) == 256, "part of the format");
static_assert(offsetof(HoldfastImageHeader, incompatible) == 24, "the same in all versions");
static_assert(offsetof(HoldfastImageHeader, id) == 56, "part of the format");
static_assert(offsetof(HoldfastImageHeader, label) == 168, "part of the format");

/* A row of the table. */
typedef struct HoldfastImageArena {
    uint8_t identity[16];
    char name[72];
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint32_t flags;
    uint64_t max_bytes;
    uint64_t created_usec;
    uint64_t entries;
    uint64_t revision; /* of its last change */
    uint64_t used_bytes;
    uint64_t pages;            /* its memory is this many pages long; at most 2^32 - 1 */
    uint64_t created_revision; /* of the update that created it */
} HoldfastImageArena;

static_assert(sizeof(HoldfastImageArena) == 160, "part of the format");
static_assert(offsetof(HoldfastImageArena, uid) == 88, "part of the format");
static_assert(offsetof(HoldfastImageArena, pages) == 144, "part of the format");

/* The index begins with this. */
typedef struct HoldfastImageSummary {
    uint64_t pause_usec;
    uint64_t held_usec;
    uint64_t duration_usec;
    uint64_t pages_total;
    uint64_t pages_captured;
    uint64_t state_bytes;
    uint8_t reserved[16];
} HoldfastImageSummary;

static_assert(sizeof(HoldfastImageSummary) == 64, "part of the format");

/* Descriptor of a block; they are in the order in which the blocks lie in the file. */
typedef struct HoldfastImageBlock {
    uint64_t offset;
    uint64_t checksum;
    uint64_t first_run;    /* its runs are [first_run, first_run + runs) */
    uint32_t stored_bytes; /* in the file; raw: pages * 4096, zstd: less */
    uint32_t arena;        /* row of the table */
    uint32_t pages;        /* 1 to HOLDFAST_BLOCK_PAGES */
    uint32_t runs;         /* 1 to pages */
    uint32_t encoding;
    uint32_t reserved;
} HoldfastImageBlock;

static_assert(sizeof(HoldfastImageBlock) == 48, "part of the format");
static_assert(offsetof(HoldfastImageBlock, arena) == 28, "part of the format");

/* Pages [first, first + count) of the arena, one behind the other in the block. */
typedef struct HoldfastImageRun {
    uint32_t first;
    uint32_t count;
} HoldfastImageRun;

static_assert(sizeof(HoldfastImageRun) == 8, "part of the format");

/* The last bytes of the file. */
typedef struct HoldfastImageFooter {
    char magic[8];
    uint32_t version;
    uint32_t reserved0;
    uint64_t file_bytes; /* of the whole file, this included */
    uint64_t head_bytes; /* header and table */
    uint64_t head_checksum;
    uint64_t index_offset;
    uint64_t index_bytes; /* summary, descriptors, runs; the footer follows at once */
    uint64_t index_checksum;
    uint64_t blocks;
    uint64_t runs;
    uint64_t pages; /* in all blocks */
    uint8_t reserved1[32];
    uint64_t checksum;
} HoldfastImageFooter;

static_assert(sizeof(HoldfastImageFooter) == 128, "part of the format");
static_assert(offsetof(HoldfastImageFooter, checksum) == 120, "part of the format");

/* What is hashed, with the head's checksum as the seed, to get the seed of a block's checksum. */
typedef struct HoldfastImagePlace {
    uint64_t offset;
    uint64_t arena;
} HoldfastImagePlace;

static_assert(sizeof(HoldfastImagePlace) == 16, "part of the format");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "integers are read and written as they lie in memory");
