/* Files of the journal: journal/<sequence, 10 digits>.journal.
 *
 *   0     SegmentHeader: lineage, sequence, a random salt that goes into every checksum of the
 *         segment
 *   512   MarkSector: the durable mark, rewritten some milliseconds after a sync (what was synced
 *         meanwhile is told by the headers of the batches behind), never synced for its own sake
 *   1024  batches at multiples of 512 (batch.h)
 *
 * A segment is made under another name, complete with its header, and gets its own by a rename once
 * it is durable, so a header that does not check out is damage, never a torn beginning. It is
 * filled with zeros ahead (under Sync=always), grows, or was a segment before: then what lies there
 * does not check out under the new salt. */
#pragma once

#include "base/common.h"

#define SEGMENT_MAGIC "HFJOURN" /* 8 bytes with its NUL */
#define SEGMENT_VERSION 1
#define SEGMENT_SECTOR 512u
#define SEGMENT_MARK_OFFSET 512u
#define SEGMENT_BATCHES_OFFSET 1024u
#define SEGMENT_FILL_STEP (1 * MIB)
#define SEGMENT_SEQUENCE_MAX UINT64_C(9999999999)
#define SEGMENT_NAME_MAX 40

/* Random, the same for all segments of a state directory. */
typedef struct Lineage {
    uint8_t bytes[16];
} Lineage;

static inline bool lineage_equal(const Lineage *a, const Lineage *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* A place in the journal and the revision of the last record before it. */
typedef struct JournalMark {
    uint64_t segment; /* sequence; 0: before everything */
    uint64_t offset;
    uint64_t revision;
} JournalMark;

/* Which of two places comes first: negative, 0, positive. */
static inline int journal_mark_compare(const JournalMark *a, const JournalMark *b)
{
    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

typedef struct SegmentHeader {
    uint64_t checksum; /* of the rest of the sector */
    char magic[8];
    uint32_t version;
    uint32_t compatible_flags;   /* unknown ones may be ignored */
    uint32_t incompatible_flags; /* unknown ones must not */
    uint32_t reserved;
    Lineage lineage;
    uint64_t sequence;
    uint64_t salt;
    uint64_t created_usec;
    uint8_t reserved2[440];
} SegmentHeader;
static_assert(sizeof(SegmentHeader) == SEGMENT_SECTOR, "part of the format");

/* MarkSector flags */
enum {
    /* A sync of this segment failed. What is behind the mark is in memory at best. Written to the
     * page cache, which is where the false contents live just as long. */
    MARK_CONDEMNED = 1 << 0,
};

typedef struct MarkSector {
    uint64_t checksum; /* of the rest of the sector, seeded with the salt */
    uint64_t flags;
    JournalMark mark;
    uint8_t reserved[472];
} MarkSector;
static_assert(sizeof(MarkSector) == SEGMENT_SECTOR, "part of the format");

/* "0000000001.journal"; into name. */
const char *segment_name(uint64_t sequence, char name[static SEGMENT_NAME_MAX]);
/* The sequence of a segment's name; 0 for any other name. */
uint64_t segment_parse_name(const char *name);

/* What segment_make shall make. */
typedef struct SegmentSpec {
    int directory_fd;
    Lineage lineage;
    uint64_t sequence;
    uint64_t salt;
    uint64_t fill; /* bytes to fill with zeros, from the file's beginning */
    const void
        *first; /* a first batch, sealed and padded, to be there from the beginning; may be NULL */
    size_t first_bytes;
} SegmentSpec;

/* Makes a segment (of the spare file where there is one) and its name durable. Slow: not in the
 * loop's thread. Returns the descriptor in ret_fd and how far the file is filled. */
int segment_make(const SegmentSpec *spec, int *ret_fd, uint64_t *ret_filled);
/* Takes segments out of the journal: unlink, or keep as the spare file; each durable before the
 * next. Slow. */
int segment_remove(int directory_fd, uint64_t sequence, uint64_t spare_bytes_max);
/* Removes what an interrupted segment_make left, and the spare file. */
int segment_clean(int directory_fd);
/* Keeps a segment beside the journal as <name>.damaged (with a number behind it where that name is
 * taken). stays: under its own name too. Not durable until the directory is synced. */
int segment_set_aside(int directory_fd, uint64_t sequence, bool stays);
/* The sequences of all segments there, rising; by malloc. */
int segment_list(int directory_fd, uint64_t **ret, size_t *ret_count);
/* Fills [from, to) with zeros, in pieces. */
int segment_fill(int fd, uint64_t from, uint64_t to);

/* 0; -EBADMSG where the header does not check out; -EPROTONOSUPPORT where it does but is of a
 * version or has flags that this program does not know (*ret is filled). */
int segment_read_header(int fd, uint64_t sequence, SegmentHeader *ret);
/* One pwrite, not synced. */
int segment_write_mark(int fd, uint64_t salt, const JournalMark *mark, uint64_t flags);
/* -EBADMSG where the sector does not check out: then there is no mark. -ENODATA: it was never
 * written. */
int segment_read_mark(int fd, uint64_t salt, JournalMark *ret, uint64_t *ret_flags);
