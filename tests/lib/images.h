/* Images for tests: arenas of made-up pages, written, read back and compared; and an image's
 * checksums made right again after its bytes were changed. Functions abort the test where the
 * system refuses. */
#pragma once

#include "checkpoint/image-read.h"

/* An arena of the table and the memory that the image is to hold. */
typedef struct TestArena {
    ImageArena row;
    uint8_t *memory; /* row.pages pages */
} TestArena;

/* An arena of that name whose identity, attributes and pages come from the seed. Of each 8 pages,
 * about one is zero, one repeats a short text, one is zero but for its last byte, the rest is
 * noise. */
TestArena test_arena_new(const char *name, uint64_t pages, bool held, unsigned seed);
void test_arena_clear(TestArena *arena);

/* A spec with this id's parts. */
ImageSpec test_spec(uint64_t revision, const char *time, bool zstd);
ImageSummary test_summary(void);

/* Puts all pages of the held arenas, in order, block_pages (at most 256) at a time. Returns what
 * the writer returned. */
int test_image_write(int fd, const ImageSpec *spec, const TestArena *arenas, size_t count,
                     uint32_t block_pages);

/* Restores each held arena and compares it with its memory, the table with the rows. 0: all is the
 * same; 1: something differs; negative: what the reader returned. */
int test_image_compare(int fd, const TestArena *arenas, size_t count);

/* Computes the checksums of an image in memory anew, as far as its footer and index make sense;
 * whatever the bytes are, nothing outside of them is touched. */
void test_image_reseal(uint8_t *image, size_t size);
