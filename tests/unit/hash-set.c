/* protocol/hash-set: what was added is found again, whatever the hashes are like; memory is bounded
 * and comes back. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "base/pool.h"
#include "protocol/hash-set.h"

#define FIRST_SLOTS 256

static Pool *pool;
static HashSet set;
static uint64_t slots[FIRST_SLOTS];

static void set_up(void)
{
    cr_assert(eq(int, pool_new(NULL, &pool), 0));
    hash_set_init(&set, pool, slots, FIRST_SLOTS);
}

static void tear_down(void)
{
    cr_assert(eq(u64, pool_bytes_taken(pool), set.bytes));
    hash_set_deinit(&set);
    cr_assert(eq(u64, pool_bytes_taken(pool), 0));
    pool_free(pool);
}

TestSuite(hash_set, .init = set_up, .fini = tear_down);

/* The i-th of a sequence without repetitions (splitmix64). */
static uint64_t hash_of(uint64_t i)
{
    uint64_t z = i * UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* All are new, and then none is. */
static void add_twice(size_t count, uint64_t (*hash)(uint64_t i))
{
    for (int again = 0; again < 2; again++)
        for (size_t i = 1; i <= count; i++)
            cr_assert(
                eq(int, hash_set_add(&set, hash(i)), again ? HASH_SET_DUPLICATE : HASH_SET_NEW),
                "hash %zu", i);
}

Test(hash_set, finds_what_was_added)
{
    add_twice(1000000, hash_of);
    cr_assert(le(u64, set.bytes, 24 * 1000000));
}

Test(hash_set, few_hashes_take_no_memory)
{
    add_twice(FIRST_SLOTS * 3 / 4, hash_of);
    cr_assert(eq(u64, set.bytes, 0));
}

Test(hash_set, zero_is_a_hash_like_any_other)
{
    cr_assert(eq(int, hash_set_add(&set, 0), HASH_SET_NEW));
    cr_assert(eq(int, hash_set_add(&set, 0), HASH_SET_DUPLICATE));
}

static uint64_t alike_above(uint64_t i)
{
    return i << 12;
}

Test(hash_set, hashes_alike_in_their_uppermost_bits)
{
    add_twice(50000, alike_above);
    cr_assert(le(u64, set.bytes, 8 * MIB));
}

static uint64_t alike_but_for_one_bit(uint64_t i)
{
    return (hash_of(i) >> 30) | (i & 1) << 63;
}

Test(hash_set, one_half_of_the_directory_alone_grows)
{
    add_twice(50000, alike_but_for_one_bit);
}

static uint64_t alike_below(uint64_t i)
{
    return hash_of(i) & ~UINT64_C(0xFFFFF00000);
}

Test(hash_set, hashes_alike_in_the_bits_that_choose_the_slot)
{
    add_twice(5000, alike_below);
}

/* No addition moves more than one bucket: between two looks at the clock that is what a client who
 * sends many names may cost the others. */
Test(hash_set, grows_by_a_bucket_at_a_time)
{
    size_t before = set.bytes, most = 0;

    for (uint64_t i = 1; i <= 1000000; i++) {
        cr_assert(eq(int, hash_set_add(&set, hash_of(i)), HASH_SET_NEW));
        most = MAX(most, set.bytes - MIN(before, set.bytes));
        before = set.bytes;
    }
    cr_assert(le(u64, most, 64 * KIB));
}
