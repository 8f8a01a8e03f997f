/* Unit tests of journal/record: what is written is read back, and nothing else passes for a record.
 */
#include "journal/record.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define ROOM (64 * KIB)

static uint64_t memory[ROOM / 8];

static const Identity identity = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const ArenaAttributes attributes = {
    .max_bytes = 123 * MIB, .uid = 1000, .gid = 2000, .mode = 0640};

static RecordWriter writer_over(size_t capacity)
{
    return (RecordWriter){.data = (uint8_t *)memory, .capacity = capacity};
}

/* One record with an operation of each kind. */
static size_t write_all(RecordWriter *writer)
{
    size_t bytes = 0;

    cr_assert(eq(int, record_begin(writer, 77, 123456789, &identity), 0));
    cr_assert(eq(int, record_create_arena(writer, "sessions", &attributes, 42), 0));
    cr_assert(eq(int, record_put(writer, BYTES_OF("key"), BYTES_OF("{\"a\":1}")), 0));
    cr_assert(eq(int, record_delete(writer, BYTES_OF("another")), 0));
    cr_assert(eq(int, record_change_arena(writer, &attributes), 0));
    cr_assert(eq(int, record_drop_arena(writer), 0));
    cr_assert(eq(int, record_end(writer, &bytes), 0));
    return bytes;
}

static void expect_attributes(const RecordOperation *operation, RecordKind kind, uint64_t created)
{
    cr_assert(eq(int, operation->kind, kind));
    cr_assert(eq(u64, operation->attributes.max_bytes, attributes.max_bytes));
    cr_assert(eq(u32, operation->attributes.uid, attributes.uid));
    cr_assert(eq(u32, operation->attributes.gid, attributes.gid));
    cr_assert(eq(u32, operation->attributes.mode, attributes.mode));
    cr_assert(eq(u64, operation->created_usec, created));
}

Test(record, every_kind_of_operation_comes_back)
{
    RecordWriter writer = writer_over(ROOM);
    size_t bytes = write_all(&writer);
    RecordOperation operation;
    Record record;

    cr_assert(eq(sz, bytes % 8, 0));
    cr_assert(eq(sz, bytes, writer.used));
    cr_assert(eq(int, record_open(memory, bytes, &record), 0));
    cr_assert(eq(u64, record.revision, 77));
    cr_assert(eq(u64, record.time_usec, 123456789));
    cr_assert(identity_equal(&record.identity, &identity));
    cr_assert(eq(u32, record.operations, 5));

    cr_assert(record_next_operation(&record, &operation));
    expect_attributes(&operation, RECORD_CREATE_ARENA, 42);
    cr_assert(bytes_equal(operation.key, BYTES_OF("sessions")));
    cr_assert(record_next_operation(&record, &operation));
    cr_assert(eq(int, operation.kind, RECORD_PUT));
    cr_assert(bytes_equal(operation.key, BYTES_OF("key")));
    cr_assert(bytes_equal(operation.value, BYTES_OF("{\"a\":1}")));
    cr_assert(record_next_operation(&record, &operation));
    cr_assert(eq(int, operation.kind, RECORD_DELETE));
    cr_assert(bytes_equal(operation.key, BYTES_OF("another")));
    cr_assert(record_next_operation(&record, &operation));
    expect_attributes(&operation, RECORD_CHANGE_ARENA, 0);
    cr_assert(record_next_operation(&record, &operation));
    cr_assert(eq(int, operation.kind, RECORD_DROP_ARENA));
    cr_assert(not(record_next_operation(&record, &operation)));
}

Test(record, a_discarded_record_leaves_nothing)
{
    RecordWriter writer = writer_over(ROOM);
    size_t bytes = write_all(&writer);

    cr_assert(eq(int, record_begin(&writer, 78, 0, &identity), 0));
    cr_assert(eq(int, record_put(&writer, BYTES_OF("k"), BYTES_OF("1")), 0));
    record_discard(&writer);
    record_discard(&writer);
    cr_assert(eq(sz, writer.used, bytes));
    cr_assert(eq(int, record_begin(&writer, 78, 0, &identity), 0));
    cr_assert(eq(int, record_end(&writer, NULL), -EINVAL), "it has no operation");
    cr_assert(eq(sz, writer.used, bytes));
}

Test(record, want_of_room_sticks_until_the_end)
{
    for (size_t capacity = 0; capacity < 200; capacity++) {
        RecordWriter writer = writer_over(capacity);
        int first = record_begin(&writer, 1, 0, &identity);
        int second = record_put(&writer, BYTES_OF("0123456789"), BYTES_OF("0123456789"));
        int third = record_delete(&writer, BYTES_OF("k"));
        bool fits = capacity >= 88; /* 48 + 8 + 20 + 8 + 1, in eights */
        int r = record_end(&writer, NULL);

        cr_assert(first == 0 || first == -ENOSPC);
        cr_assert(second == 0 || second == -ENOSPC);
        cr_assert(eq(int, r, fits ? 0 : -ENOSPC));
        cr_assert(third == r || fits);
        cr_assert(eq(sz, writer.used, fits ? 88 : 0));
    }
}

Test(record, a_record_beyond_the_limit_never_fits)
{
    size_t room = RECORD_BYTES_MAX + MIB;
    RecordWriter writer = {.data = aligned_alloc(8, room), .capacity = room};
    char *value = calloc(1, HOLDFAST_VALUE_MAX);
    int r = 0;

    cr_assert(eq(int, record_begin(&writer, 1, 0, &identity), 0));
    for (int i = 0; i < 8 && r == 0; i++)
        r = record_put(&writer, BYTES_OF("key"), BYTES(value, HOLDFAST_VALUE_MAX - 128));
    cr_assert(eq(int, r, 0));
    cr_assert(eq(int, record_put(&writer, BYTES_OF("key"), BYTES(value, 4096)), -E2BIG));
    cr_assert(eq(int, record_put(&writer, BYTES_OF("k"), BYTES_OF("1")), -E2BIG));
    cr_assert(eq(int, record_end(&writer, NULL), -E2BIG));
    cr_assert(eq(sz, writer.used, 0));
    free(value);
    free(writer.data);
}

Test(record, keys_values_and_names_outside_their_limits_are_refused)
{
    static char long_key[HOLDFAST_KEY_MAX + 1], long_value[HOLDFAST_VALUE_MAX + 1];
    char long_name[HOLDFAST_NAME_MAX + 2];
    RecordWriter writer = writer_over(ROOM);

    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    for (int i = 0; i < 6; i++) {
        int r = record_begin(&writer, 1, 0, &identity);
        cr_assert(eq(int, r, 0));
        switch (i) {
        case 0:
            r = record_put(&writer, (Bytes){0}, BYTES_OF("1"));
            break;
        case 1:
            r = record_put(&writer, BYTES(long_key, sizeof(long_key)), BYTES_OF("1"));
            break;
        case 2:
            r = record_put(&writer, BYTES_OF("k"), (Bytes){0});
            break;
        case 3:
            r = record_put(&writer, BYTES_OF("k"), BYTES(long_value, sizeof(long_value)));
            break;
        case 4:
            r = record_delete(&writer, BYTES(long_key, sizeof(long_key)));
            break;
        case 5:
            r = record_create_arena(&writer, long_name, &attributes, 1);
            break;
        }
        cr_assert(eq(int, r, -EINVAL));
        record_discard(&writer);
    }
}

Test(record, nothing_shorter_than_it_says_is_a_record)
{
    RecordWriter writer = writer_over(ROOM);
    size_t bytes = write_all(&writer);
    Record record;

    for (size_t size = 0; size < bytes; size++) {
        /* A copy of its own, so that a sanitizer sees what is read behind the end. */
        uint8_t *copy = aligned_alloc(8, ALIGN_UP(MAX(size, 1), 8));
        memcpy(copy, memory, size);
        cr_assert(eq(int, record_open(copy, size, &record), -EBADMSG));
        free(copy);
    }
}

Test(record, a_checksum_holds_the_bytes_and_their_place)
{
    RecordWriter writer = writer_over(ROOM);
    size_t bytes = write_all(&writer);
    uint8_t *data = (uint8_t *)memory;

    record_seal(data, 4711);
    cr_assert(record_sealed(data, 4711));
    cr_assert(not(record_sealed(data, 4712)));
    for (size_t i = 0; i < bytes; i++) {
        /* The length is checked before the checksum is. */
        if (i >= offsetof(RecordHeader, bytes) && i < offsetof(RecordHeader, operations))
            continue;
        data[i] ^= 0x10;
        cr_assert(not(record_sealed(data, 4711)), "byte %zu", i);
        data[i] ^= 0x10;
    }
}

static bool inside(Bytes bytes, const uint8_t *data, size_t size)
{
    const uint8_t *begin = (const uint8_t *)bytes.data;
    return bytes.size == 0 || (begin >= data && begin + bytes.size <= data + size);
}

Test(record, whatever_the_bytes_are_the_walk_stays_inside)
{
    RecordWriter writer = writer_over(ROOM);
    size_t bytes = write_all(&writer);
    uint8_t *copy = aligned_alloc(8, bytes);
    unsigned opened = 0;

    for (size_t i = 0; i < bytes; i++) {
        for (unsigned value = 0; value < 256; value++) {
            RecordOperation operation;
            Record record;
            memcpy(copy, memory, bytes);
            copy[i] = (uint8_t)value;
            if (record_open(copy, bytes, &record) < 0)
                continue;
            opened++;
            unsigned count = 0;
            while (record_next_operation(&record, &operation)) {
                cr_assert(inside(operation.key, copy, bytes));
                cr_assert(inside(operation.value, copy, bytes));
                count++;
            }
            cr_assert(eq(uint, count, record.operations));
        }
    }
    cr_assert(gt(uint, opened, 0));
    free(copy);
}
