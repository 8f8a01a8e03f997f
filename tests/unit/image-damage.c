/* Unit tests of damaged and made-up images. The first half damages an image as disks do: nothing
 * passes unnoticed. The second makes all checksums right again, so that the checks behind them have
 * to hold: any answer is good but a crash, or an access out of bounds, which the sanitizers see. */
#include "checkpoint/image-read.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "base/file.h"
#include "checkpoint/image-format.h"
#include "lib/images.h"

/* A small image in memory, and the arenas it was made of. */
typedef struct Sample {
    TestArena arenas[3];
    uint8_t *image;
    size_t size;
    int fd; /* a file with the same bytes, for the reader */
} Sample;

static void sample_load(Sample *sample)
{
    uint64_t size;

    cr_assert(eq(int, file_size(sample->fd, &size), 0));
    sample->size = size;
    sample->image = malloc(size);
    cr_assert(ne(ptr, sample->image, NULL));
    cr_assert(eq(int, file_read_at(sample->fd, sample->image, size, 0), 0));
}

/* Two blocks of two arenas, with raw and compressed ones where zstd; the third arena is not held.
 */
static Sample sample_new(bool zstd)
{
    ImageSpec spec = test_spec(42, "20240229T235959Z", zstd);
    Sample sample = {.arenas = {
                         test_arena_new("one", 3, true, 11),
                         test_arena_new("two", 2, true, 12),
                         test_arena_new("three", 2, false, 13),
                     }};

    cr_assert(eq(int, file_memfd("image", 0, &sample.fd), 0));
    /* Known contents: text that packs and a zero page; noise. */
    memset(sample.arenas[0].memory, 'x', HOLDFAST_PAGE_BYTES);
    memset(sample.arenas[0].memory + HOLDFAST_PAGE_BYTES, 0, HOLDFAST_PAGE_BYTES);
    for (size_t i = 0; i < HOLDFAST_PAGE_BYTES; i++)
        sample.arenas[1].memory[i] = (uint8_t)(i * i * 2654435761u >> 11);
    cr_assert(eq(int, test_image_write(sample.fd, &spec, sample.arenas, 3, 1), 0));
    sample_load(&sample);
    return sample;
}

static void sample_clear(Sample *sample)
{
    for (size_t i = 0; i < ARRAY_SIZE(sample->arenas); i++)
        test_arena_clear(&sample->arenas[i]);
    free(sample->image);
    close(sample->fd);
}

static void sample_store(const Sample *sample, size_t size)
{
    cr_assert(eq(int, ftruncate(sample->fd, 0), 0));
    cr_assert(eq(int, file_write_at(sample->fd, sample->image, size, 0), 0));
}

static int verify(int fd)
{
    ImageReader *reader;
    int r = image_reader_new(fd, &reader);

    if (r < 0)
        return r;
    r = image_reader_verify(reader, NULL, NULL);
    image_reader_free(reader);
    return r;
}

static bool is_refused(int r)
{
    return r == -EBADMSG || r == -EPROTONOSUPPORT;
}

/* --- damage */

static void check_flip(const Sample *sample, size_t offset, uint8_t mask)
{
    uint8_t byte = sample->image[offset] ^ mask;
    int r;

    cr_assert(eq(int, file_write_at(sample->fd, &byte, 1, offset), 0));
    r = test_image_compare(sample->fd, sample->arenas, ARRAY_SIZE(sample->arenas));
    cr_assert(r == 0 || is_refused(r), "byte %zu ^ %02x: read as %d", offset, mask, r);
    r = verify(sample->fd);
    cr_assert(is_refused(r), "byte %zu ^ %02x: verified as %d", offset, mask, r);
    cr_assert(eq(int, file_write_at(sample->fd, &sample->image[offset], 1, offset), 0));
}

static void check_every_flip(bool zstd)
{
    Sample sample = sample_new(zstd);

    cr_assert(eq(int, test_image_compare(sample.fd, sample.arenas, ARRAY_SIZE(sample.arenas)), 0));
    for (size_t offset = 0; offset < sample.size; offset++)
        check_flip(&sample, offset, (uint8_t)(1u << (offset * 5 % 8)));
    cr_assert(eq(int, verify(sample.fd), 0));
    sample_clear(&sample);
}

Test(image_damage, every_flipped_byte_of_a_raw_image_is_found)
{
    check_every_flip(false);
}

Test(image_damage, every_flipped_byte_of_a_zstd_image_is_found)
{
    check_every_flip(true);
}

Test(image_damage, every_bit_of_header_index_and_footer_is_found)
{
    Sample sample = sample_new(true);
    HoldfastImageFooter footer;

    memcpy(&footer, sample.image + sample.size - sizeof(footer), sizeof(footer));
    for (unsigned bit = 0; bit < 8; bit++) {
        for (size_t offset = 0; offset < footer.head_bytes; offset++)
            check_flip(&sample, offset, (uint8_t)(1u << bit));
        for (size_t offset = footer.index_offset; offset < sample.size; offset++)
            check_flip(&sample, offset, (uint8_t)(1u << bit));
    }
    sample_clear(&sample);
}

Test(image_damage, every_truncation_is_found)
{
    Sample sample = sample_new(false);

    for (size_t size = sample.size; size-- > 0;) {
        cr_assert(eq(int, ftruncate(sample.fd, (off_t)size), 0));
        cr_assert(eq(int, verify(sample.fd), -EBADMSG), "cut to %zu", size);
    }
    sample_clear(&sample);
}

Test(image_damage, file_that_has_grown_is_found)
{
    Sample sample = sample_new(false);

    cr_assert(eq(int, file_write_at(sample.fd, "x", 1, sample.size), 0));
    cr_assert(eq(int, verify(sample.fd), -EBADMSG));
    /* The last bytes are a footer, but of another place. */
    sample_store(&sample, sample.size);
    cr_assert(eq(int,
                 file_write_at(sample.fd, sample.image + sample.size - sizeof(HoldfastImageFooter),
                               sizeof(HoldfastImageFooter), sample.size),
                 0));
    cr_assert(eq(int, verify(sample.fd), -EBADMSG));
    sample_clear(&sample);
}

/* --- places and reasons */

static HoldfastImageBlock *blocks_of(const Sample *sample)
{
    const HoldfastImageFooter *footer =
        (HoldfastImageFooter *)(sample->image + sample->size - sizeof(HoldfastImageFooter));

    return (HoldfastImageBlock *)(sample->image + footer->index_offset +
                                  sizeof(HoldfastImageSummary));
}

static HoldfastImageRun *runs_of(const Sample *sample)
{
    const HoldfastImageFooter *footer =
        (HoldfastImageFooter *)(sample->image + sample->size - sizeof(HoldfastImageFooter));

    return (HoldfastImageRun *)(blocks_of(sample) + footer->blocks);
}

Test(image_damage, place_and_reason_are_told)
{
    Sample sample = sample_new(false);
    const HoldfastImageBlock *block = &blocks_of(&sample)[1];
    ImageReader *reader;
    char expected[96];
    int memfd;

    sample.image[block->offset + 5] ^= 1;
    sample_store(&sample, sample.size);
    snprintf(expected, sizeof(expected), "block 1 at offset %llu",
             (unsigned long long)block->offset);
    cr_assert(eq(int, image_reader_new(sample.fd, &reader), 0));
    cr_assert(eq(int, image_reader_verify(reader, NULL, NULL), -EBADMSG));
    cr_assert(eq(str, (char *)image_reader_where(reader), expected));
    cr_assert(eq(str, (char *)image_reader_why(reader), "checksum does not match"));
    image_reader_free(reader);

    cr_assert(eq(int, image_reader_new(sample.fd, &reader), 0));
    cr_assert(eq(int, image_reader_restore(reader, block->arena, NULL, NULL, &memfd), -EBADMSG));
    cr_assert(eq(str, (char *)image_reader_where(reader), expected));
    /* The other arena is not touched by it. */
    cr_assert(eq(int, image_reader_restore(reader, 1, NULL, NULL, &memfd), 0));
    close(memfd);
    image_reader_free(reader);
    sample_clear(&sample);
}

Test(image_damage, reader_that_is_not_made_tells_too)
{
    Sample sample = sample_new(false);
    const char *where = NULL;
    const char *why = NULL;
    ImageReader *reader;

    sample.image[sample.size - sizeof(HoldfastImageFooter) - 1] ^= 1;
    sample_store(&sample, sample.size);
    cr_assert(eq(int, image_open(sample.fd, &reader, &where, &why), -EBADMSG));
    cr_assert(eq(str, (char *)where, "index"));
    cr_assert(eq(str, (char *)why, "the checksum does not match"));
    sample_clear(&sample);
}

Test(image_damage, version_or_flag_that_nobody_wrote_is_damage)
{
    Sample sample = sample_new(false);
    HoldfastImageHeader *header = (HoldfastImageHeader *)sample.image;

    header->version ^= 4;
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), -EBADMSG));
    header->version ^= 4;
    header->incompatible ^= UINT64_C(1) << 40;
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), -EBADMSG));
    /* Where the footer is gone, too, nothing tells whose it is. */
    sample.image[sample.size - 1] ^= 1;
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), -EPROTONOSUPPORT));
    sample_clear(&sample);
}

Test(image_damage, newer_version_is_not_damage)
{
    Sample sample = sample_new(false);
    HoldfastImageHeader *header = (HoldfastImageHeader *)sample.image;

    header->version = HOLDFAST_IMAGE_VERSION + 1;
    test_image_reseal(sample.image, sample.size);
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), -EPROTONOSUPPORT));
    header->version = HOLDFAST_IMAGE_VERSION;
    header->incompatible = UINT64_C(1) << 63;
    test_image_reseal(sample.image, sample.size);
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), -EPROTONOSUPPORT));
    header->incompatible = 0;
    header->compatible = UINT64_C(1) << 63;
    test_image_reseal(sample.image, sample.size);
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), 0));
    sample_clear(&sample);
}

Test(image_damage, descriptor_that_cannot_be_read_is_not_damage)
{
    ImageReader *reader;
    int pipe_fds[2];

    cr_assert(eq(int, image_reader_new(-1, &reader), -EBADF));
    cr_assert(eq(int, pipe(pipe_fds), 0));
    cr_assert(eq(int, image_reader_new(pipe_fds[0], &reader), -EBADMSG)); /* of size 0 */
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

Test(image_damage, block_of_another_image_is_found)
{
    /* The same arenas but for their contents, so the same places. */
    ImageSpec spec = test_spec(43, "20240229T235959Z", false);
    Sample sample = sample_new(false);
    Sample other = sample_new(false);

    other.arenas[0].memory[7] ^= 1;
    cr_assert(eq(int, ftruncate(other.fd, 0), 0));
    cr_assert(eq(int, test_image_write(other.fd, &spec, other.arenas, 3, 1), 0));
    free(other.image);
    sample_load(&other);
    cr_assert(eq(sz, other.size, sample.size));
    cr_assert(eq(u64, blocks_of(&other)[0].offset, blocks_of(&sample)[0].offset));
    /* Block and its checksum, and the index sealed again: the checksum is of another head. */
    memcpy(sample.image + blocks_of(&sample)[0].offset, other.image + blocks_of(&other)[0].offset,
           HOLDFAST_PAGE_BYTES);
    test_image_reseal(sample.image, sample.size);
    blocks_of(&sample)[0].checksum = blocks_of(&other)[0].checksum;
    sample_store(&sample, sample.size);
    cr_assert(eq(int, verify(sample.fd), -EBADMSG));
    sample_clear(&sample);
    sample_clear(&other);
}

/* --- made up: all checksums are right */

/* Whatever is answered is fine; that everything is read is the point. */
static int read_everything(int fd)
{
    ImageReader *reader;
    int r = image_reader_new(fd, &reader);

    if (r < 0)
        return r;
    for (size_t i = 0; i < image_reader_arenas(reader) && r == 0; i++) {
        int memfd = -1;

        if (!image_reader_arena(reader, i)->held)
            continue;
        r = image_reader_restore(reader, i, NULL, NULL, &memfd);
        closep(&memfd);
    }
    if (r == 0)
        r = image_reader_verify(reader, NULL, NULL);
    image_reader_free(reader);
    return r;
}

static void check_every_sealed_flip(bool zstd, uint8_t mask)
{
    Sample sample = sample_new(zstd);
    uint8_t *sealed = malloc(sample.size);
    unsigned passed = 0;

    for (size_t offset = 0; offset < sample.size; offset++) {
        int r;

        memcpy(sealed, sample.image, sample.size);
        sealed[offset] ^= mask;
        test_image_reseal(sealed, sample.size);
        cr_assert(eq(int, file_write_at(sample.fd, sealed, sample.size, 0), 0));
        r = read_everything(sample.fd);
        cr_assert(r == 0 || is_refused(r), "byte %zu ^ %02x: %d", offset, mask, r);
        passed += r == 0;
    }
    /* Contents of pages are nobody's to judge, so the sealing did work. */
    cr_assert(gt(uint, passed, zstd ? 100 : HOLDFAST_PAGE_BYTES));
    free(sealed);
    sample_clear(&sample);
}

Test(image_damage, sealed_flips_of_a_raw_image_are_survived)
{
    check_every_sealed_flip(false, 0x80);
}

Test(image_damage, sealed_flips_of_a_zstd_image_are_survived)
{
    check_every_sealed_flip(true, 0x01);
    check_every_sealed_flip(true, 0xff);
}

/* A sealed image whose index was changed by hand. */
static int read_sealed(Sample *sample)
{
    test_image_reseal(sample->image, sample->size);
    sample_store(sample, sample->size);
    return read_everything(sample->fd);
}

Test(image_damage, page_in_two_blocks_is_refused)
{
    Sample sample = sample_new(false);

    cr_assert(eq(uint, blocks_of(&sample)[0].arena, blocks_of(&sample)[1].arena));
    runs_of(&sample)[1].first = runs_of(&sample)[0].first;
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    sample_clear(&sample);
}

Test(image_damage, pages_outside_of_the_arena_are_refused)
{
    Sample sample = sample_new(false);

    runs_of(&sample)[0].first = 3;
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    runs_of(&sample)[0].first = UINT32_MAX;
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    sample_clear(&sample);
}

Test(image_damage, block_of_an_arena_that_is_not_held_is_refused)
{
    Sample sample = sample_new(false);

    blocks_of(&sample)[2].arena = 2;
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    blocks_of(&sample)[2].arena = 3;
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    sample_clear(&sample);
}

Test(image_damage, id_that_would_leave_the_directory_is_refused)
{
    Sample sample = sample_new(false);
    HoldfastImageHeader *header = (HoldfastImageHeader *)sample.image;

    memcpy(header->id, "../../etc/x", 12);
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    memset(header->id, 'x', sizeof(header->id));
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    sample_clear(&sample);
}

Test(image_damage, two_arenas_of_one_name_or_identity_are_refused)
{
    Sample sample = sample_new(false);
    HoldfastImageArena *table = (HoldfastImageArena *)(sample.image + sizeof(HoldfastImageHeader));

    memcpy(table[2].name, table[0].name, sizeof(table[2].name));
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    memcpy(table[2].name, "other", 6);
    cr_assert(eq(int, read_sealed(&sample), 0));
    memcpy(table[2].identity, table[0].identity, sizeof(table[2].identity));
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    sample_clear(&sample);
}

Test(image_damage, huge_claims_cost_no_memory)
{
    Sample sample = sample_new(false);
    HoldfastImageArena *table = (HoldfastImageArena *)(sample.image + sizeof(HoldfastImageHeader));

    /* 16 TiB of zero pages: sparse, so it may be. */
    table[0].pages = UINT32_MAX;
    cr_assert(eq(int, read_sealed(&sample), 0));
    table[0].pages = UINT64_C(1) + UINT32_MAX;
    cr_assert(eq(int, read_sealed(&sample), -EBADMSG));
    sample_clear(&sample);
}
