/* The memory layout of an arena, shared by the daemon, the client library and whoever maps an arena read-only.
 *
 * An arena is a memfd. Integers are little-endian and naturally aligned, reserved space is zero. Everything is an
 * offset from the arena's first byte, never a pointer, so an image of the memory is the arena. The unit of capture and
 * of saving is the page of 4096 bytes.
 *
 *   page 0                header: who the arena is, counters, roots of index and heap
 *   chunk c (16 MiB)      its first HOLDFAST_CHUNK_MAP_PAGES pages (in chunk 0: the ones behind the header) hold one
 *                         HoldfastPage for each page of the chunk
 *   the other pages       slabs of blocks of one size class, runs of one large block, segments and directory of the
 *                         index, or free
 *
 * Index: linear hashing. Bucket numbers are the low bits of the key's hash; a bucket is 64 bytes: 7 slots and a link to
 * an overflow bucket. Buckets lie in segments of 1024 (64 KiB); a directory page lists 1024 segments; the header lists
 * the directory pages. It grows one bucket at a time.
 *
 * A reader without a lock: change_counter is odd while an update is being linked; an entry's revision is 0 while the
 * entry is written and once it is freed. Everything read must be checked against the mapped size before it is used. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HOLDFAST_LAYOUT_VERSION 1
#define HOLDFAST_ARENA_MAGIC "HFARENA" /* 8 bytes with its NUL */

#define HOLDFAST_PAGE_BYTES 4096u
#define HOLDFAST_NAME_MAX 64u
#define HOLDFAST_KEY_MAX 1024u
#define HOLDFAST_VALUE_MAX (8u << 20)

#define HOLDFAST_CHUNK_PAGES 4096u
#define HOLDFAST_CHUNK_MAP_PAGES 16u /* 4096 descriptors of 16 bytes */

#define HOLDFAST_BUCKET_SLOTS 7u
#define HOLDFAST_SEGMENT_BUCKETS 1024u
#define HOLDFAST_DIRECTORY_SEGMENTS 1024u
#define HOLDFAST_DIRECTORIES 256u
#define HOLDFAST_CHAIN_MAX 128u /* entries in one bucket's chain */
