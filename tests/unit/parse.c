/* Unit tests of base/parse. */
#include "base/parse.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

typedef struct Case {
    const char *text;
    int result;
    uint64_t value;
} Case;

static void check(const Case *cases, size_t count, int (*parse)(const char *, uint64_t *))
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 4711;

        cr_assert(eq(int, parse(cases[i].text, &value), cases[i].result), "'%s'", cases[i].text);
        cr_assert(eq(u64, value, cases[i].result < 0 ? 4711 : cases[i].value), "'%s'",
                  cases[i].text);
    }
}

Test(parse, sizes)
{
    static const Case cases[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"64M", 0, 64 * MIB},
        {"1K", 0, KIB},
        {"16G", 0, 16 * GIB},
        {"2T", 0, 2048 * GIB},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"16777216T", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"M", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 M", -EINVAL, 0},
        {"1MB", -EINVAL, 0},
        {"1m", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1.5G", -EINVAL, 0},
    };
    check(cases, ARRAY_SIZE(cases), parse_size);
}

Test(parse, durations)
{
    static const Case cases[] = {
        {"0", 0, 0},
        {"1", 0, USEC_PER_SEC},
        {"250us", 0, 250},
        {"1ms", 0, 1000},
        {"1.5s", 0, 1500000},
        {"0.000001", 0, 1},
        {"0.0000019", 0, 1},
        {"15min", 0, 900 * USEC_PER_SEC},
        {"0.5h", 0, 1800 * USEC_PER_SEC},
        {"2d", 0, 172800 * USEC_PER_SEC},
        {"213503982d", 0, UINT64_C(213503982) * 86400 * USEC_PER_SEC},
        {"213503983d", -ERANGE, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"1.", -EINVAL, 0},
        {".5", -EINVAL, 0},
        {"1.5.5", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
        {"1sec", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"infinity", -EINVAL, 0},
    };
    check(cases, ARRAY_SIZE(cases), parse_duration);
}

Test(parse, unsigned_numbers)
{
    static const Case cases[] = {
        {"0", 0, 0},        {"007", 0, 7},
        {"4096", 0, 4096},  {"18446744073709551615", 0, UINT64_MAX},
        {"", -EINVAL, 0},   {"18446744073709551620", -ERANGE, 0},
        {"1K", -EINVAL, 0}, {"-1", -EINVAL, 0},
        {"1 ", -EINVAL, 0}, {"1\n", -EINVAL, 0},
    };
    check(cases, ARRAY_SIZE(cases), parse_unsigned);
}

Test(parse, modes_are_octal)
{
    unsigned mode = 1;

    cr_assert(eq(int, parse_mode("0660", &mode), 0));
    cr_assert(eq(uint, mode, 0660));
    cr_assert(eq(int, parse_mode("777", &mode), 0));
    cr_assert(eq(uint, mode, 0777));
    cr_assert(eq(int, parse_mode("1777", &mode), -ERANGE));
    cr_assert(eq(int, parse_mode("0680", &mode), -EINVAL));
    cr_assert(eq(int, parse_mode("", &mode), -EINVAL));
    cr_assert(eq(int, parse_mode("rw", &mode), -EINVAL));
    cr_assert(eq(uint, mode, 0777));
}

typedef struct Formatted {
    uint64_t value;
    const char *text;
} Formatted;

Test(parse, numbers_are_written_in_groups_of_three_digits)
{
    static const Formatted cases[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1,000"},
        {81234, "81,234"},
        {UINT64_MAX, "18,446,744,073,709,551,615"},
    };
    char text[FORMAT_NUMBER_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        cr_assert(eq(str, (char *)format_number(text, cases[i].value), (char *)cases[i].text));
}

Test(parse, bytes_are_written_for_people)
{
    static const Formatted cases[] = {
        {0, "0 B"},
        {810, "810 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {MIB - 1, "1.0 MiB"},
        {2254857830, "2.1 GiB"},
        {16 * GIB, "16.0 GiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    char text[FORMAT_BYTES_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        cr_assert(eq(str, (char *)format_bytes(text, cases[i].value), (char *)cases[i].text));
}

Test(parse, durations_are_written_for_people)
{
    static const Formatted cases[] = {
        {0, "0 us"},
        {99, "99 us"},
        {300, "0.3 ms"},
        {9949, "9.9 ms"},
        {9999, "10 ms"},
        {999499, "999 ms"},
        {999500, "1.0 s"},
        {1500000, "1.5 s"},
        {59499999, "59 s"},
        {59999999, "1 min"},
        {240 * USEC_PER_SEC, "4 min"},
        {250 * USEC_PER_SEC, "4 min 10 s"},
        {3600 * USEC_PER_SEC - 1, "1 h"},
        {5400 * USEC_PER_SEC, "1 h 30 min"},
        {86400 * USEC_PER_SEC - 1, "1 d"},
        {183600 * USEC_PER_SEC, "2 d 3 h"},
        {UINT64_MAX, "213503982 d 8 h"},
    };
    char text[FORMAT_DURATION_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        cr_assert(eq(str, (char *)format_duration(text, cases[i].value), (char *)cases[i].text));
}
