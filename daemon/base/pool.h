/* Private memory that a forked child does not get (MADV_DONTFORK), so that it costs the fork
 * nothing: buffers of connections, the undo log, scratch space. Blocks are powers of two from 4 KiB
 * on. What comes back is kept for reuse, within bounds; memory that goes back to the system is
 * handed to the housekeeper, not freed by the caller's thread (that takes long). Not thread-safe:
 * the loop's thread alone uses it. */
#pragma once

#include "base/common.h"

#define POOL_BLOCK_MIN (4 * KIB)
#define POOL_KEEP_BYTES (1 * MIB)

typedef struct Pool Pool;
typedef struct Housekeeper Housekeeper;

/* housekeeper: gives memory back to the system; NULL where there is none (tests, tools): at once.
 */
int pool_new(Housekeeper *housekeeper, Pool **ret);
/* All blocks must have been given back. NULL is fine. */
Pool *pool_free(Pool *pool);

/* A block of at least size bytes, contents undefined; its real size in ret_size. NULL on want of
 * memory. */
void *pool_take(Pool *pool, size_t size, size_t *ret_size);
/* Gives a block back; size: what pool_take said. NULL is fine. */
void pool_give(Pool *pool, void *block, size_t size);
/* A larger block with the first used bytes kept; the old one is given back. NULL on want of memory,
 * the old one stays. */
void *pool_grow(Pool *pool, void *block, size_t block_size, size_t used, size_t size,
                size_t *ret_size);

/* Bytes handed out now, and bytes that may have pages in all. */
uint64_t pool_bytes_taken(const Pool *pool);
uint64_t pool_bytes_mapped(const Pool *pool);
