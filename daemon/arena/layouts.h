/* The layouts of an arena's memory that this program can read, by version: where in the header and
 * in an entry things are. Reading through a description is for taking arenas over into the layout
 * of this program (arena_convert) and for looking at them (arena_peek), not for service. */
#pragma once

#include "base/common.h"

typedef struct ArenaLayout {
    uint32_t version;
    uint32_t incompatible_flags; /* known ones */
    /* Offsets in the header; numbers are of 64 bits, uid, gid, mode of 32. */
    struct {
        uint32_t created_usec;
        uint32_t created_revision;
        uint32_t generation;
        uint32_t uid;
        uint32_t gid;
        uint32_t mode;
        uint32_t name; /* 72 bytes, ends in NUL */
        uint32_t change_counter;
        uint32_t revision;
        uint32_t entries;
        uint32_t buckets;
        uint32_t capacity_pages;
        uint32_t high_water_pages;
        uint32_t directories; /* page numbers, of 32 bits */
    } header;
    /* An entry: its header, which ends where the key begins. */
    struct {
        uint32_t bytes;
        uint32_t revision;
        uint32_t value_bytes;
        uint32_t key_bytes; /* of 16 bits */
    } entry;
    /* The index: directory pages list segments of buckets; a bucket is slots and the next one's
     * offset. The low bits of a slot are an entry's offset in units. */
    struct {
        uint32_t directories;
        uint32_t directory_segments;
        uint32_t segment_buckets;
        uint32_t slots;
        uint32_t chain_buckets; /* in one chain, at most */
        uint32_t slot_bits;
        uint32_t slot_unit;
    } index;
} ArenaLayout;

/* NULL: not known. */
const ArenaLayout *arena_layout(uint32_t version);
