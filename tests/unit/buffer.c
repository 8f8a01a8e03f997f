/* Unit tests of base/buffer. */
#include "base/buffer.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/resource.h>

static Pool *pool;
static Buffer buffer;

static void setup(void)
{
    cr_assert(eq(int, pool_new(NULL, &pool), 0));
    buffer_init(&buffer, pool);
}

static void teardown(void)
{
    buffer_clear(&buffer);
    cr_expect(eq(u64, pool_bytes_taken(pool), 0), "all memory is given back");
    pool_free(pool);
}

TestSuite(buffer, .init = setup, .fini = teardown);

static void assert_text(const char *expected)
{
    cr_assert(eq(sz, buffer_size(&buffer), strlen(expected)));
    cr_assert(eq(int, memcmp(buffer_begin(&buffer), expected, strlen(expected)), 0));
}

Test(buffer, appends_in_order)
{
    buffer_append_text(&buffer, "one ");
    buffer_append_bytes(&buffer, BYTES_OF("two "));
    buffer_append_bytes(&buffer, BYTES(NULL, 0));
    buffer_append_format(&buffer, "%d %s", 3, "four");
    assert_text("one two 3 four");
    cr_assert(not(buffer.failed));
}

Test(buffer, format_fits_exactly_at_the_end_of_a_block)
{
    for (size_t room = 0; room < 8; room++) {
        buffer_clear(&buffer);
        cr_assert(ne(ptr, buffer_reserve(&buffer, 4096), NULL));
        memset(buffer.data, 'x', 4096 - room);
        buffer.end = 4096 - room;
        buffer_append_format(&buffer, "%s", "12345");
        cr_assert(eq(sz, buffer_size(&buffer), 4096 - room + 5));
        cr_assert(eq(int, memcmp(buffer.data + buffer.end - 6, "x12345", 6), 0));
    }
}

Test(buffer, starts_over_when_all_is_consumed)
{
    buffer_append_text(&buffer, "abc");
    buffer_consume(&buffer, 1);
    assert_text("bc");
    buffer_consume(&buffer, 2);
    cr_assert(eq(sz, buffer.begin, 0));
    cr_assert(eq(sz, buffer_size(&buffer), 0));
}

Test(buffer, truncate_counts_from_begin)
{
    buffer_append_text(&buffer, "abcdef");
    buffer_consume(&buffer, 2);
    buffer_truncate(&buffer, 3);
    assert_text("cde");
    buffer_truncate(&buffer, 0);
    cr_assert(eq(sz, buffer.begin, 0));
}

Test(buffer, reuses_consumed_room_instead_of_growing)
{
    char block[1000];
    size_t capacity;

    memset(block, 'y', sizeof(block));
    for (int i = 0; i < 4; i++)
        buffer_append(&buffer, block, sizeof(block));
    capacity = buffer.capacity;
    for (int i = 0; i < 1000; i++) {
        buffer_consume(&buffer, 3 * sizeof(block));
        for (int j = 0; j < 3; j++)
            buffer_append(&buffer, block, sizeof(block));
    }
    cr_assert(eq(sz, buffer.capacity, capacity));
    cr_assert(eq(sz, buffer_size(&buffer), 4 * sizeof(block)));
}

/* A queue of random appends and consumes against a plain count: every byte comes out as it went in.
 */
Test(buffer, bytes_come_out_as_they_went_in)
{
    uint64_t random = 0x9e3779b97f4a7c15, in = 0, out = 0;
    unsigned char bytes[5000];

    for (int round = 0; round < 5000; round++) {
        size_t size;

        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size = random % sizeof(bytes);
        if ((random >> 40) % 2 == 0) {
            for (size_t i = 0; i < size; i++)
                bytes[i] = (unsigned char)((in + i) * 31);
            buffer_append(&buffer, bytes, size);
            in += size;
        } else {
            size = MIN(size, buffer_size(&buffer));
            for (size_t i = 0; i < size; i++)
                cr_assert(eq(uint, (unsigned char)buffer_begin(&buffer)[i],
                             (unsigned char)((out + i) * 31)));
            buffer_consume(&buffer, size);
            out += size;
        }
    }
    cr_assert(eq(u64, buffer_size(&buffer), in - out));
    cr_assert(not(buffer.failed));
}

Test(buffer, want_of_memory_is_remembered_and_changes_nothing)
{
    buffer_append_text(&buffer, "kept");
    cr_assert(eq(ptr, buffer_reserve(&buffer, SIZE_MAX), NULL));
    cr_assert(buffer.failed);
    assert_text("kept");
    buffer_clear(&buffer);
    cr_assert(not(buffer.failed));
    buffer_append_text(&buffer, "again");
    assert_text("again");
}

Test(buffer, shrink_leaves_live_bytes_and_small_blocks_alone)
{
    cr_assert(ne(ptr, buffer_reserve(&buffer, 3 * MIB), NULL));
    buffer_append_text(&buffer, "x");
    buffer_shrink(&buffer, 64 * KIB);
    assert_text("x");
    buffer_consume(&buffer, 1);
    buffer_shrink(&buffer, 4 * MIB);
    cr_assert(eq(sz, buffer.capacity, 4 * MIB));
    buffer_shrink(&buffer, 64 * KIB);
    cr_assert(eq(sz, buffer.capacity, 0));
    buffer_append_text(&buffer, "y");
    assert_text("y");
}
