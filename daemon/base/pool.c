/* Private memory that a forked child does not get.
 *
 * Small blocks (up to POOL_KEEP_BYTES) come from chunks of that size. A chunk serves blocks of one
 * size while any of them is taken, and any size again once all are back; so a burst of one size
 * leaves nothing that another cannot use. Chunks lie side by side in regions, which reserve address
 * space and use memory only where it was touched. Of the chunks that nobody uses a few stay as they
 * are; the housekeeper gives the pages of the others back to the system.
 *
 * Large blocks are in base/slots.
 *
 * What can go wrong is want of memory, which the caller is told. Everything that describes the
 * memory lies outside it, so that taking and giving a block touches no page that the caller did
 * not; only a block that is free holds a link. */
#include "base/pool.h"

#include <sys/mman.h>

#include "base/housekeeper.h"
#include "base/slots.h"

#define BLOCK_MIN_SHIFT 12
#define CHUNK_SHIFT 20
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_SHIFT)
#define CLASSES (CHUNK_SHIFT - BLOCK_MIN_SHIFT + 1)
#define REGION_CHUNKS 64
#define REGION_BYTES (REGION_CHUNKS * CHUNK_BYTES)
#define BLOCK_BYTES_MAX (UINT64_C(1) << 46)
#define CHUNKS_KEPT 16

static_assert(POOL_BLOCK_MIN == UINT64_C(1) << BLOCK_MIN_SHIFT, "classes start at the least block");
static_assert(POOL_KEEP_BYTES == CHUNK_BYTES, "a chunk is the largest small block");

typedef struct FreeBlock {
    struct FreeBlock *next;
} FreeBlock;

typedef struct Chunk Chunk;

struct Chunk {
    HousekeeperTask discard; /* gives the pages back to the system */
    Pool *pool;
    char *memory;
    /* In the list of its class while it has room, or in one of the lists of unused chunks. */
    Chunk *previous;
    Chunk *next;
    unsigned class;
    unsigned taken;  /* blocks handed out */
    unsigned carved; /* blocks that were ever handed out; behind them nothing was touched */
    FreeBlock *free;
};

typedef struct Region {
    struct Region *next;
    char *memory;
    unsigned used; /* chunks that were ever used */
    Chunk chunks[REGION_CHUNKS];
} Region;

struct Pool {
    Housekeeper *housekeeper;
    Region *regions;
    Chunk *partial[CLASSES]; /* chunks of each class that have room */
    Chunk *warm;             /* unused, with their pages */
    Chunk *cold;             /* unused, without */
    unsigned warm_count;
    unsigned discarding; /* chunks that the housekeeper has */
    Slots slots;         /* large blocks */
    uint64_t bytes_taken;
    uint64_t bytes_mapped; /* of chunks */
};

/* Chunks. */

static void chunk_push(Chunk **list, Chunk *chunk)
{
    chunk->previous = NULL;
    chunk->next = *list;
    if (*list != NULL)
        (*list)->previous = chunk;
    *list = chunk;
}

static void chunk_remove(Chunk **list, Chunk *chunk)
{
    if (chunk->previous != NULL)
        chunk->previous->next = chunk->next;
    else
        *list = chunk->next;
    if (chunk->next != NULL)
        chunk->next->previous = chunk->previous;
    chunk->previous = chunk->next = NULL;
}

static void chunk_discard_run(HousekeeperTask *task)
{
    Chunk *chunk = (Chunk *)task;

    (void)madvise(chunk->memory, CHUNK_BYTES, MADV_DONTNEED);
}

static void chunk_discard_done(HousekeeperTask *task)
{
    Chunk *chunk = (Chunk *)task;

    chunk->pool->discarding--;
    chunk_push(&chunk->pool->cold, chunk);
}

static int region_add(Pool *pool)
{
    Region *region = calloc(1, sizeof(*region));

    if (region == NULL)
        return -ENOMEM;
    region->memory = slots_map(REGION_BYTES);
    if (region->memory == NULL) {
        free(region);
        return -ENOMEM;
    }
    for (size_t i = 0; i < REGION_CHUNKS; i++)
        region->chunks[i] = (Chunk){
            .discard = {.run = chunk_discard_run, .done = chunk_discard_done},
            .pool = pool,
            .memory = region->memory + i * CHUNK_BYTES,
        };
    POISON(region->memory, REGION_BYTES);
    region->next = pool->regions;
    pool->regions = region;
    return 0;
}

static Chunk *chunk_take(Pool *pool)
{
    Chunk *chunk;

    if (pool->warm != NULL) {
        chunk = pool->warm;
        chunk_remove(&pool->warm, chunk);
        pool->warm_count--;
        return chunk;
    }
    if (pool->cold != NULL) {
        chunk = pool->cold;
        chunk_remove(&pool->cold, chunk);
    } else {
        if ((pool->regions == NULL || pool->regions->used == REGION_CHUNKS) && region_add(pool) < 0)
            return NULL;
        chunk = &pool->regions->chunks[pool->regions->used++];
    }
    pool->bytes_mapped += CHUNK_BYTES;
    return chunk;
}

/* No block of the chunk is taken any more. */
static void chunk_give(Pool *pool, Chunk *chunk)
{
    chunk->free = NULL;
    chunk->carved = 0;
    if (pool->housekeeper == NULL || pool->warm_count < CHUNKS_KEPT) {
        chunk_push(&pool->warm, chunk);
        pool->warm_count++;
        return;
    }
    pool->bytes_mapped -= CHUNK_BYTES;
    pool->discarding++;
    housekeeper_submit(pool->housekeeper, &chunk->discard);
}

static Chunk *chunk_find(Pool *pool, const char *block)
{
    for (Region *region = pool->regions; region != NULL; region = region->next)
        if (block >= region->memory && block < region->memory + REGION_BYTES)
            return &region->chunks[(size_t)(block - region->memory) >> CHUNK_SHIFT];
    return NULL;
}

static unsigned chunk_blocks(const Chunk *chunk)
{
    return 1u << (CLASSES - 1 - chunk->class);
}

/* Small blocks. */

static void *small_take(Pool *pool, unsigned class)
{
    size_t size = POOL_BLOCK_MIN << class;
    Chunk *chunk = pool->partial[class];
    void *block;

    if (chunk == NULL) {
        chunk = chunk_take(pool);
        if (chunk == NULL)
            return NULL;
        chunk->class = class;
        chunk_push(&pool->partial[class], chunk);
    }
    if (chunk->free != NULL) {
        block = chunk->free;
        UNPOISON(block, size);
        chunk->free = chunk->free->next;
    } else {
        block = chunk->memory + chunk->carved++ * size;
        UNPOISON(block, size);
    }
    chunk->taken++;
    if (chunk->taken == chunk_blocks(chunk))
        chunk_remove(&pool->partial[class], chunk);
    return block;
}

static void small_give(Pool *pool, void *block, size_t size)
{
    Chunk *chunk = chunk_find(pool, block);
    FreeBlock *link = block;

    assert(chunk != NULL && POOL_BLOCK_MIN << chunk->class == size && chunk->taken > 0);
    if (chunk->taken == chunk_blocks(chunk))
        chunk_push(&pool->partial[chunk->class], chunk);
    chunk->taken--;
    link->next = chunk->free;
    chunk->free = link;
    POISON(block, size);
    if (chunk->taken == 0) {
        chunk_remove(&pool->partial[chunk->class], chunk);
        chunk_give(pool, chunk);
    }
}

/* The pool. */

int pool_new(Housekeeper *housekeeper, Pool **ret)
{
    Pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return -ENOMEM;
    pool->housekeeper = housekeeper;
    slots_init(&pool->slots, housekeeper);
    *ret = pool;
    return 0;
}

Pool *pool_free(Pool *pool)
{
    Region *region;

    if (pool == NULL)
        return NULL;
    assert(pool->bytes_taken == 0);
    slots_deinit(&pool->slots);
    /* A housekeeper that is gone already has run them all. */
    if (pool->discarding > 0)
        housekeeper_drain(pool->housekeeper);
    while ((region = pool->regions) != NULL) {
        pool->regions = region->next;
        UNPOISON(region->memory, REGION_BYTES);
        munmap(region->memory, REGION_BYTES);
        free(region);
    }
    free(pool);
    return NULL;
}

/* The power of two that holds size bytes; 0 where there is none. */
static size_t block_size_for(size_t size)
{
    if (size <= POOL_BLOCK_MIN)
        return POOL_BLOCK_MIN;
    if (size > BLOCK_BYTES_MAX)
        return 0;
    return (size_t)1 << (64 - __builtin_clzll(size - 1));
}

void *pool_take(Pool *pool, size_t size, size_t *ret_size)
{
    size_t block_size = block_size_for(size);
    void *block;

    if (block_size == 0)
        return NULL;
    if (block_size <= POOL_KEEP_BYTES)
        block = small_take(pool, (unsigned)__builtin_ctzll(block_size) - BLOCK_MIN_SHIFT);
    else
        block = slots_take(&pool->slots, block_size);
    if (block == NULL)
        return NULL;
    pool->bytes_taken += block_size;
    *ret_size = block_size;
    return block;
}

void pool_give(Pool *pool, void *block, size_t size)
{
    if (block == NULL)
        return;
    assert(size <= pool->bytes_taken);
    pool->bytes_taken -= size;
    if (size <= POOL_KEEP_BYTES)
        small_give(pool, block, size);
    else
        slots_give(&pool->slots, block, size);
}

void *pool_grow(Pool *pool, void *block, size_t block_size, size_t used, size_t size,
                size_t *ret_size)
{
    size_t new_size = block_size_for(size);
    void *grown;

    if (block != NULL && block_size > POOL_KEEP_BYTES && new_size > block_size) {
        grown = slots_grow(&pool->slots, block, block_size, new_size);
        if (grown == NULL)
            return NULL;
        pool->bytes_taken += new_size - block_size;
        *ret_size = new_size;
        return grown;
    }
    grown = pool_take(pool, size, ret_size);
    if (grown == NULL)
        return NULL;
    if (used > 0)
        memcpy(grown, block, used);
    pool_give(pool, block, block_size);
    return grown;
}

uint64_t pool_bytes_taken(const Pool *pool)
{
    return pool->bytes_taken;
}

uint64_t pool_bytes_mapped(const Pool *pool)
{
    return pool->bytes_mapped + pool->slots.mapped;
}
