/* Images for tests. */
#include "images.h"

#include <stdio.h>

#include "base/file.h"
#include "checkpoint/image-format.h"

static uint64_t next_noise(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state ^ *state >> 29;
}

static void fill_page(uint8_t *page, uint64_t *noise)
{
    static const char text[] = "{\"name\":\"holdfast\"}";
    uint64_t kind = next_noise(noise) % 8;

    if (kind == 0)
        return;
    for (size_t i = 0; i < HOLDFAST_PAGE_BYTES && kind == 1; i++)
        page[i] = (uint8_t)text[i % sizeof(text)];
    if (kind == 2)
        page[HOLDFAST_PAGE_BYTES - 1] = 1;
    for (size_t i = 0; i < HOLDFAST_PAGE_BYTES && kind > 2; i += 8)
        memcpy(page + i, &(uint64_t){next_noise(noise)}, 8);
}

TestArena test_arena_new(const char *name, uint64_t pages, bool held, unsigned seed)
{
    TestArena arena = {
        .row = {.attributes = {.max_bytes = GIB, .uid = seed, .gid = seed + 1, .mode = 0640},
                .created_usec = 1000 + seed,
                .entries = 7 * seed,
                .revision = 100 + seed,
                .used_bytes = pages * HOLDFAST_PAGE_BYTES,
                .pages = pages,
                .held = held},
    };
    uint64_t noise = seed;

    snprintf(arena.row.name, sizeof(arena.row.name), "%s", name);
    memset(arena.row.identity.bytes, (int)seed, sizeof(arena.row.identity.bytes));
    arena.memory = calloc(pages + 1, HOLDFAST_PAGE_BYTES);
    if (arena.memory == NULL)
        abort();
    for (uint64_t page = 0; page < pages; page++)
        fill_page(arena.memory + page * HOLDFAST_PAGE_BYTES, &noise);
    return arena;
}

void test_arena_clear(TestArena *arena)
{
    free(TAKE_PTR(arena->memory));
}

ImageSpec test_spec(uint64_t revision, const char *time, bool zstd)
{
    ImageSpec spec = {.label = "a label", .revision = revision, .started_usec = 5, .zstd = zstd};

    snprintf(spec.id, sizeof(spec.id), "%020llu-%s", (unsigned long long)revision, time);
    return spec;
}

ImageSummary test_summary(void)
{
    return (ImageSummary){.pause_usec = 1,
                          .held_usec = 2,
                          .duration_usec = 3,
                          .pages_total = 4,
                          .pages_captured = 5,
                          .state_bytes = 6};
}

static int put_arena(ImageWriter *writer, const TestArena *arena, uint32_t index,
                     uint32_t block_pages)
{
    uint32_t pages[HOLDFAST_BLOCK_PAGES];
    int r = 0;

    for (uint64_t first = 0; first < arena->row.pages && r == 0; first += block_pages) {
        uint32_t count = (uint32_t)MIN(block_pages, arena->row.pages - first);
        void *buffer;

        for (uint32_t i = 0; i < count; i++)
            pages[i] = (uint32_t)first + i;
        r = image_writer_buffer(writer, &buffer);
        if (r < 0)
            break;
        memcpy(buffer, arena->memory + first * HOLDFAST_PAGE_BYTES,
               (size_t)count * HOLDFAST_PAGE_BYTES);
        r = image_writer_put(writer, index, pages, count);
    }
    return r;
}

int test_image_write(int fd, const ImageSpec *spec, const TestArena *arenas, size_t count,
                     uint32_t block_pages)
{
    _cleanup_(freep) ImageArena *rows = calloc(count + 1, sizeof(*rows));
    const ImageSummary summary = test_summary();
    ImageWriter *writer;
    uint64_t bytes;
    int r;

    if (rows == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        rows[i] = arenas[i].row;
    r = image_writer_new(fd, spec, rows, count, &writer);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count && r == 0; i++)
        if (arenas[i].row.held)
            r = put_arena(writer, &arenas[i], (uint32_t)i, block_pages);
    if (r == 0)
        r = image_writer_finish(writer, &summary, &bytes);
    image_writer_free(writer);
    return r;
}

static bool same_memory(int memfd, const TestArena *arena)
{
    uint64_t bytes = arena->row.pages * HOLDFAST_PAGE_BYTES;
    _cleanup_(freep) uint8_t *memory = malloc(bytes + 1);
    uint64_t size;

    if (memory == NULL)
        abort();
    return file_size(memfd, &size) == 0 && size >= bytes &&
           file_read_at(memfd, memory, bytes, 0) == 0 && memcmp(memory, arena->memory, bytes) == 0;
}

static bool same_attributes(const ArenaAttributes *a, const ArenaAttributes *b)
{
    return a->max_bytes == b->max_bytes && a->uid == b->uid && a->gid == b->gid &&
           a->mode == b->mode;
}

static bool same_row(const ImageArena *a, const ImageArena *b)
{
    return strcmp(a->name, b->name) == 0 && identity_equal(&a->identity, &b->identity) &&
           same_attributes(&a->attributes, &b->attributes) && a->created_usec == b->created_usec &&
           a->entries == b->entries && a->revision == b->revision &&
           a->used_bytes == b->used_bytes && a->pages == b->pages && a->held == b->held;
}

static int compare_arena(ImageReader *reader, size_t index, const TestArena *arena)
{
    _cleanup_(closep) int memfd = -1;
    int r;

    if (!same_row(image_reader_arena(reader, index), &arena->row))
        return 1;
    if (!arena->row.held)
        return 0;
    r = image_reader_restore(reader, index, NULL, NULL, &memfd);
    if (r < 0)
        return r;
    return same_memory(memfd, arena) ? 0 : 1;
}

int test_image_compare(int fd, const TestArena *arenas, size_t count)
{
    ImageReader *reader;
    int r = image_reader_new(fd, &reader);

    if (r < 0)
        return r;
    if (image_reader_arenas(reader) != count)
        r = 1;
    for (size_t i = 0; i < count && r == 0; i++)
        r = compare_arena(reader, i, &arenas[i]);
    image_reader_free(reader);
    return r;
}

/* --- checksums anew */

/* Copied out and back: the place may have any alignment. */
static void reseal_block(uint8_t *image, size_t size, uint64_t head_checksum, uint8_t *place)
{
    HoldfastImageBlock block;

    memcpy(&block, place, sizeof(block));
    if (block.offset > size || block.stored_bytes > size - block.offset)
        return;
    block.checksum = image_block_checksum(head_checksum, &block, image + block.offset);
    memcpy(place, &block, sizeof(block));
}

static void reseal_index(uint8_t *image, size_t size, HoldfastImageFooter *footer)
{
    uint64_t rest = footer->index_bytes - sizeof(HoldfastImageSummary);
    _cleanup_(freep) uint8_t *copy = NULL;
    uint8_t *blocks;

    if (footer->index_offset > size || footer->index_bytes > size - footer->index_offset ||
        footer->index_bytes < sizeof(HoldfastImageSummary) ||
        footer->blocks > rest / sizeof(HoldfastImageBlock) ||
        footer->runs >
            (rest - footer->blocks * sizeof(HoldfastImageBlock)) / sizeof(HoldfastImageRun))
        return;
    blocks = image + footer->index_offset + sizeof(HoldfastImageSummary);
    for (uint64_t i = 0; i < footer->blocks; i++)
        reseal_block(image, size, footer->head_checksum, blocks + i * sizeof(HoldfastImageBlock));
    copy = malloc(footer->index_bytes);
    if (copy == NULL)
        abort();
    memcpy(copy, image + footer->index_offset, footer->index_bytes);
    blocks = copy + sizeof(HoldfastImageSummary);
    footer->index_checksum = image_index_checksum(
        footer->head_checksum, (HoldfastImageSummary *)copy, (HoldfastImageBlock *)blocks,
        footer->blocks, (HoldfastImageRun *)(blocks + footer->blocks * sizeof(HoldfastImageBlock)),
        footer->runs);
}

void test_image_reseal(uint8_t *image, size_t size)
{
    HoldfastImageFooter footer;
    uint8_t *place;

    if (size < sizeof(footer))
        return;
    place = image + size - sizeof(footer);
    memcpy(&footer, place, sizeof(footer));
    if (footer.head_bytes <= size)
        footer.head_checksum = checksum(image, footer.head_bytes);
    reseal_index(image, size, &footer);
    footer.checksum = image_footer_checksum(&footer);
    memcpy(place, &footer, sizeof(footer));
}
