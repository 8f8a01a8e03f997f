/* Opens an image: header, footer, table and index are read and checked, in an order in which
 * nothing is used before it was found to be within bounds. After that, blocks and runs can be used
 * without further checks.
 *
 * A checksum only tells accidents. The checks behind it hold against a file that was made up: sizes
 * are compared with the file's before anything is allocated, so want of memory is bounded by the
 * file's size, and each loop by what was allocated. -EBADMSG and -EPROTONOSUPPORT speak of the
 * file; any other errno speaks of the machine. */
#include "checkpoint/image-read.h"

#include <stdio.h>

#include "base/file.h"
#include "checkpoint/image-reader.h"

/* Where opening failed; static texts. */
typedef struct OpenFault {
    const char *where;
    const char *why;
} OpenFault;

static int damaged(OpenFault *fault, const char *where, const char *why)
{
    *fault = (OpenFault){.where = where, .why = why};
    return -EBADMSG;
}

/* A file that ends before its size is being cut off while we read; for the reader that is damage.
 */
static int read_part(const ImageReader *reader, void *data, size_t size, uint64_t offset,
                     const char *where, OpenFault *fault)
{
    int r = file_read_at(reader->fd, data, size, offset);

    return r == -ENODATA ? damaged(fault, where, "the file ends in it") : r;
}

/* --- header and footer */

static int check_header(const ImageReader *reader, OpenFault *fault)
{
    HoldfastImageHeader header;
    int r = read_part(reader, &header, sizeof(header), 0, "header", fault);

    if (r < 0)
        return r;
    if (memcmp(header.magic, HOLDFAST_IMAGE_MAGIC, sizeof(header.magic)) != 0)
        return damaged(fault, "header", "the magic is not that of an image");
    if (header.version != HOLDFAST_IMAGE_VERSION) {
        *fault = (OpenFault){"header", "the format's version is not known"};
        return -EPROTONOSUPPORT;
    }
    if ((header.incompatible & ~HOLDFAST_IMAGE_INCOMPATIBLE_KNOWN) != 0) {
        *fault = (OpenFault){"header", "a flag is set that is not known"};
        return -EPROTONOSUPPORT;
    }
    return 0;
}

int image_read_version(int fd, uint32_t *ret_version, uint64_t *ret_flags)
{
    HoldfastImageHeader header;
    int r = file_read_at(fd, &header, sizeof(header), 0);

    if (r < 0)
        return r;
    *ret_version = header.version;
    *ret_flags = header.incompatible;
    return 0;
}

/* Whether head, index and footer lie as the footer says, within the file. Written so that nothing
 * overflows. */
static bool footer_fits(const HoldfastImageFooter *footer, uint64_t file_bytes)
{
    uint64_t end = file_bytes - sizeof(*footer);
    uint64_t rest;

    if (footer->index_offset > end || footer->index_bytes != end - footer->index_offset)
        return false;
    if (footer->head_bytes < sizeof(HoldfastImageHeader) ||
        footer->head_bytes > footer->index_offset)
        return false;
    if (footer->index_bytes < sizeof(HoldfastImageSummary))
        return false;
    rest = footer->index_bytes - sizeof(HoldfastImageSummary);
    if (footer->blocks > rest / sizeof(HoldfastImageBlock))
        return false;
    rest -= footer->blocks * sizeof(HoldfastImageBlock);
    return footer->runs <= rest / sizeof(HoldfastImageRun) &&
           footer->runs * sizeof(HoldfastImageRun) == rest;
}

static int read_footer(ImageReader *reader, OpenFault *fault)
{
    HoldfastImageFooter *footer = &reader->footer;
    int r = read_part(reader, footer, sizeof(*footer), reader->file_bytes - sizeof(*footer),
                      "footer", fault);

    if (r < 0)
        return r;
    if (memcmp(footer->magic, HOLDFAST_IMAGE_END_MAGIC, sizeof(footer->magic)) != 0)
        return damaged(fault, "footer", "there is none: the file was cut off, or has grown");
    if (footer->checksum != image_footer_checksum(footer))
        return damaged(fault, "footer", "the checksum does not match");
    if (footer->version != HOLDFAST_IMAGE_VERSION)
        return damaged(fault, "footer", "its version is not the header's");
    if (footer->file_bytes != reader->file_bytes)
        return damaged(fault, "footer", "the file is not as long as it says");
    if (!footer_fits(footer, reader->file_bytes))
        return damaged(fault, "footer", "its places do not fit the file");
    return 0;
}

/* --- head: header and table */

static int take_header(ImageReader *reader, const HoldfastImageHeader *header, OpenFault *fault)
{
    if (!image_id_fits(header->id, sizeof(header->id)))
        return damaged(fault, "header", "the id is not one");
    if (!image_label_fits(header->label, sizeof(header->label)))
        return damaged(fault, "header", "the label is not one");
    reader->layout_version = header->layout_version;
    memcpy(reader->spec.id, header->id, strlen(header->id) + 1);
    memcpy(reader->spec.label, header->label, strlen(header->label) + 1);
    reader->spec.revision = header->revision;
    reader->spec.started_usec = header->started_usec;
    reader->spec.zstd = (header->incompatible & HOLDFAST_IMAGE_ZSTD) != 0;
    return 0;
}

static int take_row(ImageArena *arena, const HoldfastImageArena *row, OpenFault *fault)
{
    if (!image_name_fits(row->name, sizeof(row->name)))
        return damaged(fault, "table", "an arena's name is not one");
    if (!image_mode_fits(row->mode))
        return damaged(fault, "table", "an arena's mode is not one");
    if (row->pages > UINT32_MAX)
        return damaged(fault, "table", "an arena has too many pages");
    *arena = (ImageArena){
        .attributes = {.max_bytes = row->max_bytes,
                       .uid = row->uid,
                       .gid = row->gid,
                       .mode = row->mode},
        .created_usec = row->created_usec,
        .created_revision = row->created_revision,
        .entries = row->entries,
        .revision = row->revision,
        .used_bytes = row->used_bytes,
        .pages = row->pages,
        .held = (row->flags & HOLDFAST_IMAGE_HELD) != 0,
    };
    memcpy(arena->identity.bytes, row->identity, sizeof(row->identity));
    memcpy(arena->name, row->name, strlen(row->name) + 1);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const ImageArena *const *)a)->name, (*(const ImageArena *const *)b)->name);
}

static int compare_identities(const void *a, const void *b)
{
    return memcmp(&(*(const ImageArena *const *)a)->identity,
                  &(*(const ImageArena *const *)b)->identity, sizeof(Identity));
}

/* Names and identities are each arena's own. */
static int check_distinct(const ImageReader *reader, OpenFault *fault)
{
    int (*const orders[])(const void *, const void *) = {compare_names, compare_identities};
    _cleanup_(freep) const ImageArena **sorted = calloc(reader->arena_count + 1, sizeof(*sorted));

    if (sorted == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < reader->arena_count; i++)
        sorted[i] = &reader->arenas[i];
    for (size_t order = 0; order < ARRAY_SIZE(orders); order++) {
        qsort(sorted, reader->arena_count, sizeof(*sorted), orders[order]);
        for (size_t i = 1; i < reader->arena_count; i++)
            if (orders[order](&sorted[i - 1], &sorted[i]) == 0)
                return damaged(fault, "table", "two arenas have the same name or identity");
    }
    return 0;
}

/* Reads header and table, as the footer knows them; by malloc. */
static int read_head_bytes(const ImageReader *reader, HoldfastImageHeader **ret, OpenFault *fault)
{
    uint64_t bytes = reader->footer.head_bytes;
    _cleanup_(freep) HoldfastImageHeader *header = malloc(bytes);
    int r;

    if (header == NULL)
        return -ENOMEM;
    r = read_part(reader, header, bytes, 0, "header", fault);
    if (r < 0)
        return r;
    if (checksum(header, bytes) != reader->footer.head_checksum)
        return damaged(fault, "header and table", "the checksum does not match");
    *ret = TAKE_PTR(header);
    return 0;
}

/* A header that names another version, or a flag that is not known, may be a damaged one of ours:
 * then there is a good footer of this version, whose checksum of the head does not match. */
static int check_foreign(ImageReader *reader, OpenFault *fault)
{
    _cleanup_(freep) HoldfastImageHeader *header = NULL;
    OpenFault unused;
    int r = read_footer(reader, &unused);

    if (r >= 0)
        r = read_head_bytes(reader, &header, fault);
    else if (r == -EBADMSG)
        r = 0; /* of another version, too */
    return r < 0 ? r : -EPROTONOSUPPORT;
}

static int read_head(ImageReader *reader, OpenFault *fault)
{
    uint64_t bytes = reader->footer.head_bytes;
    _cleanup_(freep) HoldfastImageHeader *header = NULL;
    const HoldfastImageArena *table;
    int r = read_head_bytes(reader, &header, fault);

    if (r < 0)
        return r;
    table = (const HoldfastImageArena *)(header + 1);
    if (bytes - sizeof(*header) != header->arenas * (uint64_t)sizeof(*table))
        return damaged(fault, "header", "the table is not as long as it says");
    r = take_header(reader, header, fault);
    if (r < 0)
        return r;
    reader->arena_count = header->arenas;
    reader->arenas = calloc(reader->arena_count + 1, sizeof(*reader->arenas));
    if (reader->arenas == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < reader->arena_count; i++) {
        r = take_row(&reader->arenas[i], &table[i], fault);
        if (r < 0)
            return r;
    }
    return check_distinct(reader, fault);
}

/* --- index */

/* The runs of one block: within its arena, and as many pages as it says. */
static bool runs_fit(const ImageReader *reader, const HoldfastImageBlock *block)
{
    uint64_t arena_pages = reader->arenas[block->arena].pages;
    uint64_t pages = 0;

    for (uint32_t i = 0; i < block->runs; i++) {
        const HoldfastImageRun *run = &reader->runs[block->first_run + i];

        if (run->count == 0 || (uint64_t)run->first + run->count > arena_pages)
            return false;
        pages += run->count;
    }
    return pages == block->pages;
}

static bool size_fits(const ImageReader *reader, const HoldfastImageBlock *block)
{
    uint64_t bytes = (uint64_t)block->pages * HOLDFAST_PAGE_BYTES;

    switch (block->encoding) {
    case HOLDFAST_BLOCK_RAW:
        return block->stored_bytes == bytes;
    case HOLDFAST_BLOCK_ZSTD:
        return reader->spec.zstd && block->stored_bytes > 0 && block->stored_bytes < bytes;
    default:
        return false;
    }
}

/* end: where the block before it ends. next_run: the run behind those of the block before it. */
static int check_block(const ImageReader *reader, const HoldfastImageBlock *block, uint64_t end,
                       uint64_t next_run, OpenFault *fault)
{
    if (block->arena >= reader->arena_count || !reader->arenas[block->arena].held)
        return damaged(fault, "index", "a block is of an arena that the image does not hold");
    if (block->pages < 1 || block->pages > HOLDFAST_BLOCK_PAGES)
        return damaged(fault, "index", "a block has too many pages or none");
    if (!size_fits(reader, block))
        return damaged(fault, "index", "a block's size is not that of its pages");
    if (block->offset != ALIGN_UP(end, image_alignment(block->encoding)) ||
        block->offset > reader->footer.index_offset ||
        block->stored_bytes > reader->footer.index_offset - block->offset)
        return damaged(fault, "index", "a block does not follow the one before it");
    if (block->first_run != next_run || block->runs < 1 || block->runs > block->pages ||
        block->runs > reader->footer.runs - next_run)
        return damaged(fault, "index", "a block's runs are not the next ones");
    if (!runs_fit(reader, block))
        return damaged(fault, "index", "a block's pages are not within its arena");
    return 0;
}

static int check_blocks(const ImageReader *reader, OpenFault *fault)
{
    uint64_t end = reader->footer.head_bytes;
    uint64_t next_run = 0;
    uint64_t pages = 0;
    int r;

    for (uint64_t i = 0; i < reader->footer.blocks; i++) {
        const HoldfastImageBlock *block = &reader->blocks[i];

        r = check_block(reader, block, end, next_run, fault);
        if (r < 0)
            return r;
        end = block->offset + block->stored_bytes;
        next_run += block->runs;
        pages += block->pages;
    }
    if (ALIGN_UP(end, HOLDFAST_PACKED_ALIGNMENT) != reader->footer.index_offset)
        return damaged(fault, "index", "it does not follow the last block");
    if (next_run != reader->footer.runs || pages != reader->footer.pages)
        return damaged(fault, "index", "the blocks do not hold all runs");
    return 0;
}

/* A run with its arena, to be sorted by where it lies. */
typedef struct PlacedRun {
    uint32_t arena;
    HoldfastImageRun run;
} PlacedRun;

static int compare_places(const void *a, const void *b)
{
    const PlacedRun *x = a;
    const PlacedRun *y = b;

    if (x->arena != y->arena)
        return x->arena < y->arena ? -1 : 1;
    return (x->run.first > y->run.first) - (x->run.first < y->run.first);
}

static bool runs_are_sorted(const PlacedRun *placed, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++)
        if (compare_places(&placed[i - 1], &placed[i]) > 0)
            return false;
    return true;
}

/* No page is in two runs. Sorted rather than marked in a bitmap: an arena of a made-up file may
 * claim any size, the runs are really there. Images without captured pages are in order already. */
static int check_pages_once(const ImageReader *reader, OpenFault *fault)
{
    uint64_t count = reader->footer.runs;
    _cleanup_(freep) PlacedRun *placed = calloc(count + 1, sizeof(*placed));

    if (placed == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < reader->footer.blocks; i++) {
        const HoldfastImageBlock *block = &reader->blocks[i];

        for (uint64_t run = block->first_run; run < block->first_run + block->runs; run++)
            placed[run] = (PlacedRun){.arena = block->arena, .run = reader->runs[run]};
    }
    if (!runs_are_sorted(placed, count))
        qsort(placed, count, sizeof(*placed), compare_places);
    for (uint64_t i = 1; i < count; i++)
        if (placed[i - 1].arena == placed[i].arena &&
            placed[i].run.first - placed[i - 1].run.first < placed[i - 1].run.count)
            return damaged(fault, "index", "a page is in two blocks");
    return 0;
}

static void take_summary(ImageReader *reader)
{
    const HoldfastImageSummary *stored = reader->stored_summary;

    reader->summary = (ImageSummary){
        .pause_usec = stored->pause_usec,
        .held_usec = stored->held_usec,
        .duration_usec = stored->duration_usec,
        .pages_total = stored->pages_total,
        .pages_captured = stored->pages_captured,
        .state_bytes = stored->state_bytes,
    };
}

static int read_index(ImageReader *reader, OpenFault *fault)
{
    const HoldfastImageFooter *footer = &reader->footer;
    int r;

    reader->index = malloc(footer->index_bytes);
    if (reader->index == NULL)
        return -ENOMEM;
    r = read_part(reader, reader->index, footer->index_bytes, footer->index_offset, "index", fault);
    if (r < 0)
        return r;
    reader->stored_summary = reader->index;
    reader->blocks = (const HoldfastImageBlock *)(reader->stored_summary + 1);
    reader->runs = (const HoldfastImageRun *)(reader->blocks + footer->blocks);
    if (image_index_checksum(footer->head_checksum, reader->stored_summary, reader->blocks,
                             footer->blocks, reader->runs, footer->runs) != footer->index_checksum)
        return damaged(fault, "index", "the checksum does not match");
    take_summary(reader);
    r = check_blocks(reader, fault);
    return r < 0 ? r : check_pages_once(reader, fault);
}

/* --- the reader */

static int read_all(ImageReader *reader, OpenFault *fault)
{
    int r = file_size(reader->fd, &reader->file_bytes);

    if (r < 0)
        return r;
    if (reader->file_bytes <
        sizeof(HoldfastImageHeader) + sizeof(HoldfastImageSummary) + sizeof(HoldfastImageFooter))
        return damaged(fault, "file", "it is too short to be an image");
    r = check_header(reader, fault);
    if (r == -EPROTONOSUPPORT)
        return check_foreign(reader, fault);
    if (r >= 0)
        r = read_footer(reader, fault);
    if (r >= 0)
        r = read_head(reader, fault);
    if (r >= 0)
        r = read_index(reader, fault);
    return r;
}

int image_open(int fd, ImageReader **ret, const char **ret_where, const char **ret_why)
{
    OpenFault fault = {.where = "", .why = ""};
    ImageReader *reader = calloc(1, sizeof(*reader));
    int r = -ENOMEM;

    if (reader != NULL) {
        reader->fd = fd;
        reader->fault.why = "";
        r = read_all(reader, &fault);
    }
    if (r < 0) {
        image_reader_free(reader);
        *ret_where = fault.where;
        *ret_why = fault.why;
        return r;
    }
    *ret = reader;
    return 0;
}

int image_reader_new(int fd, ImageReader **ret)
{
    const char *where;
    const char *why;

    return image_open(fd, ret, &where, &why);
}

ImageReader *image_reader_free(ImageReader *reader)
{
    if (reader == NULL)
        return NULL;
    free(reader->arenas);
    free(reader->index);
    free(reader);
    return NULL;
}

const ImageSpec *image_reader_spec(const ImageReader *reader)
{
    return &reader->spec;
}

const ImageSummary *image_reader_summary(const ImageReader *reader)
{
    return &reader->summary;
}

size_t image_reader_arenas(const ImageReader *reader)
{
    return reader->arena_count;
}

const ImageArena *image_reader_arena(const ImageReader *reader, size_t index)
{
    return &reader->arenas[index];
}

uint64_t image_reader_bytes(const ImageReader *reader)
{
    return reader->footer.file_bytes;
}

uint32_t image_reader_layout_version(const ImageReader *reader)
{
    return reader->layout_version;
}

const char *image_reader_where(const ImageReader *reader)
{
    return reader->fault.where;
}

const char *image_reader_why(const ImageReader *reader)
{
    return reader->fault.why;
}
