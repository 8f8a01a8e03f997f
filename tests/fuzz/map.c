/* Fuzz target: the library's reader over an arena's memory that cannot be trusted. A valid small
 * one is built once; an input is the damage done to a copy of it, in a memfd that is sealed as the
 * daemon's are; then everything in it is read, one by one, together, and all. The damages have 8
 * bytes each: place (4 bytes, the upper two bits how the place is meant), width and how it is
 * meant, value (2 bytes).
 *
 * Held beside the sanitizers: answers are the documented ones, values are as long as was said and
 * within the caller's buffer, and the time is bounded (the runner's limit for one input). The
 * mapping ends where the memfd does but for address space without memory, so reading beyond it is a
 * fault. */
#include <errno.h>
#include <fcntl.h>
#include <holdfast.h>
#include <stdio.h>

#include "../../client/lib/map.h"
#include "arena/arena.h"
#include "base/file.h"
#include "base/pool.h"

#define MAX_BYTES (2 * MIB)
#define ENTRIES 300
#define DAMAGE_BYTES 8
#define DAMAGES_MAX 64

typedef struct Fuzz {
    uint8_t *valid;
    size_t size;       /* of the memfd */
    size_t high_water; /* bytes that count */
    char *buffer;      /* of exactly HOLDFAST_VALUE_MAX bytes, so that one more is noticed */
} Fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds, const char *what, int r)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %d\n", what, r);
    abort();
}

static size_t key_of(unsigned number, char text[16])
{
    return (size_t)snprintf(text, 16, "key-%u", number);
}

/* Slabs of several classes, large runs, overflow buckets, an index of a few hundred buckets. */
static void fuzz_init(Fuzz *fuzz)
{
    static const Identity identity = {.bytes = "0123456789abcde"};
    static char value[16 * KIB];
    ArenaAttributes attributes = {.max_bytes = MAX_BYTES, .uid = 1, .gid = 2, .mode = 0640};
    ArenaContext context = {0};
    Arena *arena;
    uint64_t size;

    memset(value, 'v', sizeof(value));
    must(pool_new(NULL, &context.pool) == 0, "pool", 0);
    must(arena_new(&context, "fuzzed", &identity, &attributes, 77, 5, &arena) == 0, "new", 0);
    for (unsigned i = 0; i < ENTRIES; i++) {
        char key[16];
        size_t key_bytes = key_of(i, key);
        arena_begin(arena);
        must(arena_put(arena, BYTES(key, key_bytes),
                       BYTES(value, i % 50 == 7 ? 9000 : 1 + i * 7 % 400), i + 1) == 0,
             "put", 0);
        must(arena_prepare(arena, i + 1) == 0, "prepare", 0);
        arena_commit(arena);
    }
    must(file_size(arena_fd(arena), &size) == 0, "size", 0);
    fuzz->size = (size_t)size;
    fuzz->high_water = MIN((size_t)arena_high_water_pages(arena) * HOLDFAST_PAGE_BYTES, fuzz->size);
    fuzz->valid = malloc(fuzz->size);
    fuzz->buffer = malloc(HOLDFAST_VALUE_MAX);
    must(fuzz->valid != NULL && fuzz->buffer != NULL, "no memory", 0);
    must(file_read_at(arena_fd(arena), fuzz->valid, fuzz->size, 0) == 0, "read", 0);
    arena_free(arena);
    pool_free(context.pool);
}

/* --- damage */

/* Anywhere, in the header, at a multiple of 8, in a bucket of the index (its first segment is
 * found as the reader finds it). */
static size_t place_of(const Fuzz *fuzz, uint32_t word)
{
    const HoldfastHeader *header = (const HoldfastHeader *)fuzz->valid;
    size_t place = word & 0x3fffffff;
    uint32_t segment;

    switch (word >> 30) {
    case 1:
        return place % HOLDFAST_PAGE_BYTES;
    case 2:
        return place * 8 % fuzz->high_water;
    case 3:
        memcpy(&segment, fuzz->valid + header->directories[0] * (size_t)HOLDFAST_PAGE_BYTES,
               sizeof(segment));
        return segment * (size_t)HOLDFAST_PAGE_BYTES +
               place * 8 % (header->counters.buckets * sizeof(HoldfastBucket));
    default:
        return place % fuzz->high_water;
    }
}

/* Added, stored, or-ed: a bit that flips, an offset a little off, a length that is all ones. */
static void damage_one(const Fuzz *fuzz, int fd, const uint8_t *data)
{
    static const size_t widths[] = {1, 2, 4, 8};
    size_t width = widths[data[4] % 4];
    uint32_t word;
    uint16_t operand;
    uint64_t value = 0;

    memcpy(&word, data, sizeof(word));
    memcpy(&operand, data + 6, sizeof(operand));
    size_t place = MIN(place_of(fuzz, word), fuzz->size - width);
    must(file_read_at(fd, &value, width, place) == 0, "read", 0);
    switch (data[5] % 4) {
    case 0:
        value += (uint64_t)(int64_t)(int16_t)operand;
        break;
    case 1:
        value = operand;
        break;
    case 2:
        value |= ~UINT64_C(0) << (operand % 64);
        break;
    default:
        value ^= UINT64_C(1) << (operand % 64);
        break;
    }
    must(file_write_at(fd, &value, width, place) == 0, "write", 0);
}

static int damaged_memory(const Fuzz *fuzz, const uint8_t *data, size_t size)
{
    int fd = -1;

    must(file_memfd("fuzzed", fuzz->size, &fd) == 0, "memfd", 0);
    must(file_write_at(fd, fuzz->valid, fuzz->high_water, 0) == 0, "write", 0);
    must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0, "seals", errno);
    for (size_t i = 0; i < DAMAGES_MAX && size >= DAMAGE_BYTES; i++) {
        damage_one(fuzz, fd, data);
        data += DAMAGE_BYTES;
        size -= DAMAGE_BYTES;
    }
    return fd;
}

/* --- reading */

static bool expected(int r)
{
    return r == 0 || r == -ENOENT || r == -ENOBUFS || r == -EBADMSG || r == -EAGAIN || r == -ESTALE;
}

static void read_each(Fuzz *fuzz, HoldfastMap *map)
{
    for (unsigned i = 0; i < ENTRIES + 20; i++) {
        char key[16];
        size_t length = 0, size = i % 3 == 0 ? 64 : HOLDFAST_VALUE_MAX;
        uint64_t revision = 0;
        size_t key_bytes = key_of(i, key);
        int r = holdfast_map_get(map, key, key_bytes, fuzz->buffer, size, &length, &revision);
        must(expected(r), "get", r);
        must(r != 0 || (length > 0 && length <= size && revision != 0), "length", (int)length);
        must(r != -ENOBUFS || length > size, "too large", (int)length);
    }
}

static void read_together(Fuzz *fuzz, HoldfastMap *map)
{
    HoldfastMapEntry entries[40] = {0};
    char keys[40][16];
    size_t length = 0;

    for (unsigned i = 0; i < 40; i++)
        entries[i].key = (HoldfastText){keys[i], key_of(i * 9, keys[i])};
    int r = holdfast_map_get_many(map, entries, 40, fuzz->buffer, 64 * KIB, &length, NULL);
    must(expected(r), "get_many", r);
    for (unsigned i = 0; i < 40; i++)
        if (entries[i].json != NULL)
            must(r == 0 && entries[i].json >= fuzz->buffer &&
                     entries[i].json + entries[i].json_length <= fuzz->buffer + length &&
                     length <= 64 * KIB,
                 "outside", (int)i);
}

static int see(void *context, const HoldfastItem *item)
{
    size_t *bytes = context;

    /* Its texts end where they say. */
    must(item->key[item->key_length] == '\0' && item->json[item->json_length] == '\0', "end", 0);
    *bytes += item->key_length + item->json_length;
    return 0;
}

static void read_all(HoldfastMap *map)
{
    size_t bytes = 0;
    int r = holdfast_map_iterate(map, see, &bytes, NULL);

    must(expected(r) || r == HOLDFAST_MAP_CHANGED, "iterate", r);
    r = holdfast_map_wait(map, 17, 0, NULL);
    must(expected(r) || r == -ETIMEDOUT, "wait", r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Fuzz fuzz;
    HoldfastMap *map;

    if (fuzz.valid == NULL)
        fuzz_init(&fuzz);
    int fd = damaged_memory(&fuzz, data, size);
    int r = hf_map_new(fd, &map);
    if (r < 0) {
        must(r == -EPROTO || r == -EPROTONOSUPPORT || r == -ESTALE, "new", r);
        close(fd);
        return 0;
    }
    read_each(&fuzz, map);
    read_together(&fuzz, map);
    read_all(map);
    holdfast_map_close(map);
    return 0;
}
