/* Writes an image from front to back: header and table, blocks as they come, index, footer, fsync.
 *
 * image_writer_new maps everything that is ever needed, in the parent; what the child fills first
 * (the buffer) is only reserved there and populated by the child, for a private page that exists at
 * the fork would be copied on its first write. From then on there is no malloc, no stdio and no
 * lock: pwrite, mremap, madvise and arithmetic. The index grows by mremap.
 *
 * Blocks of whole pages, which is nearly all of an image that is not compressed, go past the page
 * cache (O_DIRECT): that takes a third of the processor's time, the kernel has nothing to write
 * back while clients wait for a processor, and what other programs have in the cache stays there.
 * Where the file system refuses, everything goes through the cache.
 *
 * What can go wrong is the disk: the errno of the call that failed is handed up at once, the writer
 * is good for nothing after that, and the file, which nobody has renamed yet, is the caller's to
 * remove. */
#include "checkpoint/image-write.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "base/file.h"
#include "checkpoint/image-format.h"

/* So much is written before the kernel is told to begin moving it to the disk, so that the fsync at
 * the end finds little left to do. */
#define FLUSH_BYTES (4 * MIB)
#define ZSTD_LEVEL 1
#define COLUMN_BYTES_MIN (64 * KIB)

/* A growing array of the index. */
typedef struct Column {
    void *data;
    size_t bytes_used;
    size_t bytes_mapped;
} Column;

struct ImageWriter {
    int fd;
    size_t map_bytes; /* of the mapping that begins with this struct */

    HoldfastImageHeader *header;
    HoldfastImageArena *table; /* right behind the header */
    uint64_t head_checksum;

    uint64_t *saved;       /* a bit for each page of the arenas that are held: it came already */
    uint64_t *saved_bases; /* for each arena: its first bit */
    size_t saved_bytes;

    char *buffer; /* IMAGE_BLOCK_BYTES; with zstd the same again, and the workspace */
    char *packed;
    size_t buffer_bytes;
    bool populated;
    ZSTD_CCtx *zstd;
    void *workspace;
    size_t workspace_bytes;

    Column blocks;
    Column runs;
    uint64_t pages;
    bool may_bypass; /* the page cache */
    bool bypassing;
    uint64_t offset;  /* where the file ends so far */
    uint64_t flushed; /* up to here write-back was begun */
    uint64_t waited;  /* write-back is complete up to here */
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

static int map_buffers(ImageWriter *writer, bool zstd)
{
    size_t bytes = IMAGE_BLOCK_BYTES;

    if (zstd) {
        writer->workspace_bytes = ZSTD_estimateCCtxSize(ZSTD_LEVEL);
        bytes += IMAGE_BLOCK_BYTES + writer->workspace_bytes;
    }
    writer->buffer = map_memory(bytes);
    if (writer->buffer == NULL)
        return -errno;
    writer->buffer_bytes = bytes;
    if (zstd) {
        writer->packed = writer->buffer + IMAGE_BLOCK_BYTES;
        writer->workspace = writer->packed + IMAGE_BLOCK_BYTES;
    }
    return 0;
}

/* Done by whoever uses the buffer first, which is the child: a page populated ahead costs a
 * fraction of a fault. It is only advice; older kernels do not know it. */
static void populate_buffers(ImageWriter *writer)
{
    if (writer->populated)
        return;
    (void)madvise(writer->buffer, writer->buffer_bytes, MADV_POPULATE_WRITE);
    writer->populated = true;
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
    writer->fd = fd;
    writer->may_bypass = !spec->zstd && !spec->cached;
    r = map_buffers(writer, spec->zstd);
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
    unmap_memory(writer->buffer, writer->buffer_bytes);
    unmap_memory(writer->saved, writer->saved_bytes);
    unmap_memory(writer->blocks.data, writer->blocks.bytes_mapped);
    unmap_memory(writer->runs.data, writer->runs.bytes_mapped);
    munmap(writer, writer->map_bytes);
    return NULL;
}

void *image_writer_buffer(ImageWriter *writer)
{
    populate_buffers(writer);
    return writer->buffer;
}

uint64_t image_writer_bytes(const ImageWriter *writer)
{
    return writer->offset;
}

/* --- writing */

/* sync_file_range of a part of the file. Where there is no such call (ESPIPE, EINVAL, ENOSYS) the
 * fsync does it all. */
static int flush_range(const ImageWriter *writer, uint64_t from, uint64_t to, unsigned flags)
{
    int r;

    do {
        r = sync_file_range(writer->fd, (off_t)from, (off_t)(to - from), flags);
    } while (r < 0 && errno == EINTR);
    return r < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT || errno == ENOMEM) ? -errno
                                                                                            : 0;
}

/* Starts the write-back of each FLUSH_BYTES, and waits for the ones before: so the final fsync is
 * short, and no more than twice that is ever queued at the disk, where a sync of the journal would
 * have to wait behind it. */
static int begin_write_back(ImageWriter *writer)
{
    int r;

    if (writer->offset - writer->flushed < FLUSH_BYTES)
        return 0;
    r = flush_range(writer, writer->flushed, writer->offset, SYNC_FILE_RANGE_WRITE);
    if (r == 0 && writer->flushed > writer->waited)
        r = flush_range(writer, writer->waited, writer->flushed,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER);
    writer->waited = writer->flushed;
    writer->flushed = writer->offset;
    return r;
}

static bool is_aligned(uint64_t value)
{
    return value % HOLDFAST_PAGE_BYTES == 0;
}

/* True: what is written now bypasses the page cache. */
static bool bypass(ImageWriter *writer, bool wanted)
{
    int flags;

    wanted = wanted && writer->may_bypass;
    if (wanted == writer->bypassing)
        return wanted;
    flags = fcntl(writer->fd, F_GETFL);
    if (flags < 0 || fcntl(writer->fd, F_SETFL, wanted ? flags | O_DIRECT : flags & ~O_DIRECT) < 0)
        writer->may_bypass = false; /* from here on as it was */
    else
        writer->bypassing = wanted;
    return writer->bypassing;
}

static int append(ImageWriter *writer, const void *data, size_t bytes)
{
    bool aligned = is_aligned(writer->offset) && is_aligned(bytes) && is_aligned((uintptr_t)data);
    bool bypassed = bypass(writer, aligned && bytes > 0);
    int r = file_write_at(writer->fd, data, bytes, writer->offset);

    if (r == -EINVAL && bypassed) {
        /* This file system wants another alignment, or wrote a part that has none. */
        bypassed = bypass(writer, false);
        writer->may_bypass = false;
        r = file_write_at(writer->fd, data, bytes, writer->offset);
    }
    if (r < 0)
        return r;
    writer->offset += bytes;
    return bypassed ? 0 : begin_write_back(writer);
}

/* Brings the file's end to the next multiple, with zeros. */
static int append_padding(ImageWriter *writer, uint64_t alignment)
{
    static const char zeros[HOLDFAST_PAGE_BYTES];
    size_t bytes = ALIGN_UP(writer->offset, alignment) - writer->offset;

    return bytes > 0 ? append(writer, zeros, bytes) : 0;
}

static int append_head(ImageWriter *writer)
{
    return writer->offset == 0 ? append(writer, writer->header, head_bytes(writer)) : 0;
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
static int gather(ImageWriter *writer, const uint32_t *pages, uint32_t count,
                  HoldfastImageBlock *block)
{
    int r;

    for (uint32_t i = 0; i < count; i++) {
        const char *page = writer->buffer + (size_t)i * HOLDFAST_PAGE_BYTES;

        if (pages[i] >= writer->table[block->arena].pages)
            return -EINVAL;
        if (!mark_saved(writer, block->arena, pages[i]) || page_is_zero(page))
            continue;
        if (block->pages != i)
            memcpy(writer->buffer + (size_t)block->pages * HOLDFAST_PAGE_BYTES, page,
                   HOLDFAST_PAGE_BYTES);
        r = note_page(writer, block, pages[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Compresses the buffer into packed; the size, or 0 where it does not save at least an eighth. */
static size_t pack(ImageWriter *writer, size_t bytes)
{
    size_t size;

    if (writer->packed == NULL)
        return 0;
    if (writer->zstd == NULL) {
        writer->zstd = ZSTD_initStaticCCtx(writer->workspace, writer->workspace_bytes);
        if (writer->zstd == NULL)
            return 0;
    }
    size = ZSTD_compressCCtx(writer->zstd, writer->packed, bytes - bytes / 8, writer->buffer, bytes,
                             ZSTD_LEVEL);
    return ZSTD_isError(size) ? 0 : size;
}

static int write_block(ImageWriter *writer, HoldfastImageBlock *block)
{
    const char *data = writer->buffer;
    size_t bytes = (size_t)block->pages * HOLDFAST_PAGE_BYTES;
    size_t packed_bytes = pack(writer, bytes);
    void *room = NULL;
    int r;

    block->encoding = HOLDFAST_BLOCK_RAW;
    if (packed_bytes > 0) {
        block->encoding = HOLDFAST_BLOCK_ZSTD;
        data = writer->packed;
        bytes = packed_bytes;
    }
    r = append_padding(writer, image_alignment(block->encoding));
    if (r < 0)
        return r;
    block->offset = writer->offset;
    block->stored_bytes = (uint32_t)bytes;
    block->checksum = image_block_checksum(writer->head_checksum, block, data);
    r = column_push(&writer->blocks, sizeof(*block), &room);
    if (r < 0)
        return r;
    memcpy(room, block, sizeof(*block));
    writer->pages += block->pages;
    return append(writer, data, bytes);
}

int image_writer_put(ImageWriter *writer, uint32_t arena, const uint32_t *pages, uint32_t count)
{
    HoldfastImageBlock block = {
        .arena = arena,
        .first_run = writer->runs.bytes_used / sizeof(HoldfastImageRun),
    };
    int r;

    if (arena >= writer->header->arenas || !(writer->table[arena].flags & HOLDFAST_IMAGE_HELD) ||
        count > HOLDFAST_BLOCK_PAGES)
        return -EINVAL;
    r = append_head(writer);
    if (r < 0)
        return r;
    r = gather(writer, pages, count, &block);
    if (r < 0 || block.pages == 0)
        return r;
    return write_block(writer, &block);
}

/* --- the end */

static int append_index(ImageWriter *writer, const HoldfastImageSummary *summary)
{
    int r = append(writer, summary, sizeof(*summary));

    if (r >= 0)
        r = append(writer, writer->blocks.data, writer->blocks.bytes_used);
    if (r >= 0)
        r = append(writer, writer->runs.data, writer->runs.bytes_used);
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
        .index_offset = writer->offset,
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
        r = append_padding(writer, HOLDFAST_PACKED_ALIGNMENT);
    if (r < 0)
        return r;
    fill_footer(writer, &stored, &footer);
    r = append_index(writer, &stored);
    if (r >= 0)
        r = append(writer, &footer, sizeof(footer));
    if (r < 0)
        return r;
    if (fsync(writer->fd) < 0)
        return -errno;
    *ret_bytes = writer->offset;
    return 0;
}
