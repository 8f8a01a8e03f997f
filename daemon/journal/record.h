/* The encoding of update records. A record is what one update did to one arena, as applied: a merge
 * or an increment is the put of its result. Independent of the arena's layout. It is the unit that
 * happens whole or not at all.
 *
 *     record_begin -> record_put, record_delete, ... -> record_end
 *                          (a change of mind: record_discard)
 *
 * On disk: RecordHeader, then the operations one behind the other, each an OperationHeader, key and
 * value, then zeros up to a multiple of 8. */
#pragma once

#include "arena/arena.h"
#include "base/common.h"

/* The largest record, header included. A batch always has room for one. */
#define RECORD_BYTES_MAX (64 * MIB)

typedef enum RecordKind {
    RECORD_PUT = 1,
    RECORD_DELETE,
    RECORD_CREATE_ARENA,
    RECORD_CHANGE_ARENA,
    RECORD_DROP_ARENA,
} RecordKind;

typedef struct RecordHeader {
    uint64_t checksum; /* of everything behind it, seeded with the place (batch.h); set when the
                          batch is sealed */
    uint32_t bytes;    /* whole record, a multiple of 8 */
    uint32_t operations;
    uint64_t revision;
    uint64_t time_usec;
    Identity identity;
} RecordHeader;
static_assert(sizeof(RecordHeader) == 48, "part of the format");

typedef struct OperationHeader {
    uint8_t kind;
    uint8_t reserved;
    uint16_t key_bytes;
    uint32_t value_bytes;
} OperationHeader;
static_assert(sizeof(OperationHeader) == 8, "part of the format");

/* The value of RECORD_CREATE_ARENA (its key is the name) and RECORD_CHANGE_ARENA (no key). */
typedef struct RecordAttributes {
    uint64_t max_bytes;
    uint64_t created_usec;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint32_t reserved;
} RecordAttributes;
static_assert(sizeof(RecordAttributes) == 32, "part of the format");

/* --- writing */

/* Where records are gathered. journal_writer gives one; tests make their own over any memory. */
typedef struct RecordWriter {
    uint8_t *data;   /* aligned to 8 */
    size_t capacity; /* 0: closed, everything is -ENOSPC */
    size_t used;     /* finished records */
    size_t at;       /* end of the record that is being written; == used: none */
    uint32_t operations;
    int error; /* of the record that is being written; sticky until it ends or is discarded */
    uint64_t revision; /* of the last record begun */
} RecordWriter;

/* The functions return 0, or for the record that is being written, again and again until record_end
 * or record_discard:
 *
 *   -ENOSPC   no room in the batch now: discard, commit, try again when the batch in flight is done
 *   -E2BIG    the record would pass RECORD_BYTES_MAX: it never fits
 *   -EINVAL   a key, a value or a name is empty or too long */
int record_begin(RecordWriter *writer, uint64_t revision, uint64_t time_usec,
                 const Identity *identity);
/* key: 1 to HOLDFAST_KEY_MAX bytes; value: 1 to HOLDFAST_VALUE_MAX bytes; both are copied. */
int record_put(RecordWriter *writer, Bytes key, Bytes value);
int record_delete(RecordWriter *writer, Bytes key);
int record_create_arena(RecordWriter *writer, const char *name, const ArenaAttributes *attributes,
                        uint64_t created_usec);
int record_change_arena(RecordWriter *writer, const ArenaAttributes *attributes);
int record_drop_arena(RecordWriter *writer);
/* Completes the record; its bytes in ret_bytes (may be NULL). After an error (-EINVAL: it has no
 * operation) nothing of it is left. */
int record_end(RecordWriter *writer, size_t *ret_bytes);
/* Forgets what was written since record_begin. Harmless when there is nothing. */
void record_discard(RecordWriter *writer);

/* Sets or compares the checksum of the record at data, which is whole. */
void record_seal(void *data, uint64_t seed);
bool record_sealed(const void *data, uint64_t seed);

/* --- reading; of bytes that nobody vouches for */

typedef struct Record {
    uint64_t revision;
    uint64_t time_usec;
    Identity identity;
    uint32_t operations; /* in all */
    uint32_t bytes;
    const uint8_t *at; /* the next operation */
    const uint8_t *end;
} Record;

typedef struct RecordOperation {
    RecordKind kind;
    Bytes
        key; /* put, delete: the key; create: the arena's name (at most HOLDFAST_NAME_MAX bytes) */
    Bytes value;                /* put */
    ArenaAttributes attributes; /* create, change */
    uint64_t created_usec;      /* create */
} RecordOperation;

/* The bytes that a record at data says it has, of which size are there; 0 where it cannot be one.
 * Looks at its header. */
size_t record_bytes(const void *data, size_t size);
/* Checks the whole record, every operation included (not the checksum); from then on
 * record_next_operation cannot go wrong. data: record_bytes bytes of it, must stay. -EBADMSG where
 * it is none. */
int record_open(const void *data, size_t size, Record *ret);
/* The next operation; false: that was the last. Keys and values point into the record. */
bool record_next_operation(Record *record, RecordOperation *ret);
