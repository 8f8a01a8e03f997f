/* The incremental JSON validator: reads a message as it arrives, once, and notes where things are;
 * builds no tree.
 *
 * Accepts exactly what jansson accepts with JSON_REJECT_DUPLICATES (and JSON_DECODE_ANY in value
 * mode): RFC 8259, valid UTF-8, no \u0000, no lone surrogates, no duplicate names, integers within
 * 64 bits signed, reals within double; and no more depth than the limit. But never a NUL byte,
 * which jansson overlooks behind a number or a literal. tests/fuzz holds the two together. */
#pragma once

#include "base/common.h"
#include "base/pool.h"

typedef enum ScanType {
    SCAN_NULL,
    SCAN_BOOLEAN,
    SCAN_INTEGER,
    SCAN_REAL,
    SCAN_STRING,
    SCAN_ARRAY,
    SCAN_OBJECT,
} ScanType;

enum {
    SCAN_MORE = 0, /* all bytes so far are fine, the text is not complete */
    SCAN_DONE,     /* complete: scan->end is the offset behind its last byte */
    SCAN_INVALID,  /* scan->reason and scan->end (offset of the offending byte) tell */
};

/* Where a value lies in the text, by offsets from its first byte. */
typedef struct ScanSpan {
    uint32_t begin;
    uint32_t end;
    uint8_t type;   /* ScanType */
    bool spaced;    /* has white space between tokens: must be compacted to be stored */
    bool escaped;   /* a string with a backslash, or an array or object that holds one */
    uint16_t depth; /* nesting within: 0 for a scalar, 1 for [] */
} ScanSpan;

/* A member of the outermost object or, parent >= 0, of the object that is the value of that
 * outermost member. Names are without quotes, as written (json_name_is compares one with escapes).
 */
typedef struct ScanMember {
    ScanSpan name;
    ScanSpan value;
    int16_t parent;
} ScanMember;

/* Members noted; a message with more on these two levels is still validated: overflow. The last few
 * are kept for the outermost object's own. */
#define SCAN_MEMBERS_MAX 48
#define SCAN_MEMBERS_OUTER 8
#define SCAN_DEPTH_MAX 2048
/* A longer text is SCAN_INVALID. */
#define SCAN_BYTES_MAX (UINT32_MAX - 1)

typedef struct Scan Scan;

/* 0, -ENOMEM, or what getrandom(2) says (the seed of the names' hashes). Takes one block of 4 KiB,
 * more only while a text needs it. */
int scan_new(Pool *pool, Scan **ret);
Scan *scan_free(Scan *scan);
/* levels: of how many levels members are noted: 2 for a call, 0 for a plain value. depth_max: of
 * the whole text, at most SCAN_DEPTH_MAX; [] is 1 deep. Starts a new text; a scan fresh from
 * scan_new is not started. */
void scan_start(Scan *scan, unsigned levels, unsigned depth_max);
/* Goes on with the text whose bytes [0, size) are at text (which may have moved since, but all of
 * it is there). Bytes already seen are not looked at again, but for the token that the last piece
 * cut. Leading white space belongs to the text; what follows the value is not looked at. Want of
 * memory is SCAN_INVALID with scan_failed. At the end of the input of a bare number (value mode)
 * call scan_finish. */
int scan_feed(Scan *scan, const char *text, size_t size);
/* There is no more input: SCAN_DONE or SCAN_INVALID. Trailing white space is allowed. */
int scan_finish(Scan *scan, const char *text, size_t size);

/* The results. */
size_t scan_end(const Scan *scan);
const char *scan_reason(const Scan *scan);
/* SCAN_INVALID for want of memory: the text may be fine. */
bool scan_failed(const Scan *scan);
ScanSpan scan_root(const Scan *scan);
size_t scan_members(const Scan *scan, const ScanMember **ret);
bool scan_overflow(const Scan *scan);

/* Bytes of memory that it takes now for its text, beside its own block: a text of nothing but short
 * names takes several times its size. */
size_t scan_memory(const Scan *scan);

/* One text at a time: 0, -EBADMSG or -ENOMEM, with the root's span. Trailing white space is
 * allowed, other bytes are not. */
int scan_text(Scan *scan, Bytes text, unsigned depth_max, ScanSpan *ret_root);
