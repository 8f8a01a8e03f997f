/* The incremental JSON validator.
 *
 * The normal way: scan_start, then scan_feed each time more of the message is there. A step a
 * token: `state` says what may come next, `stack` which containers are open, `at` where to go on. A
 * token that the input cuts off is left for the next call: strings and numbers go on where they
 * were (a cut character or escape is looked at again, 12 bytes at most), so a text may come byte by
 * byte at no more than its own cost. A name or number is read a second time when it is whole. What
 * can go wrong: the text is invalid, which is final and leaves reason and offset; want of memory
 * for the names of a large object, which is reported the same way and told apart by scan_failed. */
#include "protocol/scan.h"

#include <sys/random.h>

#include "base/checksum.h"
#include "protocol/json.h"
#include "protocol/names.h"
#include "protocol/number.h"
#include "protocol/text.h"

typedef enum State {
    STATE_VALUE,
    STATE_FIRST_ELEMENT, /* a value or ] */
    STATE_FIRST_NAME,    /* a name or } */
    STATE_NAME,
    STATE_COLON,
    STATE_NEXT, /* a comma or the closing bracket */
    STATE_IN_STRING,
    STATE_IN_NAME,
    STATE_IN_NUMBER,
    STATE_IN_LITERAL,
    STATE_DONE,
    STATE_INVALID,
} State;

/* An open container: an array, or an object with the place of its first name. */
#define STACK_ARRAY UINT32_MAX
#define STACK_SMALL 64

#define NOTED_LEVELS 2
#define NONE (-1)
/* Blocks up to this stay for the next text. */
#define KEEP_BYTES (64 * KIB)

/* What the counters said when a noted container was opened. */
typedef struct Opened {
    uint32_t spaces;
    uint32_t escapes;
    uint32_t deepest;
} Opened;

struct Scan {
    Pool *pool;
    size_t block; /* of this struct */
    uint64_t seed;

    State state;
    NumberState number;
    bool escaped; /* the current string has a backslash */
    bool failed;
    uint32_t at;    /* the first byte not looked at */
    uint32_t token; /* where the current string (behind its quote), number or literal begins */
    uint32_t end;
    const char *reason;

    uint32_t depth; /* containers open */
    uint32_t depth_max;
    uint32_t stack_capacity;
    uint32_t *stack;
    size_t stack_block; /* 0: stack is stack_small */

    uint32_t spaces;  /* runs of white space so far */
    uint32_t escapes; /* strings with a backslash so far */
    uint32_t deepest; /* since the innermost noted container was opened */

    uint32_t levels;
    bool overflow;
    uint16_t member_count;
    int16_t noted[NOTED_LEVELS +
                  1]; /* the member whose value comes next at that depth; [0] is not used */
    Opened opened[NOTED_LEVELS + 1];
    ScanSpan root;

    Buffer scratch; /* an unescaped name */
    Names names;
    uint32_t stack_small[STACK_SMALL];
    ScanMember members[SCAN_MEMBERS_MAX];
};

/* The input during one call. */
typedef struct Cursor {
    const char *text;
    const char *at;
    const char *end;
} Cursor;

static_assert(sizeof(struct Scan) <= POOL_BLOCK_MIN, "an idle connection's scan is one page");

int scan_new(Pool *pool, Scan **ret)
{
    uint64_t seed;
    size_t block;
    Scan *scan;

    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return errno > 0 ? -errno : -EIO;
    scan = pool_take(pool, sizeof(*scan), &block);
    if (scan == NULL)
        return -ENOMEM;
    *scan = (Scan){.pool = pool, .block = block, .seed = seed, .state = STATE_INVALID};
    scan->reason = "not started";
    scan->stack = scan->stack_small;
    scan->stack_capacity = STACK_SMALL;
    names_init(&scan->names, pool);
    buffer_init(&scan->scratch, pool);
    *ret = scan;
    return 0;
}

size_t scan_memory(const Scan *scan)
{
    return scan->stack_block + names_memory(&scan->names) + scan->scratch.capacity;
}

static void stack_clear(Scan *scan)
{
    if (scan->stack_block > 0)
        pool_give(scan->pool, scan->stack, scan->stack_block);
    scan->stack = scan->stack_small;
    scan->stack_block = 0;
    scan->stack_capacity = STACK_SMALL;
}

Scan *scan_free(Scan *scan)
{
    if (scan == NULL)
        return NULL;
    stack_clear(scan);
    names_clear(&scan->names);
    buffer_clear(&scan->scratch);
    pool_give(scan->pool, scan, scan->block);
    return NULL;
}

void scan_start(Scan *scan, unsigned levels, unsigned depth_max)
{
    scan->state = STATE_VALUE;
    scan->at = 0;
    scan->failed = false;
    scan->reason = NULL;
    scan->depth = 0;
    scan->depth_max = MIN(depth_max, SCAN_DEPTH_MAX);
    scan->levels = MIN(levels, NOTED_LEVELS);
    scan->spaces = scan->escapes = scan->deepest = 0;
    scan->overflow = false;
    scan->member_count = 0;
    scan->noted[1] = scan->noted[2] = NONE;
    scan->root = (ScanSpan){0};
    if (scan->names.count > 0)
        names_clear(&scan->names); /* of a text that was given up in the middle */
}

/* Gives back what a large text took. */
static void trim(Scan *scan)
{
    if (names_memory(&scan->names) > KEEP_BYTES)
        names_clear(&scan->names);
    if (scan->scratch.capacity > KEEP_BYTES)
        buffer_clear(&scan->scratch);
}

/* The text is invalid at `at`. Returns false: there is nothing more to do. */
static bool invalid(Scan *scan, const Cursor *cursor, const char *at, const char *reason)
{
    scan->state = STATE_INVALID;
    scan->end = (uint32_t)(at - cursor->text);
    scan->reason = reason;
    names_clear(&scan->names);
    trim(scan);
    return false;
}

static bool no_memory(Scan *scan, const Cursor *cursor, const char *at)
{
    scan->failed = true;
    return invalid(scan, cursor, at, "out of memory");
}

/* --- what is noted for the caller */

/* The span of the value that comes or goes at this depth; NULL: nobody asks. */
static inline ScanSpan *noted_span(Scan *scan, uint32_t depth)
{
    if (_likely_(depth > NOTED_LEVELS))
        return NULL;
    if (depth == 0)
        return &scan->root;
    return scan->noted[depth] != NONE ? &scan->members[scan->noted[depth]].value : NULL;
}

static void note_name(Scan *scan, uint32_t begin, uint32_t end)
{
    uint32_t depth = scan->depth;
    size_t room = depth == 1 ? SCAN_MEMBERS_MAX : SCAN_MEMBERS_MAX - SCAN_MEMBERS_OUTER;

    /* An object at depth 2 may be an element of an array: then noted[1] is NONE. */
    if (depth > scan->levels || (depth == 2 && scan->noted[1] == NONE))
        return;
    if (scan->member_count >= room) {
        scan->overflow = true;
        return;
    }
    scan->members[scan->member_count] = (ScanMember){
        .name = {.begin = begin, .end = end, .type = SCAN_STRING, .escaped = scan->escaped},
        .parent = depth == 1 ? NONE : scan->noted[1],
    };
    scan->noted[depth] = (int16_t)scan->member_count++;
}

/* A value is complete: what may come next. */
static inline bool value_done(Scan *scan, const Cursor *cursor)
{
    if (scan->depth <= NOTED_LEVELS)
        scan->noted[scan->depth] = NONE;
    if (scan->depth > 0) {
        scan->state = STATE_NEXT;
        return true;
    }
    scan->state = STATE_DONE;
    scan->end = (uint32_t)(cursor->at - cursor->text);
    trim(scan);
    return false;
}

static inline bool scalar_done(Scan *scan, const Cursor *cursor, ScanType type, uint32_t begin)
{
    ScanSpan *span = noted_span(scan, scan->depth);

    if (span != NULL)
        *span = (ScanSpan){.begin = begin,
                           .end = (uint32_t)(cursor->at - cursor->text),
                           .type = (uint8_t)type,
                           .escaped = type == SCAN_STRING && scan->escaped};
    return value_done(scan, cursor);
}

/* --- containers */

static bool stack_grow(Scan *scan)
{
    size_t used = scan->depth * sizeof(uint32_t), block;
    /* Once is enough for the deepest text there may be. */
    uint32_t *stack = pool_take(scan->pool, (SCAN_DEPTH_MAX + 1) * sizeof(uint32_t), &block);

    if (stack == NULL)
        return false;
    memcpy(stack, scan->stack, used);
    scan->stack = stack;
    scan->stack_block = block;
    scan->stack_capacity = (uint32_t)(block / sizeof(uint32_t));
    return true;
}

static bool container_open(Scan *scan, Cursor *cursor, ScanType type)
{
    uint32_t depth = scan->depth;
    ScanSpan *span = noted_span(scan, depth);

    if (depth == scan->depth_max)
        return invalid(scan, cursor, cursor->at, "nested too deep");
    if (_unlikely_(depth == scan->stack_capacity) && !stack_grow(scan))
        return no_memory(scan, cursor, cursor->at);
    if (span != NULL) {
        *span = (ScanSpan){.begin = (uint32_t)(cursor->at - cursor->text), .type = (uint8_t)type};
        scan->opened[depth] = (Opened){scan->spaces, scan->escapes, scan->deepest};
        scan->deepest = depth;
    }
    scan->stack[depth] = type == SCAN_OBJECT ? scan->names.count : STACK_ARRAY;
    scan->depth = depth + 1;
    scan->deepest = MAX(scan->deepest, depth + 1);
    scan->state = type == SCAN_OBJECT ? STATE_FIRST_NAME : STATE_FIRST_ELEMENT;
    cursor->at++;
    return true;
}

static bool container_close(Scan *scan, Cursor *cursor)
{
    uint32_t depth = --scan->depth;
    ScanSpan *span = noted_span(scan, depth);

    if (scan->stack[depth] != STACK_ARRAY)
        names_pop(&scan->names, scan->stack[depth]);
    cursor->at++;
    if (span != NULL) {
        const Opened *opened = &scan->opened[depth];
        span->end = (uint32_t)(cursor->at - cursor->text);
        span->spaced = scan->spaces != opened->spaces;
        span->escaped = scan->escapes != opened->escapes;
        span->depth = (uint16_t)(scan->deepest - depth);
        scan->deepest = MAX(scan->deepest, opened->deepest);
    }
    return value_done(scan, cursor);
}

/* --- tokens. Each step returns whether there is a next one to take: not at the end of the input,
 * nor of the text. */

/* A name is whole: its hash goes to those of its object. */
static bool name_done(Scan *scan, Cursor *cursor, uint32_t begin, uint32_t end)
{
    Bytes name = BYTES(cursor->text + begin, end - begin);
    int r;

    if (_unlikely_(scan->escaped)) {
        buffer_truncate(&scan->scratch, 0);
        json_unescape(&scan->scratch, name);
        if (scan->scratch.failed) {
            buffer_clear(&scan->scratch);
            return no_memory(scan, cursor, name.data);
        }
        name = BYTES(buffer_begin(&scan->scratch), buffer_size(&scan->scratch));
    }
    r = names_add(&scan->names, scan->stack[scan->depth - 1],
                  checksum_seeded(name.data, name.size, scan->seed));
    if (r < 0)
        return no_memory(scan, cursor, cursor->text + begin);
    if (r == NAMES_DUPLICATE)
        return invalid(scan, cursor, cursor->text + begin, "duplicate name");
    note_name(scan, begin, end);
    scan->state = STATE_COLON;
    return true;
}

static bool string_begin(Scan *scan, Cursor *cursor, State state)
{
    cursor->at++;
    scan->token = (uint32_t)(cursor->at - cursor->text);
    scan->escaped = false;
    scan->state = state;
    return true;
}

/* Runs of characters that are not ASCII. False: cut off or invalid. */
static bool string_skip_utf8(Scan *scan, Cursor *cursor)
{
    while (cursor->at < cursor->end && (signed char)*cursor->at < 0) {
        int length = text_utf8(cursor->at, cursor->end);
        if (length < 0)
            return invalid(scan, cursor, cursor->at, "invalid UTF-8");
        if (length == 0)
            return false;
        cursor->at += length;
    }
    return true;
}

static bool string_skip_escape(Scan *scan, Cursor *cursor)
{
    uint32_t code;
    int length = text_escape(cursor->at, cursor->end, &code);

    if (length < 0)
        return invalid(scan, cursor, cursor->at, "invalid escape");
    scan->escaped = true;
    cursor->at += length;
    return length > 0;
}

static bool step_string(Scan *scan, Cursor *cursor)
{
    for (;;) {
        cursor->at = text_skip_plain(cursor->at, cursor->end);
        if (cursor->at == cursor->end)
            return false;
        if (*cursor->at == '"')
            break;
        if (*cursor->at == '\\') {
            if (!string_skip_escape(scan, cursor))
                return false;
        } else if ((signed char)*cursor->at < 0) {
            if (!string_skip_utf8(scan, cursor))
                return false;
        } else {
            return invalid(scan, cursor, cursor->at, "control character in a string");
        }
    }
    cursor->at++;
    scan->escapes += scan->escaped;
    if (scan->state == STATE_IN_NAME)
        return name_done(scan, cursor, scan->token, (uint32_t)(cursor->at - 1 - cursor->text));
    return scalar_done(scan, cursor, SCAN_STRING, scan->token - 1);
}

static bool number_done(Scan *scan, Cursor *cursor)
{
    Bytes text = BYTES(cursor->text + scan->token, cursor->at - cursor->text - scan->token);
    bool real = number_is_real(scan->number);
    int64_t value;

    if (!number_complete(scan->number))
        return invalid(scan, cursor, cursor->at, "invalid number");
    if (!real && !number_integer(text, &value))
        return invalid(scan, cursor, text.data, "integer beyond 64 bits");
    if (real && !number_finite(text))
        return invalid(scan, cursor, text.data, "number beyond a double");
    return scalar_done(scan, cursor, real ? SCAN_REAL : SCAN_INTEGER, scan->token);
}

static bool step_number(Scan *scan, Cursor *cursor)
{
    cursor->at = number_scan(&scan->number, cursor->at, cursor->end);
    /* At the end of the input a digit may still follow. */
    return cursor->at < cursor->end && number_done(scan, cursor);
}

static bool step_literal(Scan *scan, Cursor *cursor)
{
    char first = cursor->text[scan->token];
    const char *literal = first == 't' ? "true" : first == 'f' ? "false" : "null";
    size_t done = (size_t)(cursor->at - cursor->text) - scan->token;

    for (; literal[done] != 0; done++, cursor->at++) {
        if (cursor->at == cursor->end)
            return false;
        if (*cursor->at != literal[done])
            return invalid(scan, cursor, cursor->at, "invalid literal");
    }
    return scalar_done(scan, cursor, first == 'n' ? SCAN_NULL : SCAN_BOOLEAN, scan->token);
}

static bool step_value(Scan *scan, Cursor *cursor)
{
    scan->token = (uint32_t)(cursor->at - cursor->text);
    switch (*cursor->at) {
    case '"':
        return string_begin(scan, cursor, STATE_IN_STRING);
    case '{':
        return container_open(scan, cursor, SCAN_OBJECT);
    case '[':
        return container_open(scan, cursor, SCAN_ARRAY);
    case 't':
    case 'f':
    case 'n':
        scan->state = STATE_IN_LITERAL;
        return true;
    case '-':
    case '0' ... '9':
        scan->number = NUMBER_START;
        scan->state = STATE_IN_NUMBER;
        return true;
    default:
        return invalid(scan, cursor, cursor->at, "value expected");
    }
}

static bool step_next(Scan *scan, Cursor *cursor)
{
    bool object = scan->stack[scan->depth - 1] != STACK_ARRAY;

    if (*cursor->at == ',') {
        cursor->at++;
        scan->state = object ? STATE_NAME : STATE_VALUE;
        return true;
    }
    if (*cursor->at == (object ? '}' : ']'))
        return container_close(scan, cursor);
    return invalid(scan, cursor, cursor->at,
                   object ? "',' or '}' expected" : "',' or ']' expected");
}

/* What begins between tokens; white space is skipped. */
static bool step_token(Scan *scan, Cursor *cursor)
{
    if (text_is_space(*cursor->at)) {
        scan->spaces++;
        cursor->at = text_skip_space(cursor->at, cursor->end);
        if (cursor->at == cursor->end)
            return false;
    }
    switch (scan->state) {
    case STATE_FIRST_ELEMENT:
        return *cursor->at == ']' ? container_close(scan, cursor) : step_value(scan, cursor);
    case STATE_FIRST_NAME:
        if (*cursor->at == '}')
            return container_close(scan, cursor);
        __attribute__((fallthrough));
    case STATE_NAME:
        if (*cursor->at != '"')
            return invalid(scan, cursor, cursor->at, "name expected");
        return string_begin(scan, cursor, STATE_IN_NAME);
    case STATE_COLON:
        if (*cursor->at != ':')
            return invalid(scan, cursor, cursor->at, "':' expected");
        cursor->at++;
        scan->state = STATE_VALUE;
        return true;
    case STATE_NEXT:
        return step_next(scan, cursor);
    default:
        return step_value(scan, cursor);
    }
}

static void run(Scan *scan, Cursor *cursor)
{
    bool more = true;

    while (more && cursor->at < cursor->end) {
        switch (scan->state) {
        case STATE_IN_STRING:
        case STATE_IN_NAME:
            more = step_string(scan, cursor);
            break;
        case STATE_IN_NUMBER:
            more = step_number(scan, cursor);
            break;
        case STATE_IN_LITERAL:
            more = step_literal(scan, cursor);
            break;
        default:
            more = step_token(scan, cursor);
        }
    }
}

static int outcome(const Scan *scan)
{
    return scan->state == STATE_DONE      ? SCAN_DONE
           : scan->state == STATE_INVALID ? SCAN_INVALID
                                          : SCAN_MORE;
}

int scan_feed(Scan *scan, const char *text, size_t size)
{
    Cursor cursor;

    if (scan->state == STATE_DONE || scan->state == STATE_INVALID || size <= scan->at)
        return outcome(scan);
    cursor = (Cursor){.text = text, .at = text + scan->at, .end = text + MIN(size, SCAN_BYTES_MAX)};
    run(scan, &cursor);
    scan->at = (uint32_t)(cursor.at - text);
    if (outcome(scan) == SCAN_MORE && size > SCAN_BYTES_MAX)
        invalid(scan, &cursor, cursor.at, "text too long");
    return outcome(scan);
}

int scan_finish(Scan *scan, const char *text, size_t size)
{
    Cursor cursor;

    if (size == 0)
        text = ""; /* without bytes there may be no pointer either */
    scan_feed(scan, text, size);
    if (scan->state == STATE_INVALID)
        return SCAN_INVALID;
    cursor = (Cursor){.text = text, .at = text + scan->at, .end = text + size};
    if (scan->state == STATE_IN_NUMBER && scan->depth == 0 && size > 0)
        number_done(scan, &cursor);
    else if (scan->state != STATE_DONE)
        invalid(scan, &cursor, cursor.end, "text ends early");
    if (scan->state == STATE_DONE) {
        cursor.at = text_skip_space(text + scan->end, cursor.end);
        if (cursor.at < cursor.end)
            invalid(scan, &cursor, cursor.at, "bytes behind the value");
    }
    return outcome(scan);
}

size_t scan_end(const Scan *scan)
{
    return scan->end;
}

const char *scan_reason(const Scan *scan)
{
    return scan->reason;
}

bool scan_failed(const Scan *scan)
{
    return scan->failed;
}

ScanSpan scan_root(const Scan *scan)
{
    return scan->root;
}

size_t scan_members(const Scan *scan, const ScanMember **ret)
{
    *ret = scan->members;
    return scan->member_count;
}

bool scan_overflow(const Scan *scan)
{
    return scan->overflow;
}

int scan_text(Scan *scan, Bytes text, unsigned depth_max, ScanSpan *ret_root)
{
    scan_start(scan, 0, depth_max);
    if (scan_finish(scan, text.data, text.size) != SCAN_DONE)
        return scan->failed ? -ENOMEM : -EBADMSG;
    *ret_root = scan->root;
    return 0;
}
