/* A batch: the records that one turn of the loop gathered, written in one go. It begins at a
 * multiple of 512 with a BatchHeader, then come its records, then zeros up to the next multiple of
 * 512.
 *
 * What ties a batch to its place: the header's checksum is seeded with the segment's salt and
 * covers the offset and the checksum of the header before (the chain); each record's checksum is
 * seeded with the header's and the record's offset. So neither what a recycled file held before,
 * nor an older batch at the same place, nor a sector that a power cut kept from one of them can
 * look valid. */
#pragma once

#include "base/common.h"
#include "journal/segment.h"

#define BATCH_MAGIC 0x54424648u /* "HFBT" */
/* The largest batch, header and padding included. */
#define BATCH_BYTES_MAX (65 * MIB)

enum {
    BATCH_FIRST = 1 << 0, /* of its segment: previous_segment and previous_end count */
    BATCH_CLEAN = 1 << 1, /* the daemon stopped here as it should */
    /* First batch behind a condemned segment: everything up to applied_revision is in images, and
       perhaps only there. */
    BATCH_RESTART = 1 << 2,
};

typedef struct BatchHeader {
    uint64_t checksum; /* of the rest of the header, seeded with the salt */
    uint32_t magic;
    uint32_t flags;
    uint64_t offset; /* of this header in its segment */
    uint64_t bytes;  /* header and records, padding not */
    uint64_t
        chain; /* checksum of the header of the batch before in this segment; 0: there is none */
    uint64_t records;
    /* Where the records before this segment end. */
    uint64_t previous_segment; /* 0: there are none */
    uint64_t previous_end;
    uint64_t previous_revision; /* of the last record before this batch */
    uint64_t
        base_revision; /* what this batch counts from; no record has a number between the two */
    uint64_t last_revision;    /* of its last record; base_revision where it has none */
    JournalMark mark;          /* the newest durable mark when it was written */
    uint64_t applied_revision; /* BATCH_RESTART */
    uint64_t reserved;
} BatchHeader;
static_assert(sizeof(BatchHeader) == 128, "part of the format");

/* Seals the batch at data: used bytes, of which the first sizeof(BatchHeader) are the header's.
 * fields: flags, offset, chain, previous_*, base_revision and mark; the rest is found out here.
 * Pads with zeros (room for that: up to 511 bytes) and returns the padded size. -EBADMSG: the
 * records do not fill the bytes (what an adopted control memfd holds is not trusted). */
int64_t batch_seal(void *data, size_t used, const BatchHeader *fields, uint64_t salt);

/* True where this is a batch's header that belongs to this offset of the segment. */
bool batch_valid(const BatchHeader *header, uint64_t sequence, uint64_t offset, uint64_t salt);

/* What a record's checksum is seeded with. */
static inline uint64_t batch_record_seed(const BatchHeader *header, uint64_t record_offset)
{
    return header->checksum ^ (record_offset * UINT64_C(0x9E3779B97F4A7C15));
}

static inline uint64_t batch_padded(uint64_t bytes)
{
    return ALIGN_UP(bytes, (uint64_t)SEGMENT_SECTOR);
}
