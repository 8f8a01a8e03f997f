/* Writes an image from front to back: header and table, blocks as they come, index, footer, fsync.
 * How they get to the disk is image-file.c's.
 *
 * image_writer_new maps everything that is ever needed, in the parent; what the child fills first
 * is only reserved there and populated by the child, for a private page that exists at the fork
 * would be copied on its first write. From then on there is no malloc, no stdio and no lock: system
 * calls and arithmetic. The index grows by mremap.
 *
 * What can go wrong is the disk: the errno of the call that failed is handed up, the writer is good
 * for nothing after that, and the file, which nobody has renamed yet, is the caller's to remove. */
#include "checkpoint/image-write.h"

#include <stdio.h>
#include <sys/mman.h>

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "checkpoint/image-file.h"
#include "checkpoint/image-format.h"

#define ZSTD_LEVEL 1
#define COLUMN_BYTES_MIN (64 * KIB)

/* A growing array of the index. */
typedef struct Column {
    void *data;
    size_t bytes_used;
    size_t bytes_mapped;
} Column;

struct ImageWriter {
    ImageFile file;
    size_t map_bytes; /* of the mapping that begins with this struct */

    HoldfastImageHeader *header;
    HoldfastImageArena *table; /* right behind the header */
    uint64_t head_checksum;

    uint64_t *saved;       /* a bit for each page of the arenas that are held: it came already */
    uint64_t *saved_bases; /* for each arena: its first bit */
    size_t saved_bytes;

    char *packed; /* with zstd: IMAGE_BLOCK_BYTES, and behind it the workspace */
    size_t packed_bytes;
    ZSTD_CCtx *zstd;
    void *workspace;
    size_t workspace_bytes;

    Column blocks;
    Column runs;
    uint64_t pages;
};

static size_t head_bytes(const ImageWriter *writer)
{
    return sizeof(HoldfastImageHeader) + writer->header->arenas * sizeof(HoldfastImageArena);
}

/* --- memory */

/* NULL with errno where there is none. */
static void *map_memory(size_t bytes)
{
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return data == MAP_FAILED ? NULL : data;
}

static void unmap_memory(void *data, size_t bytes)
{
    if (data != NULL)
        munmap(data, bytes);
}

static int column_init(Column *column)
{
    column->data = map_memory(COLUMN_BYTES_MIN);
    if (column->data == NULL)
        return -errno;
    column->bytes_mapped = COLUMN_BYTES_MIN;
    return 0;
}

/* Room for one more element; counted as used. */
static int column_push(Column *column, size_t element_bytes, void **ret)
{
    if (column->bytes_mapped - column->bytes_used < element_bytes) {
        void *moved =
            mremap(column->data, column->bytes_mapped, column->bytes_mapped * 2, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED)
            return -errno;
        column->data = moved;
        column->bytes_mapped *= 2;
    }
    *ret = (char *)column->data + column->bytes_used;
    column->bytes_used += element_bytes;
    return 0;
}

/* Populated by the child as it uses it. */
static int map_packed(ImageWriter *writer)
{
    writer->workspace_bytes = ZSTD_estimateCCtxSize(ZSTD_LEVEL);
    writer->packed = map_memory(IMAGE_BLOCK_BYTES + writer->workspace_bytes);
    if (writer->packed == NULL)
        return -errno;
    writer->packed_bytes = IMAGE_BLOCK_BYTES + writer->workspace_bytes;
    writer->workspace = writer->packed + IMAGE_BLOCK_BYTES;
    return 0;
}

static int map_saved(ImageWriter *writer, const ImageArena *arenas, size_t count)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < count; i++) {
        writer->saved_bases[i] = bits;
        if (arenas[i].held)
            bits += ALIGN_UP(arenas[i].pages, 64u);
    }
    if (bits == 0)
        return 0;
    writer->saved = map_memory(bits / 8);
    if (writer->saved == NULL)
        return -errno;
    writer->saved_bytes = bits / 8;
    return 0;
}

/* --- header and table */

static void fill_header(HoldfastImageHeader *header, const ImageSpec *spec, size_t count)
{
    memcpy(header->magic, HOLDFAST_IMAGE_MAGIC, sizeof(header->magic));
    header->version = HOLDFAST_IMAGE_VERSION;
    header->layout_version = HOLDFAST_LAYOUT_VERSION;
    header->incompatible = spec->zstd ? HOLDFAST_IMAGE_ZSTD : 0;
    header->revision = spec->revision;
    header->started_usec = spec->started_usec;
    header->arenas = (uint32_t)count;
    memcpy(header->id, spec->id, strlen(spec->id));
    memcpy(header->label, spec->label, strlen(spec->label));
}

static void fill_row(HoldfastImageArena *row, const ImageArena *arena)
{
    memcpy(row->identity, arena->identity.bytes, sizeof(row->identity));
    memcpy(row->name, arena->name, strlen(arena->name));
    row->uid = arena->attributes.uid;
    row->gid = arena->attributes.gid;
    row->mode = arena->attributes.mode;
    row->flags = arena->held ? HOLDFAST_IMAGE_HELD : 0;
    row->max_bytes = arena->attributes.max_bytes;
    row->created_usec = arena->created_usec;
    row->created_revision = arena->created_revision;
    row->entries = arena->entries;
    row->revision = arena->revision;
    row->used_bytes = arena->used_bytes;
    row->pages = arena->pages;
}

/* One mapping holds the writer, the saved_bases and the head. It is small and filled in the parent.
 */
static ImageWriter *map_writer(const ImageSpec *spec, const ImageArena *arenas, size_t count)
{
    size_t bases_at = ALIGN_UP(sizeof(ImageWriter), 64u);
    size_t head_at = bases_at + ALIGN_UP(count * sizeof(uint64_t), 64u);
    size_t bytes = head_at + sizeof(HoldfastImageHeader) + count * sizeof(HoldfastImageArena);
    char *memory = map_memory(bytes);
    ImageWriter *writer;

    if (memory == NULL)
        return NULL;
    (void)madvise(memory, bytes, MADV_POPULATE_WRITE);
    writer = (ImageWriter *)memory;
    writer->map_bytes = bytes;
    writer->saved_bases = (uint64_t *)(memory + bases_at);
    writer->header = (HoldfastImageHeader *)(memory + head_at);
    writer->table = (HoldfastImageArena *)(writer->header + 1);

    fill_header(writer->header, spec, count);
    for (size_t i = 0; i < count; i++)
        fill_row(&writer->table[i], &arenas[i]);
    writer->head_checksum = checksum(writer->header, head_bytes(writer));
    return writer;
}

/* What the reader would refuse is refused here. */
static int check_spec(const ImageSpec *spec, const ImageArena *arenas, size_t count)
{
    if (!image_id_fits(spec->id, sizeof(spec->id)) ||
        !image_label_fits(spec->label, sizeof(spec->label)) || count > UINT32_MAX)
        return -EINVAL;
    for (size_t i = 0; i < count; i++) {
        if (!image_name_fits(arenas[i].name, sizeof(arenas[i].name)) ||
            !image_mode_fits(arenas[i].attributes.mode))
            return -EINVAL;
        if (arenas[i].pages > UINT32_MAX)
            return -EFBIG;
    }
    return 0;
}

static uint64_t bytes_expected(const ImageArena *arenas, size_t count)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < count; i++)
        if (arenas[i].held)
            pages += arenas[i].pages;
    return pages * HOLDFAST_PAGE_BYTES;
}

int image_writer_new(int fd, const ImageSpec *spec, const ImageArena *arenas, size_t count,
                     ImageWriter **ret)
{
    ImageWriter *writer;
    int r;

    r = check_spec(spec, arenas, count);
    if (r < 0)
        return r;
    writer = map_writer(spec, arenas, count);
    if (writer == NULL)
        return -errno;
    r = image_file_init(&writer->file, fd, !spec->zstd && !spec->cached,
                        bytes_expected(arenas, count));
    if (r >= 0 && spec->zstd)
        r = map_packed(writer);
    if (r >= 0)
        r = map_saved(writer, arenas, count);
    if (r >= 0)
        r = column_init(&writer->blocks);
    if (r >= 0)
        r = column_init(&writer->runs);
    if (r < 0) {
        image_writer_free(writer);
        return r;
    }
    *ret = writer;
    return 0;
}

ImageWriter *image_writer_free(ImageWriter *writer)
{
    if (writer == NULL)
        return NULL;
    image_file_deinit(&writer->file);
    unmap_memory(writer->packed, writer->packed_bytes);
    unmap_memory(writer->saved, writer->saved_bytes);
    unmap_memory(writer->blocks.data, writer->blocks.bytes_mapped);
    unmap_memory(writer->runs.data, writer->runs.bytes_mapped);
    munmap(writer, writer->map_bytes);
    return NULL;
}

int image_writer_buffer(ImageWriter *writer, void **ret)
{
    char *buffer;
    int r = image_file_buffer(&writer->file, &buffer);

    if (r < 0)
        return r;
    *ret = buffer;
    return 0;
}

uint64_t image_writer_bytes(const ImageWriter *writer)
{
    return writer->file.offset;
}

/* --- writing */

static int append_head(ImageWriter *writer)
{
    return writer->file.offset > 0
               ? 0
               : image_file_append(&writer->file, writer->header, head_bytes(writer));
}

static bool page_is_zero(const char *page)
{
    uint64_t words[4];

    /* Nearly every page differs in its first bytes already. Else: the first word is zero, and each
     * byte equals the one 8 further on, which the C library compares by vectors. */
    memcpy(words, page, sizeof(words));
    if ((words[0] | words[1] | words[2] | words[3]) != 0)
        return false;
    return memcmp(page, page + 8, HOLDFAST_PAGE_BYTES - 8) == 0;
}

/* True the first time that it is asked for this page. */
static bool mark_saved(ImageWriter *writer, uint32_t arena, uint32_t page)
{
    uint64_t bit = writer->saved_bases[arena] + page;
    uint64_t mask = UINT64_C(1) << (bit % 64);

    if (writer->saved[bit / 64] & mask)
        return false;
    writer->saved[bit / 64] |= mask;
    return true;
}

/* Adds a page to the runs of the block being made. */
static int note_page(ImageWriter *writer, HoldfastImageBlock *block, uint32_t page)
{
    HoldfastImageRun *run;
    void *room = NULL;
    int r;

    block->pages++;
    if (block->runs > 0) {
        run = (HoldfastImageRun *)((char *)writer->runs.data + writer->runs.bytes_used) - 1;
        if (run->first + run->count == page) {
            run->count++;
            return 0;
        }
    }
    r = column_push(&writer->runs, sizeof(*run), &room);
    if (r < 0)
        return r;
    run = room;
    *run = (HoldfastImageRun){.first = page, .count = 1};
    block->runs++;
    return 0;
}

/* Leaves out what is zero or was saved, and closes the gaps in the buffer. */
static int gather(ImageWriter *writer, char *buffer, const uint32_t *pages, uint32_t count,
                  HoldfastImageBlock *block)
{
    int r;

    for (uint32_t i = 0; i < count; i++) {
        const char *page = buffer + (size_t)i * HOLDFAST_PAGE_BYTES;

        if (pages[i] >= writer->table[block->arena].pages)
            return -EINVAL;
        if (!mark_saved(writer, block->arena, pages[i]) || page_is_zero(page))
            continue;
        if (block->pages != i)
            memcpy(buffer + (size_t)block->pages * HOLDFAST_PAGE_BYTES, page, HOLDFAST_PAGE_BYTES);
        r = note_page(writer, block, pages[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Compresses the buffer into packed; the size, or 0 where it does not save at least an eighth. */
static size_t pack(ImageWriter *writer, const char *buffer, size_t bytes)
{
    size_t size;

    if (writer->packed == NULL)
        return 0;
    if (writer->zstd == NULL) {
        (void)madvise(writer->packed, writer->packed_bytes, MADV_POPULATE_WRITE);
        writer->zstd = ZSTD_initStaticCCtx(writer->workspace, writer->workspace_bytes);
        if (writer->zstd == NULL)
            return 0;
    }
    size = ZSTD_compressCCtx(writer->zstd, writer->packed, bytes - bytes / 8, buffer, bytes,
                             ZSTD_LEVEL);
    return ZSTD_isError(size) ? 0 : size;
}

static int write_block(ImageWriter *writer, const char *buffer, HoldfastImageBlock *block)
{
    const char *data = buffer;
    size_t bytes = (size_t)block->pages * HOLDFAST_PAGE_BYTES;
    size_t packed_bytes = pack(writer, buffer, bytes);
    void *room = NULL;
    int r;

    block->encoding = HOLDFAST_BLOCK_RAW;
    if (packed_bytes > 0) {
        block->encoding = HOLDFAST_BLOCK_ZSTD;
        data = writer->packed;
        bytes = packed_bytes;
    }
    r = image_file_pad(&writer->file, image_alignment(block->encoding));
    if (r < 0)
        return r;
    block->offset = writer->file.offset;
    block->stored_bytes = (uint32_t)bytes;
    block->checksum = image_block_checksum(writer->head_checksum, block, data);
    r = column_push(&writer->blocks, sizeof(*block), &room);
    if (r < 0)
        return r;
    memcpy(room, block, sizeof(*block));
    writer->pages += block->pages;
    return data == buffer ? image_file_append_buffer(&writer->file, bytes)
                          : image_file_append(&writer->file, data, bytes);
}

int image_writer_put(ImageWriter *writer, uint32_t arena, const uint32_t *pages, uint32_t count)
{
    HoldfastImageBlock block = {
        .arena = arena,
        .first_run = writer->runs.bytes_used / sizeof(HoldfastImageRun),
    };
    char *buffer;
    int r;

    if (arena >= writer->header->arenas || !(writer->table[arena].flags & HOLDFAST_IMAGE_HELD) ||
        count > HOLDFAST_BLOCK_PAGES)
        return -EINVAL;
    r = append_head(writer);
    if (r < 0)
        return r;
    r = image_file_buffer(&writer->file, &buffer);
    if (r >= 0)
        r = gather(writer, buffer, pages, count, &block);
    if (r < 0 || block.pages == 0)
        return r;
    return write_block(writer, buffer, &block);
}

/* --- the end */

static int append_index(ImageWriter *writer, const HoldfastImageSummary *summary)
{
    int r = image_file_append(&writer->file, summary, sizeof(*summary));

    if (r >= 0)
        r = image_file_append(&writer->file, writer->blocks.data, writer->blocks.bytes_used);
    if (r >= 0)
        r = image_file_append(&writer->file, writer->runs.data, writer->runs.bytes_used);
    return r;
}

static void fill_footer(const ImageWriter *writer, const HoldfastImageSummary *summary,
                        HoldfastImageFooter *footer)
{
    *footer = (HoldfastImageFooter){
        .magic = HOLDFAST_IMAGE_END_MAGIC,
        .version = HOLDFAST_IMAGE_VERSION,
        .head_bytes = head_bytes(writer),
        .head_checksum = writer->head_checksum,
        .index_offset = writer->file.offset,
        .index_bytes = sizeof(*summary) + writer->blocks.bytes_used + writer->runs.bytes_used,
        .blocks = writer->blocks.bytes_used / sizeof(HoldfastImageBlock),
        .runs = writer->runs.bytes_used / sizeof(HoldfastImageRun),
        .pages = writer->pages,
    };
    footer->file_bytes = footer->index_offset + footer->index_bytes + sizeof(*footer);
    footer->index_checksum =
        image_index_checksum(writer->head_checksum, summary, writer->blocks.data, footer->blocks,
                             writer->runs.data, footer->runs);
    footer->checksum = image_footer_checksum(footer);
}

int image_writer_finish(ImageWriter *writer, const ImageSummary *summary, uint64_t *ret_bytes)
{
    const HoldfastImageSummary stored = {
        .pause_usec = summary->pause_usec,
        .held_usec = summary->held_usec,
        .duration_usec = summary->duration_usec,
        .pages_total = summary->pages_total,
        .pages_captured = summary->pages_captured,
        .state_bytes = summary->state_bytes,
    };
    HoldfastImageFooter footer;
    int r;

    r = append_head(writer);
    if (r >= 0)
        r = image_file_settle(&writer->file);
    if (r >= 0)
        r = image_file_pad(&writer->file, HOLDFAST_PACKED_ALIGNMENT);
    if (r < 0)
        return r;
    fill_footer(writer, &stored, &footer);
    r = append_index(writer, &stored);
    if (r >= 0)
        r = image_file_append(&writer->file, &footer, sizeof(footer));
    if (r >= 0)
        r = image_file_sync(&writer->file);
    if (r < 0)
        return r;
    *ret_bytes = writer->file.offset;
    return 0;
}
