/* XXH3 through the library: it picks the widest vector instructions that the machine has. */
#include "base/checksum.h"

/* For a state that lies on the stack: the library's own may be made by it alone. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#define PIECE_BYTES (256 * KIB)

uint64_t checksum(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t checksum_seeded(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

uint64_t checksum_seeded_by_pieces(const void *data, size_t size, uint64_t seed,
                                   void (*between)(void *context), void *context)
{
    const char *at = data;
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed);
    while (size > 0) {
        size_t piece = MIN(size, PIECE_BYTES);

        (void)XXH3_64bits_update(&state, at, piece);
        at += piece;
        size -= piece;
        between(context);
    }
    return XXH3_64bits_digest(&state);
}
