/* Fuzz target: messages as they come from a client, each ended by a NUL byte, in pieces; from there
 * to the parameters of a method that has a field of each type.
 *
 * Parameters are filled twice, from what the scan noted and from a walk over the text: both must
 * say the same. A reply with the method's name in it must be valid. */
#include "protocol/call.h"

#include "protocol/reply.h"

#define DEPTH_MAX 600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Parameters {
    Bytes key;
    int64_t limit;
    bool wait;
    bool wait_given;
    Bytes value;
    Bytes list;
} Parameters;

static const Field fields[] = {
    {"key", FIELD_STRING, .required = true, .offset = offsetof(Parameters, key)},
    {"limit", FIELD_INT, .offset = offsetof(Parameters, limit)},
    {"wait", FIELD_BOOL, .offset = offsetof(Parameters, wait),
     .given = offsetof(Parameters, wait_given)},
    {"value", FIELD_ANY, .offset = offsetof(Parameters, value)},
    {"list", FIELD_ARRAY, .offset = offsetof(Parameters, list)},
};

typedef struct Fuzz {
    Pool *pool;
    Scan *scan;
    Scan *check;
    Buffer scratch;
    Buffer scratch_walk;
    Buffer reply;
} Fuzz;

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void same_parameters(const Parameters *a, const Parameters *b)
{
    must(bytes_equal(a->key, b->key) && a->limit == b->limit && a->wait == b->wait);
    must(a->wait_given == b->wait_given && bytes_equal(a->value, b->value));
    must(bytes_equal(a->list, b->list));
}

static void check_value(Fuzz *fuzz, Bytes value)
{
    ScanSpan root;

    must(scan_text(fuzz->check, value, DEPTH_MAX, &root) == 0);
    must(!root.spaced && root.begin == 0 && root.end == value.size);
}

static void fill(Fuzz *fuzz, const Call *call)
{
    const ScanMember *members;
    Parameters noted = {0}, walked = {0};
    Bytes wrong_noted = {0}, wrong_walked = {0}, text = BYTES_OF("{}"), name, value;
    JsonWalk walk;
    int r;

    scan_members(call->scan, &members);
    if (call->parameters >= 0)
        text = BYTES(call->text + members[call->parameters].value.begin,
                     members[call->parameters].value.end - members[call->parameters].value.begin);
    r = call_parameters(call, fields, ARRAY_SIZE(fields), &noted, &fuzz->scratch, &wrong_noted);
    must(r == call_object(text, fields, ARRAY_SIZE(fields), &walked, &fuzz->scratch_walk,
                          &wrong_walked));
    must(bytes_equal(wrong_noted, wrong_walked));
    if (r < 0)
        return;
    same_parameters(&noted, &walked);
    check_value(fuzz, noted.value);
    if (noted.list.data == NULL)
        return;
    for (walk = json_walk(noted.list); json_next(&walk, &name, &value);) {
        Parameters inner = {0};
        if (call_object(value, fields, ARRAY_SIZE(fields), &inner, &fuzz->scratch, &name) == 0)
            check_value(fuzz, inner.value);
    }
    /* Nothing has moved. */
    same_parameters(&noted, &walked);
}

static void check_reply(Fuzz *fuzz, Bytes method)
{
    ScanSpan root;

    reply_method_not_found(&fuzz->reply, method, '\n');
    must(scan_text(fuzz->check, BYTES(buffer_begin(&fuzz->reply), buffer_size(&fuzz->reply)), 2,
                   &root) == 0);
}

static void take_message(Fuzz *fuzz, const char *text)
{
    const char *reason = NULL;
    Call call;

    if (call_parse(&call, text, fuzz->scan, &fuzz->scratch, &reason) < 0) {
        must(reason != NULL);
        return;
    }
    fill(fuzz, &call);
    check_reply(fuzz, call.method);
}

/* One message, in pieces of `step` bytes, from a block of its own size. */
static void feed(Fuzz *fuzz, const char *data, size_t size, size_t step)
{
    char *text = malloc(MAX(size, 1));
    int r = SCAN_MORE;

    must(text != NULL);
    memcpy(text, data, size);
    scan_start(fuzz->scan, 2, DEPTH_MAX);
    for (size_t at = 0; r == SCAN_MORE && at < size; at += step)
        r = scan_feed(fuzz->scan, text, MIN(at + step, size));
    if (r == SCAN_DONE)
        take_message(fuzz, text);
    must(r != SCAN_INVALID || (scan_reason(fuzz->scan) != NULL && scan_end(fuzz->scan) <= size));
    free(text);
}

/* Once: a fresh pool for each input would cost more than the input. */
static void fuzz_init(Fuzz *fuzz)
{
    must(pool_new(NULL, &fuzz->pool) == 0);
    must(scan_new(fuzz->pool, &fuzz->scan) == 0 && scan_new(fuzz->pool, &fuzz->check) == 0);
    buffer_init(&fuzz->scratch, fuzz->pool);
    buffer_init(&fuzz->scratch_walk, fuzz->pool);
    buffer_init(&fuzz->reply, fuzz->pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Fuzz fuzz;
    size_t step = size > 0 ? 1 + data[size - 1] % 61 : 1;
    const char *at = (const char *)data, *end = at + size;

    if (fuzz.pool == NULL)
        fuzz_init(&fuzz);
    while (at < end) {
        const char *stop = memchr(at, 0, (size_t)(end - at));
        if (stop == NULL)
            stop = end;
        feed(&fuzz, at, (size_t)(stop - at), step);
        /* Given back, so that what points there and moves is seen by the sanitizer. */
        buffer_clear(&fuzz.scratch);
        buffer_clear(&fuzz.scratch_walk);
        buffer_truncate(&fuzz.reply, 0);
        at = stop + (stop < end);
    }
    return 0;
}
