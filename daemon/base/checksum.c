/* XXH3 through the library: it picks the widest vector instructions that the machine has. */
#include "base/checksum.h"

#include <xxhash.h>

uint64_t checksum(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t checksum_seeded(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}
