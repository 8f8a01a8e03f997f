/* XXH3 (libxxhash), 64 bits: the checksum of everything on disk and the hash of the index. */
#pragma once

#include "base/common.h"

uint64_t checksum(const void *data, size_t size);
uint64_t checksum_seeded(const void *data, size_t size, uint64_t seed);
