/* The table of size classes, and the way from a size to its class without a search. */
#include "arena/class.h"

#include <holdfast/layout.h>

static const SizeClass classes[] = {
    {24, 1, 170},
    {32, 1, 128},
    {40, 1, 102},
    {48, 1, 85},
    {56, 1, 73},
    {64, 1, 64},
    {72, 1, 56},
    {80, 1, 51},
    {88, 1, 46},
    {96, 1, 42},
    {104, 1, 39},
    {112, 1, 36},
    {120, 1, 34},
    {128, 1, 32},
    {144, 1, 28},
    {160, 1, 25},
    {176, 1, 23},
    {192, 1, 21},
    {208, 1, 19},
    {224, 1, 18},
    {240, 1, 17},
    {256, 1, 16},
    {288, 1, 14},
    {320, 1, 12},
    {352, 1, 11},
    {384, 1, 10},
    {416, 2, 19},
    {448, 1, 9},
    {480, 1, 8},
    {512, 1, 8},
    {576, 1, 7},
    {640, 1, 6},
    {704, 2, 11},
    {768, 1, 5},
    {832, 3, 14},
    {896, 2, 9},
    {960, 1, 4},
    {1024, 1, 4},
    {1152, 2, 7},
    {1280, 1, 3},
    {1408, 4, 11},
    {1536, 2, 5},
    {1664, 3, 7},
    {1792, 4, 9},
    {1920, 1, 2},
    {2048, 1, 2},
    {2304, 3, 5},
    {2560, 2, 3},
    {2816, 5, 7},
    {3072, 3, 4},
    {3328, 5, 6},
    {3584, 7, 8},
    {3840, 1, 1},
    {4096, 1, 1},
    {4608, 6, 5},
    {5120, 4, 3},
    {5632, 7, 5},
    {6144, 3, 2},
    {6656, 5, 3},
    {7168, 7, 4},
    {7680, 2, 1},
    {8192, 2, 1},
    {9216, 7, 3},
    {10240, 5, 2},
    {11264, 11, 4},
    {12288, 3, 1},
    {13312, 10, 3},
    {14336, 7, 2},
    {15360, 4, 1},
    {16384, 4, 1},
    [CLASS_OVERFLOW] = {64, 1, 64},
    [CLASS_KIB] = {1056, 8, 31},
};
static_assert(ARRAY_SIZE(classes) <= HOLDFAST_CLASSES, "the header has a list for each class");

const SizeClass *class_get(unsigned class)
{
    return class < ARRAY_SIZE(classes) ? &classes[class] : NULL;
}

unsigned class_of(size_t size)
{
    if (size > CLASS_BYTES_MAX)
        return CLASS_LARGE;
    if (size <= 128)
        return (unsigned)((MAX(size, (size_t)24) + 7) / 8 - 3);
    /* Values of about a KiB are common, and with header and key they just miss 1024: the next step
     * would waste a tenth. */
    if (size > 1024 && size <= classes[CLASS_KIB].bytes)
        return CLASS_KIB;
    unsigned octave = 63 - (unsigned)__builtin_clzll(size - 1);
    unsigned step = (unsigned)((size - 1 - ((size_t)1 << octave)) >> (octave - 3));
    return 14 + (octave - 7) * 8 + step;
}
