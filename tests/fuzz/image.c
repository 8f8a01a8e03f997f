/* Fuzzes the reader of images: opens, restores every arena, verifies. The first byte of the input
 * is a mode: odd, and all checksums of what follows are computed anew, so that the checks behind
 * them are reached; even, and it is read as it is. Beside the sanitizers, it is held that an answer
 * is one of those that are documented, and that what was restored is as long as the table says.
 *
 * With no input to begin from, a first mutation makes a small image, for no mutation of nothing
 * would ever be one. */
#include <stdio.h>

#include "base/file.h"
#include "checkpoint/image-format.h"
#include "lib/images.h"

/* Room for what the fuzzer may send, all blocks of a small image. */
#define INPUT_MAX (64 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static void expect(bool holds, const char *what, int r)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %d\n", what, r);
    abort();
}

static void restore(ImageReader *reader, size_t index)
{
    _cleanup_(closep) int memfd = -1;
    uint64_t size;
    int r = image_reader_restore(reader, index, NULL, NULL, &memfd);

    expect(r == 0 || r == -EBADMSG, "restore", r);
    expect(r == 0 || image_reader_where(reader)[0] != '\0', "restore tells no place", r);
    if (r == 0) {
        r = file_size(memfd, &size);
        expect(r == 0 && size >= image_reader_arena(reader, index)->pages * HOLDFAST_PAGE_BYTES,
               "size", r);
    }
}

static void read_image(int fd)
{
    const char *where = NULL;
    const char *why = NULL;
    ImageReader *reader;
    int r = image_open(fd, &reader, &where, &why);

    expect(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT, "open", r);
    if (r < 0) {
        expect(where[0] != '\0' && why[0] != '\0', "open tells no place", r);
        return;
    }
    for (size_t i = 0; i < image_reader_arenas(reader); i++)
        if (image_reader_arena(reader, i)->held)
            restore(reader, i);
    r = image_reader_verify(reader, NULL, NULL);
    expect(r == 0 || r == -EBADMSG, "verify", r);
    image_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(closep) int fd = -1;
    _cleanup_(freep) uint8_t *image = NULL;
    int r;

    if (size < 1 || size > INPUT_MAX)
        return 0;
    image = malloc(size);
    r = file_memfd("image", 0, &fd);
    expect(image != NULL && r == 0, "no memory", r);
    memcpy(image, data + 1, size - 1);
    if (data[0] % 2 == 1)
        test_image_reseal(image, size - 1);
    r = file_write_at(fd, image, size - 1, 0);
    expect(r == 0, "write", r);
    read_image(fd);
    return 0;
}

/* --- images to begin from */

static size_t make_image(uint8_t *data, size_t max_size, unsigned seed)
{
    TestArena arenas[] = {
        test_arena_new("one", 1 + seed % 5, true, seed),
        test_arena_new("two", 2, seed % 2 == 0, seed + 1),
        test_arena_new("three", 1, false, seed + 2),
    };
    ImageSpec spec = test_spec(seed, "20240229T235959Z", seed % 4 != 0);
    _cleanup_(closep) int fd = -1;
    uint64_t bytes = 0;
    int r = file_memfd("image", 0, &fd);

    if (r == 0)
        r = test_image_write(fd, &spec, arenas, ARRAY_SIZE(arenas), 1 + seed % 3);
    if (r == 0)
        r = file_size(fd, &bytes);
    if (r == 0 && bytes < max_size)
        r = file_read_at(fd, data + 1, bytes, 0);
    for (size_t i = 0; i < ARRAY_SIZE(arenas); i++)
        test_arena_clear(&arenas[i]);
    expect(r == 0, "make an image", r);
    data[0] = 1;
    return bytes < max_size ? bytes + 1 : 1;
}

/* A word of header, table, index or footer set to what a count, a size or an offset may go wrong
 * with. */
static void change_word(uint8_t *data, size_t size, unsigned seed)
{
    static const uint64_t values[] = {
        0,          1,          255,       256,        257,      4095,           4096,
        INT32_MAX,  UINT32_MAX, INT64_MAX, UINT64_MAX, 1u << 20, (1u << 20) + 1, 128,
        UINT16_MAX, 48,         64,        160};
    uint64_t value = values[seed % ARRAY_SIZE(values)];
    size_t width = seed / 32 % 2 == 0 ? 4 : 8;
    size_t place = seed / 64 % (size / 4) * 4 + 1;

    /* Most of an image is pages; what counts lies at its ends. */
    if (seed % 3 > 0 && size > 1024)
        place = seed % 3 == 1 ? place % 896 + 1 : size - place % 512 - width;
    if (place + width <= size)
        memcpy(data + place, &value, width);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    if (size < 256 && max_size > 1)
        return make_image(data, max_size, seed);
    if (seed % 2 == 0 || size < 16)
        return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 16 == 1)
        data[0] ^= 1;
    change_word(data, size, seed / 2);
    return size;
}
