/* XXH3 (libxxhash), 64 bits: the checksum of everything on disk and the hash of the index. */
#pragma once

#include "base/common.h"

uint64_t checksum(const void *data, size_t size);
uint64_t checksum_seeded(const void *data, size_t size, uint64_t seed);
/* The same; between is called after each piece of 256 KiB: for who must not compute for long in one
 * go. */
uint64_t checksum_seeded_by_pieces(const void *data, size_t size, uint64_t seed,
                                   void (*between)(void *context), void *context);
