/* Unit tests of base/pool: reuse, sizes, growth, and that a forked child does not get the memory.
 */
#include "base/pool.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/housekeeper.h"

static Pool *new_pool(Housekeeper *housekeeper)
{
    Pool *pool = NULL;

    cr_assert(eq(int, pool_new(housekeeper, &pool), 0));
    return pool;
}

Test(pool, blocks_are_powers_of_two_and_at_least_as_large_as_asked)
{
    static const size_t asked[] = {0, 1, 4096, 4097, 60000, 65536, MIB - 1, MIB, MIB + 1, 5 * MIB};
    Pool *pool = new_pool(NULL);
    size_t size, total = 0;
    void *blocks[ARRAY_SIZE(asked)];
    size_t sizes[ARRAY_SIZE(asked)];

    for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
        blocks[i] = pool_take(pool, asked[i], &size);
        cr_assert(ne(ptr, blocks[i], NULL));
        cr_assert(ge(sz, size, MAX(asked[i], (size_t)POOL_BLOCK_MIN)));
        cr_assert(eq(sz, size & (size - 1), 0));
        cr_assert(lt(sz, size, MAX(2 * asked[i], (size_t)2 * POOL_BLOCK_MIN)));
        memset(blocks[i], (int)i + 1, size);
        sizes[i] = size;
        total += size;
    }
    cr_assert(eq(u64, pool_bytes_taken(pool), total));
    for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
        const unsigned char *bytes = blocks[i];

        for (size_t at = 0; at < sizes[i]; at += 512)
            cr_assert(eq(uint, bytes[at], (unsigned)i + 1), "block %zu was overwritten", i);
        pool_give(pool, blocks[i], sizes[i]);
    }
    cr_assert(eq(u64, pool_bytes_taken(pool), 0));
    pool_free(pool);
}

Test(pool, sizes_that_no_machine_has_are_refused)
{
    Pool *pool = new_pool(NULL);
    size_t size;

    cr_assert(eq(ptr, pool_take(pool, SIZE_MAX, &size), NULL));
    cr_assert(eq(ptr, pool_take(pool, (SIZE_MAX >> 1) + 2, &size), NULL));
    cr_assert(eq(u64, pool_bytes_taken(pool), 0));
    pool_free(pool);
}

/* Pseudo-random takes and gives over all classes; each block carries its own pattern. */
Test(pool, blocks_never_overlap)
{
    enum { SLOTS = 64, ROUNDS = 20000 };
    Pool *pool = new_pool(NULL);
    uint64_t *blocks[SLOTS] = {NULL};
    size_t sizes[SLOTS];
    uint64_t random = 88172645463325252u;

    for (uint64_t round = 0; round < ROUNDS; round++) {
        size_t slot;

        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        slot = random % SLOTS;
        if (blocks[slot] != NULL) {
            cr_assert(eq(u64, blocks[slot][0], slot));
            cr_assert(eq(u64, blocks[slot][sizes[slot] / 8 - 1], ~(uint64_t)slot));
            pool_give(pool, blocks[slot], sizes[slot]);
            blocks[slot] = NULL;
        } else {
            size_t size = (size_t)1 << (random >> 32) % 22;

            blocks[slot] = pool_take(pool, size, &sizes[slot]);
            cr_assert(ne(ptr, blocks[slot], NULL));
            blocks[slot][0] = slot;
            blocks[slot][sizes[slot] / 8 - 1] = ~(uint64_t)slot;
        }
    }
    for (size_t slot = 0; slot < SLOTS; slot++)
        pool_give(pool, blocks[slot], sizes[slot]);
    cr_assert(eq(u64, pool_bytes_taken(pool), 0));
    pool_free(pool);
}

Test(pool, memory_of_one_size_serves_another_once_it_is_back)
{
    enum { COUNT = 1024 };
    Pool *pool = new_pool(NULL);
    void *blocks[COUNT];
    size_t size;
    uint64_t mapped;

    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = pool_take(pool, 4096, &size);
    mapped = pool_bytes_mapped(pool);
    cr_assert(eq(u64, mapped, COUNT * 4096));
    for (size_t i = 0; i < COUNT; i++)
        pool_give(pool, blocks[i], 4096);
    for (size_t i = 0; i < COUNT / 256; i++)
        blocks[i] = pool_take(pool, MIB, &size);
    cr_assert(eq(u64, pool_bytes_mapped(pool), mapped), "no new memory was needed");
    for (size_t i = 0; i < COUNT / 256; i++)
        pool_give(pool, blocks[i], MIB);
    pool_free(pool);
}

Test(pool, grow_keeps_the_used_bytes_from_the_least_to_large_blocks)
{
    Pool *pool = new_pool(NULL);
    size_t size, grown_size;
    unsigned char *block = pool_take(pool, 1, &size);

    block[0] = 0;
    while (size < 128 * MIB) {
        unsigned char *grown = pool_grow(pool, block, size, size, size + 1, &grown_size);

        cr_assert(ne(ptr, grown, NULL));
        cr_assert(eq(sz, grown_size, 2 * size));
        for (size_t at = 0; at < size; at += 4096)
            cr_assert(eq(uint, grown[at], (unsigned char)(at / 4096)));
        for (size_t at = size; at < grown_size; at += 4096)
            grown[at] = (unsigned char)(at / 4096);
        block = grown;
        size = grown_size;
        cr_assert(eq(u64, pool_bytes_taken(pool), size));
    }
    pool_give(pool, block, size);
    pool_free(pool);
}

Test(pool, a_large_block_grows_where_it_is_and_leaves_its_pages_to_the_next)
{
    Pool *pool = new_pool(NULL);
    unsigned char *first = NULL, resident[16 * MIB / 4096];
    size_t size;

    for (int round = 0; round < 3; round++) {
        unsigned char *block = pool_take(pool, 2 * MIB, &size);

        while (size < 16 * MIB)
            cr_assert(eq(ptr, pool_grow(pool, block, size, size, size + 1, &size), block));
        cr_assert(eq(u64, pool_bytes_mapped(pool), 16 * MIB));
        if (round == 0)
            first = block;
        cr_assert(eq(ptr, block, first));
        cr_assert(eq(int, mincore(block, 16 * MIB, resident), 0));
        for (size_t i = 0; i < sizeof(resident); i++)
            cr_assert(eq(int, resident[i] & 1, round > 0), "page %zu in round %d", i, round);
        memset(block, round, size);
        pool_give(pool, block, size);
        cr_assert(eq(u64, pool_bytes_taken(pool), 0));
        cr_assert(eq(u64, pool_bytes_mapped(pool), 16 * MIB));
    }
    pool_free(pool);
}

/* What a small block has of a large one's pages counts as kept: else each of many could have them.
 */
Test(pool, pages_behind_a_block_are_bounded_too)
{
    enum { COUNT = 16 };
    Pool *pool = new_pool(NULL);
    void *small[COUNT];
    size_t size;

    for (int i = 0; i < COUNT; i++) {
        void *large = pool_take(pool, 16 * MIB, &size);

        pool_give(pool, large, size);
        small[i] = pool_take(pool, 2 * MIB, &size);
        cr_assert(le(u64, pool_bytes_mapped(pool), pool_bytes_taken(pool) + 32 * MIB));
    }
    for (int i = 0; i < COUNT; i++)
        pool_give(pool, small[i], 2 * MIB);
    cr_assert(le(u64, pool_bytes_mapped(pool), 32 * MIB));
    pool_free(pool);
}

Test(pool, address_space_of_many_large_blocks_goes_back)
{
    enum { COUNT = 40 };
    Housekeeper *housekeeper;
    Pool *pool;
    void *blocks[COUNT];
    unsigned char resident;
    unsigned there = 0;
    size_t size;

    cr_assert(eq(int, housekeeper_new(&housekeeper), 0));
    pool = new_pool(housekeeper);
    for (int i = 0; i < COUNT; i++)
        blocks[i] = pool_take(pool, 2 * MIB, &size);
    for (int i = 0; i < COUNT; i++)
        pool_give(pool, blocks[i], size);
    housekeeper_drain(housekeeper);
    for (int i = 0; i < COUNT; i++)
        there += mincore(blocks[i], 4096, &resident) == 0;
    cr_assert(le(uint, there, 16));
    pool_free(pool);
    housekeeper_free(housekeeper);
}

static void blocks_are_bounded(Housekeeper *housekeeper)
{
    enum { COUNT = 64 };
    Pool *pool = new_pool(housekeeper);
    void *blocks[COUNT];
    size_t size;

    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = pool_take(pool, 2 * MIB, &size);
    cr_assert(eq(u64, pool_bytes_mapped(pool), COUNT * 2 * MIB));
    for (size_t i = 0; i < COUNT; i++)
        pool_give(pool, blocks[i], 2 * MIB);
    cr_assert(le(u64, pool_bytes_mapped(pool), 32 * MIB));
    cr_assert(gt(u64, pool_bytes_mapped(pool), 0), "some are kept for reuse");
    pool_free(pool);
}

Test(pool, only_a_few_large_blocks_are_kept)
{
    blocks_are_bounded(NULL);
}

Test(pool, large_blocks_go_back_through_the_housekeeper)
{
    Housekeeper *housekeeper;

    cr_assert(eq(int, housekeeper_new(&housekeeper), 0));
    blocks_are_bounded(housekeeper);
    housekeeper_free(housekeeper);
}

Test(pool, chunks_that_nobody_uses_go_back_to_the_system)
{
    enum { COUNT = 40 };
    Housekeeper *housekeeper;
    Pool *pool;
    void *blocks[COUNT];
    size_t size;

    cr_assert(eq(int, housekeeper_new(&housekeeper), 0));
    pool = new_pool(housekeeper);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            blocks[i] = pool_take(pool, MIB, &size);
            cr_assert(ne(ptr, blocks[i], NULL));
            *(uint64_t *)blocks[i] = i;
        }
        cr_assert(eq(u64, pool_bytes_mapped(pool), COUNT * MIB));
        for (size_t i = 0; i < COUNT; i++) {
            cr_assert(eq(u64, *(uint64_t *)blocks[i], i));
            pool_give(pool, blocks[i], MIB);
        }
        cr_assert(eq(u64, pool_bytes_mapped(pool), 16 * MIB));
        if (round == 1)
            housekeeper_drain(housekeeper);
    }
    pool_free(pool);
    housekeeper_free(housekeeper);
}

Test(pool, a_forked_child_has_neither_small_nor_large_blocks)
{
    static const size_t sizes[] = {4096, 2 * MIB, 8 * MIB};
    Pool *pool = new_pool(NULL);
    void *blocks[ARRAY_SIZE(sizes)];
    size_t size;
    pid_t child;
    int status;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        blocks[i] = pool_take(pool, sizes[i], &size);
        *(char *)blocks[i] = 'x';
    }
    /* The last one once more after it was moved. */
    while (size < 64 * MIB)
        blocks[2] = pool_grow(pool, blocks[2], size, size, size + 1, &size);
    child = fork();
    if (child == 0) {
        unsigned char resident;
        int present = 0;

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
            present += mincore(blocks[i], 4096, &resident) == 0 || errno != ENOMEM;
        _exit(present);
    }
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    cr_assert(eq(int, WIFEXITED(status), true));
    cr_assert(eq(int, WEXITSTATUS(status), 0), "blocks that the child can see");
    pool_give(pool, blocks[0], 4096);
    pool_give(pool, blocks[1], 2 * MIB);
    pool_give(pool, blocks[2], size);
    pool_free(pool);
}
