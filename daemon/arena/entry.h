/* Entries: a header, the key, the value. The only mutator of what an arena holds. */
#pragma once

#include "arena/internal.h"

/* Blocks up to this size are overwritten where they are, when the new entry fits their class;
 * larger ones are replaced, which spares saving the old bytes. */
#define ENTRY_IN_PLACE_MAX 1024u

/* The entry there, checked to lie within the arena. 0 or ARENA_DAMAGED. */
int entry_at(const Arena *arena, uint64_t offset, const HoldfastEntry **ret);

static inline Bytes entry_key(const HoldfastEntry *entry)
{
    return BYTES(entry + 1, entry->key_bytes);
}

static inline Bytes entry_value(const HoldfastEntry *entry)
{
    return BYTES((const char *)(entry + 1) + entry->key_bytes, entry->value_bytes);
}

static inline size_t entry_bytes(const HoldfastEntry *entry)
{
    return sizeof(*entry) + entry->key_bytes + entry->value_bytes;
}
