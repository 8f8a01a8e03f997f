/* Fuzz target: an arena whose memory cannot be trusted. A valid small one is built once; an input
 * is the damage done to a copy of it, then it is opened, read, checked and changed. The first byte
 * says how: its lowest bit, whether it is read before it is changed. Then follow damages of 8 bytes
 * each: place (4 bytes, the upper two bits how the place is meant), width and value.
 *
 * Held beside the sanitizers: answers are the documented ones, a walk ends, and the time is bounded
 * (the runner's limit for one input). The mapping ends where the memfd does, so reading beyond it
 * is a fault; the memory before the arena's is not its own either. */
#include <stdio.h>
#include <sys/mman.h>

#include "arena/arena.h"
#include "base/file.h"
#include "base/pool.h"

#define MAX_BYTES (4 * MIB)
#define ENTRIES 300
#define OPERATIONS 40
#define DAMAGE_BYTES 8
#define DAMAGES_MAX 64

typedef struct Fuzz {
    ArenaContext context;
    uint8_t *valid;
    size_t size;       /* of the memfd, holes included */
    size_t high_water; /* bytes that count */
    uint64_t revision;
} Fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds, const char *what, int r)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %d\n", what, r);
    abort();
}

/* As if it were of another layout: what comes out is whole. */
static void convert(const Fuzz *fuzz, int fd)
{
    ArenaReport report;
    Arena *arena;
    int r = arena_convert(&fuzz->context, fd, &arena);

    must(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT || r == -EBUSY || r == -ESTALE ||
             r == -ENOMEM,
         "convert", r);
    if (r != 0)
        return;
    must(arena_check(arena, &report) == 0, "what was converted is damaged", 0);
    arena_free(arena);
}

/* --- the valid one */

static Bytes key_of(unsigned number, char text[16])
{
    int length = snprintf(text, 16, "key-%u", number);

    return BYTES(text, (size_t)length);
}

static int put(Arena *arena, unsigned number, size_t bytes, uint64_t revision)
{
    static char value[16 * KIB];
    char key[16];
    int r;

    memset(value, 'v', bytes);
    arena_begin(arena);
    r = arena_put(arena, key_of(number, key), BYTES(value, bytes), revision);
    if (r == 0)
        r = arena_prepare(arena, revision);
    if (r == 0)
        arena_commit(arena);
    else
        arena_abort(arena);
    return r;
}

static int delete (Arena *arena, unsigned number, uint64_t revision)
{
    char key[16];
    int r;

    arena_begin(arena);
    r = arena_delete(arena, key_of(number, key));
    if (r == 0)
        r = arena_prepare(arena, revision);
    if (r == 0)
        arena_commit(arena);
    else
        arena_abort(arena);
    return r;
}

static void fuzz_init(Fuzz *fuzz)
{
    static const Identity identity = {.bytes = "0123456789abcde"};
    ArenaAttributes attributes = {.max_bytes = MAX_BYTES, .uid = 1, .gid = 2, .mode = 0640};
    Pool *pool;
    Arena *arena;
    uint64_t size;

    must(pool_new(NULL, &pool) == 0, "pool", 0);
    fuzz->context = (ArenaContext){.pool = pool};
    must(arena_new(&fuzz->context, "fuzzed", &identity, &attributes, 77, 5, &arena) == 0, "new", 0);
    /* Slabs of several classes, large runs, free blocks and free runs. */
    for (unsigned i = 0; i < ENTRIES; i++)
        must(put(arena, i, i % 50 == 7 ? 9000 : 1 + i * 7 % 400, ++fuzz->revision) == 0, "put", 0);
    for (unsigned i = 0; i < ENTRIES; i += 4)
        must(delete (arena, i, ++fuzz->revision) == 0, "delete", 0);
    must(delete (arena, 57, ++fuzz->revision) == 0, "delete", 0);
    must(file_size(arena_fd(arena), &size) == 0, "size", 0);
    fuzz->size = (size_t)size;
    fuzz->high_water = (size_t)(arena_used_bytes(arena) + 512 * KIB);
    fuzz->high_water = MIN(fuzz->high_water, fuzz->size);
    fuzz->valid = malloc(fuzz->size);
    must(fuzz->valid != NULL, "no memory", 0);
    must(file_read_at(arena_fd(arena), fuzz->valid, fuzz->size, 0) == 0, "read", 0);
    arena_free(arena);
    while (fuzz->high_water > HOLDFAST_PAGE_BYTES && fuzz->valid[fuzz->high_water - 1] == 0)
        fuzz->high_water--;
}

/* --- damage */

/* Where it is done: anywhere, in the header, in the first descriptors and directories, at a
 * multiple of 8. */
static size_t place_of(const Fuzz *fuzz, uint32_t word)
{
    size_t place = word & 0x3fffffff;

    switch (word >> 30) {
    case 1:
        return place % HOLDFAST_PAGE_BYTES;
    case 2:
        return HOLDFAST_PAGE_BYTES + place % (4 * (size_t)HOLDFAST_PAGE_BYTES);
    case 3:
        return place * 8 % fuzz->high_water;
    default:
        return place % fuzz->high_water;
    }
}

static void damage_one(const Fuzz *fuzz, uint8_t *memory, const uint8_t *data)
{
    /* Added, stored, or-ed: a bit that flips, an offset a little off, a length that is all ones. */
    static const size_t widths[] = {1, 2, 4, 8};
    size_t width = widths[data[4] % 4], place;
    uint32_t word;
    uint16_t operand;
    uint64_t value = 0;

    memcpy(&word, data, sizeof(word));
    memcpy(&operand, data + 6, sizeof(operand));
    place = MIN(place_of(fuzz, word), fuzz->high_water - width);
    memcpy(&value, memory + place, width);
    switch (data[5] % 4) {
    case 0:
        value += (uint64_t)(int64_t)(int16_t)operand;
        break;
    case 1:
        value = operand;
        break;
    case 2:
        value ^= UINT64_C(1) << operand % 64;
        break;
    default:
        value |= ~UINT64_C(0) << operand % 64;
    }
    memcpy(memory + place, &value, width);
}

/* A memfd with the damaged copy in it: as sparse as the pages that are all zero allow. */
static int damaged_copy(const Fuzz *fuzz, const uint8_t *data, size_t size)
{
    uint8_t *memory;
    int fd;

    must(file_memfd("holdfast-fuzzed", fuzz->size, &fd) == 0, "memfd", 0);
    must(file_write_at(fd, fuzz->valid, fuzz->high_water, 0) == 0, "write", 0);
    memory = mmap(NULL, fuzz->high_water, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(memory != MAP_FAILED, "mmap", 0);
    for (size_t i = 0; i < DAMAGES_MAX && (i + 1) * DAMAGE_BYTES <= size; i++)
        damage_one(fuzz, memory, data + i * DAMAGE_BYTES);
    munmap(memory, fuzz->high_water);
    return fd;
}

/* --- use */

static bool outcome(int r)
{
    return r == 0 || r == ARENA_NO_ENTRY || r == ARENA_FULL || r == ARENA_COLLISIONS ||
           r == ARENA_DAMAGED || r == -ENOMEM;
}

static unsigned sum_of(Bytes bytes)
{
    unsigned sum = 0;

    for (size_t i = 0; i < bytes.size; i++)
        sum += (unsigned char)bytes.data[i];
    return sum;
}

static bool visit(void *context, const ArenaEntry *entry)
{
    unsigned *sum = context;

    *sum += sum_of(entry->key) + sum_of(entry->value);
    return true;
}

/* So that nobody may leave the reading out. */
static void use(unsigned sum)
{
    static volatile unsigned used;

    used = sum;
    (void)used;
}

static void read_all(const Arena *arena)
{
    uint64_t position = 0;
    unsigned pages = 0, sum = 0;
    ArenaReport report;
    ArenaEntry entry;
    char key[16];
    int r;

    for (unsigned i = 0; i < ENTRIES; i += 7) {
        r = arena_find(arena, key_of(i, key), &entry);
        must(outcome(r), "find", r);
        if (r == 0)
            sum += sum_of(entry.key) + sum_of(entry.value);
    }
    do
        r = arena_walk(arena, &position, 1000, visit, &sum);
    while (r == 0 && ++pages < 100000);
    must(r == 1 || r == -EBADMSG, "a walk does not end", r);
    use(sum);
    r = arena_check(arena, &report);
    must((r == 0 && report.where[0] == '\0') || (r == -EBADMSG && report.where[0] != '\0'), "check",
         r);
}

static void change(Arena *arena, uint64_t revision)
{
    for (unsigned i = 0; i < OPERATIONS; i++) {
        int r = i % 3 == 0 ? delete (arena, i * 11 % ENTRIES, ++revision)
                           : put(arena, i * 13 % (2 * ENTRIES), 1 + i * i * 5 % 9000, ++revision);
        must(outcome(r), "update", r);
    }
    for (unsigned i = 0; i < 4; i++)
        arena_upkeep(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Fuzz fuzz;
    Arena *arena;
    ArenaPeek peek;
    int fd, r;

    if (fuzz.valid == NULL)
        fuzz_init(&fuzz);
    if (size < 1)
        return 0;
    fd = damaged_copy(&fuzz, data + 1, size - 1);
    r = arena_peek(fd, &peek);
    must(r == 0 || r == -EBADMSG, "peek", r);
    if (data[0] & 2)
        convert(&fuzz, fd);
    r = arena_open(&fuzz.context, fd, &arena);
    must(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT || r == -EBUSY || r == -ESTALE ||
             r == -ENOMEM,
         "open", r);
    if (r != 0) {
        close(fd);
        return 0;
    }
    if (data[0] & 1)
        read_all(arena);
    change(arena, fuzz.revision);
    read_all(arena);
    arena_free(arena);
    return 0;
}
