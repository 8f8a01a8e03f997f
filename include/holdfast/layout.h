/* The memory layout of an arena, shared by the daemon, the client library and whoever maps an arena
 * read-only.
 *
 * An arena is a memfd. Integers are little-endian and naturally aligned, reserved space is zero.
 * Everything is an offset from the arena's first byte, never a pointer, so an image of the memory
 * is the arena. The unit of capture and of saving is the page of 4096 bytes.
 *
 *   page 0             header: who the arena is, counters, roots of index and heap
 *   chunk c (16 MiB)   its first HOLDFAST_CHUNK_MAP_PAGES pages (in chunk 0: the ones behind the
 *                      header) hold one HoldfastPage for each page of the chunk
 *   the other pages    slabs of blocks of one size class, runs of one large block, segments and
 *                      directory of the index, or free
 *
 * Index: linear hashing. Bucket numbers are the low bits of the key's hash; a bucket is 64 bytes: 7
 * slots and a link to an overflow bucket. Buckets lie in segments of 1024 (64 KiB); a directory
 * page lists 1024 segments; the header lists the directory pages. It grows one bucket at a time.
 *
 * A reader without a lock reads while the one writer goes on, and checks afterwards:
 *
 *   one entry: its slot and its revision are the same before and after the copy, the revision is
 *   not 0, abort_counter did not move, and the state is still live. Writer: revision = 0; release
 *   fence; bytes; and at the update's end a store-release of the new revision (see HoldfastEntry).
 *   So what an update wrote is not seen before the update is final. An update that is rolled back
 *   gives an entry its old revision again, and one that moves entries together keeps it: the
 *   abort_counter, which moves before anything else does, tells. (A block that was left, used for
 *   something else and come back to looks as if nothing had been.)
 *
 *   anything else (several entries, or that a key is absent: slots move within a bucket):
 *   change_counter is the same and even before and after. It is odd from an update's first change
 *   to its end; its low half is a futex, which is woken once a turn of the daemon's loop.
 *
 * A reader that was handed the memfd learns from the state that the arena was dropped (then all of
 * it becomes zero), from the generation that another process took it over; that its daemon has
 * gone, or serves other memory now, it learns from the socket alone.
 *
 * Everything read must be checked against the mapped size before it is used. */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* What a later version may move and resize: everything but magic, layout_version, state, the flags
 * and identity in the header, which any version must find; a version is read by the layouts that
 * know it (daemon/arena/layouts.c). The layout for tests differs from this one in most places, so
 * that they hold what the next version will need; it is never released. */
#define HOLDFAST_LAYOUT_TEST 1000000
#ifdef HOLDFAST_TEST_LAYOUT
#define HOLDFAST_LAYOUT_VERSION HOLDFAST_LAYOUT_TEST
#else
#define HOLDFAST_LAYOUT_VERSION 1
#endif
#define HOLDFAST_ARENA_MAGIC "HFARENA" /* 8 bytes with its NUL */

#define HOLDFAST_PAGE_BYTES 4096u
#define HOLDFAST_NAME_MAX 64u
#define HOLDFAST_KEY_MAX 1024u
#define HOLDFAST_VALUE_MAX (8u << 20)

#define HOLDFAST_CHUNK_PAGES 4096u
#define HOLDFAST_CHUNK_MAP_PAGES 16u /* 4096 descriptors of 16 bytes */
#define HOLDFAST_PAGES_MAX (UINT64_C(1) << 31)

#define HOLDFAST_BUCKET_SLOTS 7u
#define HOLDFAST_SEGMENT_BUCKETS 1024u
#define HOLDFAST_SEGMENT_PAGES 16u
#define HOLDFAST_DIRECTORY_SEGMENTS 1024u
#define HOLDFAST_DIRECTORIES 256u
#define HOLDFAST_CHAIN_MAX 128u /* entries in one bucket's chain */
#define HOLDFAST_BUCKETS_MIN 64u
#define HOLDFAST_BUCKETS_MAX (1u << 28)

#define HOLDFAST_CLASSES 72u      /* size classes of blocks, see daemon/arena/class.h */
#define HOLDFAST_RUN_BINS 48u     /* lists of free runs by length */
#define HOLDFAST_PUNCHING_MAX 64u /* runs that are being given back to the system at a time */

enum {
    HOLDFAST_STATE_LIVE = 1,
    HOLDFAST_STATE_DROPPED = 2,
    HOLDFAST_STATE_MOVED = 3, /* another process took it over */
};

/* What a page is. In the middle of a run only slabs say anything; else the descriptor is zero
 * there. */
enum {
    HOLDFAST_PAGE_NONE = 0, /* never used, or described by the head of its run */
    HOLDFAST_PAGE_HEADER = 1,
    HOLDFAST_PAGE_MAP = 2,  /* head of the chunk's map; count: pages */
    HOLDFAST_PAGE_SLAB = 3, /* head of a slab; the number of its pages follows from its class */
    HOLDFAST_PAGE_SLAB_TAIL = 4, /* count: pages back to the head */
    HOLDFAST_PAGE_LARGE = 5,     /* head of a run that holds one block; count: pages */
    HOLDFAST_PAGE_SEGMENT = 6,   /* head of a segment of buckets; count: pages */
    HOLDFAST_PAGE_DIRECTORY = 7, /* page numbers of segments */
    HOLDFAST_PAGE_RESIDENT = 8,  /* head of a free run that has memory; count: pages */
    HOLDFAST_PAGE_CLEAN = 9,     /* head of a free run that is a hole */
    HOLDFAST_PAGE_PUNCHING = 10, /* head of a free run that is becoming a hole; in no list */
    HOLDFAST_PAGE_FREE_LAST =
        11, /* last page of a free run of two pages or more; count: pages of the run */
};

/* Descriptor of one page. */
typedef struct HoldfastPage {
    uint8_t kind;
    uint8_t class;  /* slab: its size class */
    uint16_t count; /* slab: blocks in use; else see above */
    uint16_t free; /* slab: 1 + number of its first free block; 0: none. The next one's is at byte 8
                      of the block */
    uint16_t bump; /* slab: blocks from this number on were never used */
    uint32_t next; /* page number of the list's next head; 0: none. Slabs with room, free runs */
    uint32_t prev;
} HoldfastPage;
static_assert(sizeof(HoldfastPage) == 16, "a chunk's descriptors fill 16 pages");

/* A block that holds an entry: this, the key, the value. While it is free, revision is 0. */
typedef struct HoldfastEntry {
    uint64_t revision; /* 0 from its first change in an update to that update's end */
#ifdef HOLDFAST_TEST_LAYOUT
    uint64_t reserved0;
#endif
    uint32_t value_bytes;
    uint16_t key_bytes;
    uint8_t flags; /* HOLDFAST_ENTRY_* */
    uint8_t reserved;
} HoldfastEntry;
#ifdef HOLDFAST_TEST_LAYOUT
static_assert(sizeof(HoldfastEntry) == 24, "layout");
#else
static_assert(sizeof(HoldfastEntry) == 16, "layout");
#endif

#define HOLDFAST_ENTRY_PENDING 0x01u /* gets its revision at the end of the running update */

/* A slot: the low 40 bits are the entry's offset in units of 8 bytes, the high 24 bits are bits 6
 * to 29 of the key's hash. 0: no entry. */
#define HOLDFAST_SLOT_TAG_SHIFT 40
#define HOLDFAST_SLOT_HASH_SHIFT 6
#define HOLDFAST_SLOT_TAG_MASK UINT64_C(0xffffff)

/* Slots are filled from the front of the chain on, without gaps. */
typedef struct HoldfastBucket {
    uint64_t slots[HOLDFAST_BUCKET_SLOTS];
    uint64_t next; /* offset of the overflow bucket; 0: none */
} HoldfastBucket;
static_assert(sizeof(HoldfastBucket) == 64, "a bucket is a cache line");

/* What every update changes. */
typedef struct HoldfastCounters {
#ifdef HOLDFAST_TEST_LAYOUT
    uint64_t entries;
    uint64_t revision;
#else
    uint64_t revision; /* of the last update; 0: none yet */
    uint64_t entries;
#endif
    uint64_t live_bytes; /* entry headers, keys, values */
    uint64_t buckets;
    uint64_t capacity_pages;
    uint64_t high_water_pages; /* pages ever in use, from the first on */
    uint64_t used_pages;       /* used + resident + clean + punching = high water */
    uint64_t resident_pages;   /* in free runs with memory */
    uint64_t clean_pages;      /* in free runs that are holes */
    uint64_t punching_pages;
    uint64_t block_bytes; /* in use in slabs */
    uint64_t slab_pages;
    uint64_t reserved[4];
} HoldfastCounters;
static_assert(sizeof(HoldfastCounters) == 128, "layout");

/* Page 0. */
typedef struct HoldfastHeader {
    char magic[8];
    uint32_t layout_version;
    uint32_t state;
    uint64_t compatible_flags;   /* unknown ones may be ignored */
    uint64_t incompatible_flags; /* unknown ones: not for this reader */
    uint8_t identity[16];
#ifdef HOLDFAST_TEST_LAYOUT
    char name[72];
    uint64_t created_revision;
    uint64_t created_usec;
    uint64_t generation;
    uint64_t hash_seed;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint32_t reserved0;
    uint8_t reserved1[88];

    HoldfastCounters counters;
    uint64_t abort_counter;
    uint64_t change_counter;
    uint8_t reserved2[48];
#else
    uint64_t hash_seed; /* XXH3 of the identity; keys are hashed with XXH3 and this seed */
    uint64_t created_usec;
    uint64_t generation; /* processes that took it over */
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint32_t reserved0;
    char name[72];             /* ends in NUL */
    uint64_t created_revision; /* of the update that created it */
    uint8_t reserved1[88];

    uint64_t change_counter; /* even: at rest; odd: an update is being linked */
    uint64_t abort_counter;  /* updates rolled back, and updates that moved entries */
    uint8_t reserved2[48];
    HoldfastCounters counters;
#endif
    uint8_t reserved3[64];

    uint32_t directories[HOLDFAST_DIRECTORIES]; /* page numbers */
    uint32_t slabs[HOLDFAST_CLASSES];           /* first slab with room, by class */
    uint64_t resident_bins;                     /* bit b: resident_runs[b] is not empty */
    uint64_t clean_bins;
    uint32_t resident_runs[HOLDFAST_RUN_BINS];
    uint32_t clean_runs[HOLDFAST_RUN_BINS];
    uint32_t punching[HOLDFAST_PUNCHING_MAX]; /* heads of the runs that are being punched */
    uint8_t reserved4[1616];
} HoldfastHeader;
static_assert(offsetof(HoldfastHeader, identity) == 32, "layout");
#ifdef HOLDFAST_TEST_LAYOUT
static_assert(offsetof(HoldfastHeader, name) == 48, "layout");
static_assert(offsetof(HoldfastHeader, counters) == 256, "layout");
static_assert(offsetof(HoldfastHeader, change_counter) == 392, "layout");
#else
static_assert(offsetof(HoldfastHeader, name) == 88, "layout");
static_assert(offsetof(HoldfastHeader, change_counter) == 256, "layout");
static_assert(offsetof(HoldfastHeader, counters) == 320, "layout");
#endif
static_assert(offsetof(HoldfastHeader, directories) == 512, "layout");
static_assert(offsetof(HoldfastHeader, punching) == 2224, "layout");
static_assert(sizeof(HoldfastHeader) == HOLDFAST_PAGE_BYTES, "the header is a page");
