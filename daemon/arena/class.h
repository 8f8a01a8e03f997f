/* Size classes of blocks: multiples of 8 up to 128 bytes, then eight steps an octave up to 16 KiB;
 * blocks that are larger get pages of their own. The table belongs to the layout: changing it makes
 * another layout version. */
#pragma once

#include "base/common.h"

#define CLASS_BYTES_MAX 16384u
#define CLASS_OVERFLOW 70u /* overflow buckets of the index: cache lines of their own */
#define CLASS_KIB 71u      /* a KiB and what a value has about it, out of the order of sizes */
#define CLASS_LARGE 255u   /* not in a slab: a run of pages */

typedef struct SizeClass {
    uint16_t bytes; /* of a block */
    uint8_t pages;  /* of a slab: as few as waste at most a sixteenth */
    uint8_t blocks; /* in a slab */
} SizeClass;

/* NULL where there is no such class. */
const SizeClass *class_get(unsigned class);
/* The smallest class for a block of size bytes; CLASS_LARGE above CLASS_BYTES_MAX. */
unsigned class_of(size_t size);
