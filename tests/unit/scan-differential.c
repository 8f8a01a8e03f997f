/* daemon/protocol against jansson, on mutations of a few texts: the fuzz target's check in every
 * build. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "lib/differential.h"

#define ROUNDS 200000
#define MERGE_ROUNDS 40000
#define TEXT_MAX 512

static const char *const seeds[] = {
    "{}",
    "[]",
    "null",
    "[true,false,null]",
    "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"a\",\"key\":\"k\",\"value\":{"
    "\"n\":1}}}",
    "{\"method\" : \"x.Y\" ,\n\"parameters\": { \"s\": \"\\n\\u00e9\\ud83d\\ude00\", \"l\" : [ 1 , "
    "2 ] }}",
    "[0,-0,1,-1,12,0.5,-0.0,1e5,1E+5,1e-5,123456789012345678]",
    "[9223372036854775807,-9223372036854775808]",
    "[9223372036854775808]",
    "[1.7976931348623158e308,17976931348623158e292,0.00017976931348623158e312]",
    "[1e308,1e309,1E400,1e-400,0e999999999999]",
    "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\x7F\"",
    "\"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\"",
    "\"\\ud800\\udc00\\udbff\\udfff\\uffff\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "{\"a\":{\"a\":{\"a\":[[[{\"a\":1},{\"a\":2}]]]}},\"b\":{\"a\":1}}",
    "{\"a\":1,\"\\u0061\":2}",
    "{\"\":0,\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,"
    "\"k\":11,"
    "\"l\":12,\"m\":13,\"n\":14,\"o\":15,\"p\":16,\"q\":17,\"r\":{\"a\":0,\"b\":1},\"s\":19}",
    " \t\r\n[ 1 , \"a b\" , { \"x\" : { } } ] \n",
};

/* Bytes that matter, to put in more often than others. */
static const char telling[] =
    "{}[],:\"\\u0123456789dDcCeE+-.tfn \n\t\x01\x1F\x7F\x80\xBF\xC2\xED\xA0\xF4\xFF";

/* xorshift64*; the seed is fixed, so that a failure comes again. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static size_t pick(uint64_t *state, size_t count)
{
    return (size_t)(next_random(state) >> 33) % count;
}

static char pick_byte(uint64_t *state)
{
    return pick(state, 8) == 0 ? (char)pick(state, 256) : telling[pick(state, sizeof(telling) - 1)];
}

/* One change: a byte replaced, taken out or put in, a bit flipped, a run doubled or cut out,
 * another seed's piece. */
static size_t mutate(uint64_t *state, char *text, size_t size)
{
    const char *other = seeds[pick(state, ARRAY_SIZE(seeds))];
    size_t at = size > 0 ? pick(state, size) : 0, run = size > at ? 1 + pick(state, size - at) : 0;
    size_t from = pick(state, strlen(other));

    switch (pick(state, 7)) {
    case 0:
        if (size > 0)
            text[at] = pick_byte(state);
        return size;
    case 1:
        if (size > 0)
            text[at] ^= (char)(1 << pick(state, 8));
        return size;
    case 2: /* take one out */
        run = MIN(run, 1);
        __attribute__((fallthrough));
    case 3: /* cut a run out */
        memmove(text + at, text + at + run, size - at - run);
        return size - run;
    case 4: /* put one in */
        if (size == TEXT_MAX)
            return size;
        memmove(text + at + 1, text + at, size - at);
        text[at] = pick_byte(state);
        return size + 1;
    case 5: /* double a run */
        if (size + run > TEXT_MAX)
            return size;
        memmove(text + at + run, text + at, size - at);
        return size + run;
    default: /* a piece of another */
        run = MIN(1 + pick(state, strlen(other) - from), TEXT_MAX - size);
        memmove(text + at + run, text + at, size - at);
        memcpy(text + at, other + from, run);
        return size + run;
    }
}

static Bytes make(uint64_t *state, char text[static TEXT_MAX])
{
    const char *seed = seeds[pick(state, ARRAY_SIZE(seeds))];
    size_t size = strlen(seed);

    memcpy(text, seed, size);
    for (size_t i = pick(state, 5); i > 0; i--)
        size = mutate(state, text, size);
    return BYTES(text, size);
}

static Differential *differential;

static void setup(void)
{
    cr_assert(eq(int, differential_new(&differential), 0));
}

static void teardown(void)
{
    differential_free(differential);
}

TestSuite(scan_differential, .init = setup, .fini = teardown);

Test(scan_differential, accepts_what_jansson_accepts)
{
    uint64_t state = 1;
    size_t accepted = 0;
    char text[TEXT_MAX];

    for (size_t i = 0; i < ROUNDS; i++) {
        Bytes made = make(&state, text);
        const char *difference =
            differential_text(differential, made, next_random(&state), &accepted);
        cr_assert(difference == NULL, "round %zu: %s: %.*s", i, difference, (int)made.size,
                  made.data);
    }
    /* Neither outcome may be the rule, or nothing would be shown. */
    cr_assert(accepted > ROUNDS / 8 && accepted < ROUNDS * 7 / 8, "%zu accepted", accepted);
}

Test(scan_differential, merges_as_trees_do)
{
    uint64_t state = 2;
    char target_text[TEXT_MAX], patch_text[TEXT_MAX];

    for (size_t i = 0; i < MERGE_ROUNDS; i++) {
        Bytes target = make(&state, target_text), patch = make(&state, patch_text);
        const char *difference = differential_merge(differential, target, patch);
        cr_assert(difference == NULL, "round %zu: %s: %.*s and %.*s", i, difference,
                  (int)target.size, target.data, (int)patch.size, patch.data);
    }
}

/* Random objects within objects, with up to 60 names each from a small stock: the ways of a small
 * object and of a large one, one inside the other, with and without a duplicate. */
static void make_object(uint64_t *state, char *text, size_t *size, unsigned depth)
{
    size_t count = pick(state, 3) == 0 ? pick(state, 60) : pick(state, 6);
    size_t first = pick(state, 1000), duplicate = pick(state, 6) == 0 ? pick(state, 60) : SIZE_MAX;

    text[(*size)++] = '{';
    for (size_t i = 0; i < count; i++) {
        size_t name = (first + (i == duplicate ? i / 2 : i)) % 1000;
        *size += (size_t)sprintf(text + *size, "%s\"%s%zu\":", i > 0 ? "," : "",
                                 pick(state, 8) == 0 ? "\\u006e" : "n", name);
        if (depth > 0 && pick(state, 8) == 0)
            make_object(state, text, size, depth - 1);
        else
            text[(*size)++] = '1';
    }
    text[(*size)++] = '}';
}

Test(scan_differential, finds_duplicates_in_objects_of_all_sizes)
{
    uint64_t state = 3;
    size_t accepted = 0, rounds = 20000;
    char *text = malloc(1 << 20);

    for (size_t i = 0; i < rounds; i++) {
        size_t size = 0;
        const char *difference;

        make_object(&state, text, &size, 3);
        difference =
            differential_text(differential, BYTES(text, size), next_random(&state), &accepted);
        cr_assert(difference == NULL, "round %zu: %s: %.*s", i, difference, (int)size, text);
    }
    free(text);
    cr_assert(accepted > rounds / 8 && accepted < rounds * 7 / 8, "%zu accepted", accepted);
}
