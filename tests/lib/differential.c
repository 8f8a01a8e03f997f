/* Holds daemon/protocol against jansson on the same texts.
 *
 * Where the two differ on purpose: a NUL byte in the text, which jansson overlooks behind a number
 * or a literal and scan never accepts; and depth, which jansson counts with scalars.
 * Pieces lie in blocks of their own size, so that a sanitizer sees each byte read too far. */
#include "lib/differential.h"

#include <jansson.h>

#include "protocol/json.h"
#include "protocol/scan.h"

/* jansson's 2048 less one for a scalar. */
#define DEPTH_MAX 2047
/* Texts up to this are also fed byte by byte. */
#define BYTEWISE_MAX 256

struct Differential {
    Pool *pool;
    Scan *whole;
    Scan *pieces;
    Buffer text;
    Buffer string;
};

int differential_new(Differential **ret)
{
    Differential *differential = calloc(1, sizeof(*differential));
    int r;

    if (differential == NULL)
        return -ENOMEM;
    r = pool_new(NULL, &differential->pool);
    if (r < 0) {
        free(differential);
        return r;
    }
    buffer_init(&differential->text, differential->pool);
    buffer_init(&differential->string, differential->pool);
    r = scan_new(differential->pool, &differential->whole);
    if (r >= 0)
        r = scan_new(differential->pool, &differential->pieces);
    if (r < 0) {
        differential_free(differential);
        return r;
    }
    *ret = differential;
    return 0;
}

Differential *differential_free(Differential *differential)
{
    if (differential == NULL)
        return NULL;
    buffer_clear(&differential->text);
    buffer_clear(&differential->string);
    scan_free(differential->whole);
    scan_free(differential->pieces);
    pool_free(differential->pool);
    free(differential);
    return NULL;
}

/* --- whole and in pieces */

static bool same_span(ScanSpan a, ScanSpan b)
{
    return a.begin == b.begin && a.end == b.end && a.type == b.type && a.spaced == b.spaced &&
           a.escaped == b.escaped && a.depth == b.depth;
}

static const char *compare_scans(const Scan *a, const Scan *b)
{
    const ScanMember *members_a, *members_b;
    size_t count = scan_members(a, &members_a);

    if (scan_end(a) != scan_end(b))
        return "in pieces: another end";
    if (scan_reason(a) != scan_reason(b))
        return "in pieces: another reason";
    if (scan_reason(a) == NULL && !same_span(scan_root(a), scan_root(b)))
        return "in pieces: another root";
    if (count != scan_members(b, &members_b) || scan_overflow(a) != scan_overflow(b))
        return "in pieces: other members";
    for (size_t i = 0; scan_reason(a) == NULL && i < count; i++)
        if (!same_span(members_a[i].name, members_b[i].name) ||
            !same_span(members_a[i].value, members_b[i].value) ||
            members_a[i].parent != members_b[i].parent)
            return "in pieces: another member";
    return NULL;
}

/* A feed of the first size bytes, from a block that ends with them. */
static int feed(Scan *scan, Bytes text, size_t size, bool finish)
{
    char *copy = malloc(size > 0 ? size : 1);
    int r;

    if (copy == NULL)
        abort();
    memcpy(copy, text.data, size);
    r = finish ? scan_finish(scan, copy, size) : scan_feed(scan, copy, size);
    free(copy);
    return r;
}

/* step 0: one cut, at `cut`; else a piece each step bytes. */
static const char *compare_pieces(Differential *differential, Bytes text, size_t cut, size_t step)
{
    Scan *scan = differential->pieces;

    scan_start(scan, 2, DEPTH_MAX);
    for (size_t size = cut; size<text.size; size += step> 0 ? step : text.size)
        feed(scan, text, size, false);
    feed(scan, text, text.size, true);
    return compare_scans(differential->whole, scan);
}

/* --- the values */

static const char *compare_value(Differential *differential, Bytes text, const json_t *tree);

static const char *compare_string(Differential *differential, Bytes text, const json_t *tree)
{
    Bytes inner = BYTES(text.data + 1, text.size - 2);
    Bytes expected = BYTES(json_string_value(tree), json_string_length(tree));

    buffer_truncate(&differential->string, 0);
    json_unescape(&differential->string, inner);
    if (!bytes_equal(expected, BYTES(buffer_begin(&differential->string),
                                     buffer_size(&differential->string))))
        return "another string";
    return json_name_is(inner, expected) ? NULL : "json_name_is";
}

static const char *compare_real(Bytes text, const json_t *tree)
{
    char *copy = strndup(text.data, text.size);
    double value = strtod(copy, NULL);

    free(copy);
    return value == json_real_value(tree) ? NULL : "another real";
}

static const char *compare_object(Differential *differential, Bytes text, const json_t *tree)
{
    JsonWalk walk = json_walk(text);
    Bytes name, value;
    size_t count = 0;
    const char *difference = NULL;

    for (; difference == NULL && json_next(&walk, &name, &value); count++) {
        const json_t *inner;

        buffer_truncate(&differential->string, 0);
        json_unescape(&differential->string, name);
        inner = json_object_getn(tree, buffer_begin(&differential->string),
                                 buffer_size(&differential->string));
        difference =
            inner != NULL ? compare_value(differential, value, inner) : "another member's name";
    }
    if (difference == NULL && count != json_object_size(tree))
        return "another number of members";
    return difference;
}

static const char *compare_array(Differential *differential, Bytes text, const json_t *tree)
{
    JsonWalk walk = json_walk(text);
    Bytes name, value;
    size_t count = 0;
    const char *difference = NULL;

    for (; difference == NULL && json_next(&walk, &name, &value); count++)
        difference = count < json_array_size(tree)
                         ? compare_value(differential, value, json_array_get(tree, count))
                         : "too many elements";
    if (difference == NULL && count != json_array_size(tree))
        return "another number of elements";
    return difference;
}

static const char *compare_value(Differential *differential, Bytes text, const json_t *tree)
{
    static const ScanType types[] = {
        [JSON_OBJECT] = SCAN_OBJECT,   [JSON_ARRAY] = SCAN_ARRAY, [JSON_STRING] = SCAN_STRING,
        [JSON_INTEGER] = SCAN_INTEGER, [JSON_REAL] = SCAN_REAL,   [JSON_TRUE] = SCAN_BOOLEAN,
        [JSON_FALSE] = SCAN_BOOLEAN,   [JSON_NULL] = SCAN_NULL,
    };
    int64_t integer;

    if (json_type_of(text) != types[json_typeof(tree)])
        return "another type";
    switch (json_typeof(tree)) {
    case JSON_OBJECT:
        return compare_object(differential, text, tree);
    case JSON_ARRAY:
        return compare_array(differential, text, tree);
    case JSON_STRING:
        return compare_string(differential, text, tree);
    case JSON_INTEGER:
        return json_to_int(text, &integer) && integer == json_integer_value(tree)
                   ? NULL
                   : "another integer";
    case JSON_REAL:
        return compare_real(text, tree);
    default:
        return (json_typeof(tree) == JSON_TRUE) == (*text.data == 't') ? NULL : "another boolean";
    }
}

/* What the scan noted against what the walk finds. */
static const char *compare_span(const char *text, ScanSpan span)
{
    Bytes value = BYTES(text + span.begin, span.end - span.begin);

    if (json_type_of(value) != span.type)
        return "span: another type";
    if (json_depth(value) != span.depth)
        return "span: another depth";
    if (json_spaced(value) != span.spaced)
        return "span: spaced";
    if ((memchr(value.data, '\\', value.size) != NULL) != span.escaped)
        return "span: escaped";
    return NULL;
}

static const char *compare_members(Bytes text, const Scan *scan)
{
    const ScanMember *members;
    size_t count = scan_members(scan, &members), at = 0;
    ScanSpan root = scan_root(scan);
    JsonWalk walk = json_walk(BYTES(text.data + root.begin, root.end - root.begin));
    Bytes name, value;

    if (root.type != SCAN_OBJECT || scan_overflow(scan))
        return count > 0 && root.type != SCAN_OBJECT ? "members of no object" : NULL;
    while (json_next(&walk, &name, &value)) {
        while (at < count && members[at].parent >= 0)
            at++;
        if (at == count)
            return "a member was not noted";
        if (name.data != text.data + members[at].name.begin ||
            name.size != members[at].name.end - members[at].name.begin ||
            value.data != text.data + members[at].value.begin ||
            value.size != members[at].value.end - members[at].value.begin)
            return "a member was noted elsewhere";
        at++;
    }
    for (size_t i = 0; i < count; i++) {
        const char *difference = compare_span(text.data, members[i].value);
        if (difference != NULL)
            return difference;
    }
    return NULL;
}

static const char *compare_compact(Differential *differential, Bytes text, const json_t *tree)
{
    Buffer *out = &differential->text;
    Bytes compact;

    buffer_truncate(out, 0);
    json_compact(out, text);
    compact = BYTES(buffer_begin(out), buffer_size(out));
    if (json_spaced(compact))
        return "compact text has white space";
    return compare_value(differential, compact, tree);
}

static const char *compare_accepted(Differential *differential, Bytes text, const json_t *tree)
{
    ScanSpan root = scan_root(differential->whole);
    Bytes value = BYTES(text.data + root.begin, root.end - root.begin);
    const char *difference = compare_value(differential, value, tree);

    if (difference == NULL)
        difference = compare_span(text.data, root);
    if (difference == NULL)
        difference = compare_members(text, differential->whole);
    if (difference == NULL)
        difference = compare_compact(differential, text, tree);
    return difference;
}

static bool too_deep(const Scan *scan)
{
    return scan_reason(scan) != NULL && strcmp(scan_reason(scan), "nested too deep") == 0;
}

const char *differential_text(Differential *differential, Bytes text, uint64_t pieces,
                              size_t *accepted)
{
    json_t *tree = NULL;
    const char *difference;
    bool valid;

    scan_start(differential->whole, 2, DEPTH_MAX);
    valid = feed(differential->whole, text, text.size, true) == SCAN_DONE;
    difference = compare_pieces(differential, text, text.size > 0 ? pieces % text.size : 0, 0);
    if (difference == NULL && text.size <= BYTEWISE_MAX)
        difference = compare_pieces(differential, text, 0, 1);
    if (difference != NULL || too_deep(differential->whole))
        return difference;
    if (text.size > 0 && memchr(text.data, 0, text.size) != NULL)
        return valid ? "a NUL byte was accepted" : NULL;
    tree = json_loadb(text.size > 0 ? text.data : "", text.size,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (valid != (tree != NULL))
        difference = valid ? "accepted, jansson rejects" : "rejected, jansson accepts";
    else if (valid)
        difference = compare_accepted(differential, text, tree);
    if (accepted != NULL)
        *accepted += valid;
    json_decref(tree);
    return difference;
}

/* --- merging */

/* RFC 7396, section 2, on trees. target: NULL, or a reference that is taken over. */
static json_t *merge_trees(json_t *target, json_t *patch)
{
    const char *name;
    json_t *value;

    if (!json_is_object(patch)) {
        json_decref(target);
        return json_deep_copy(patch);
    }
    if (!json_is_object(target)) {
        json_decref(target);
        target = json_object();
    }
    json_object_foreach(patch, name, value)
    {
        if (json_is_null(value))
            json_object_del(target, name);
        else
            json_object_set_new(target, name,
                                merge_trees(json_incref(json_object_get(target, name)), value));
    }
    return target;
}

static const char *compare_merge(Differential *differential, Bytes target, Bytes patch,
                                 const json_t *expected)
{
    Buffer out;
    ScanSpan root;
    const char *difference = NULL;
    int r;

    buffer_init(&out, differential->pool);
    r = json_merge(&out, target, patch, SIZE_MAX, DEPTH_MAX);
    if (r < 0)
        difference = "merge failed";
    else if (scan_text(differential->whole, BYTES(buffer_begin(&out), buffer_size(&out)), DEPTH_MAX,
                       &root) < 0)
        difference = "merged text is invalid";
    else if (root.spaced)
        difference = "merged text is not compact";
    else
        difference =
            compare_value(differential, BYTES(buffer_begin(&out), buffer_size(&out)), expected);
    buffer_clear(&out);
    return difference;
}

const char *differential_merge(Differential *differential, Bytes target, Bytes patch)
{
    ScanSpan root;
    json_t *target_tree, *patch_tree, *expected;
    const char *difference = NULL;

    if (scan_text(differential->whole, target, DEPTH_MAX, &root) < 0 ||
        scan_text(differential->whole, patch, DEPTH_MAX, &root) < 0)
        return NULL;
    target_tree = json_loadb(target.data, target.size, JSON_DECODE_ANY, NULL);
    patch_tree = json_loadb(patch.data, patch.size, JSON_DECODE_ANY, NULL);
    expected = merge_trees(target_tree, patch_tree);
    difference = compare_merge(differential, target, patch, expected);
    json_decref(expected);
    if (difference == NULL) {
        expected = merge_trees(NULL, patch_tree);
        difference = compare_merge(differential, BYTES(NULL, 0), patch, expected);
        json_decref(expected);
    }
    json_decref(patch_tree);
    return difference;
}
