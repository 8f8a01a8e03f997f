/* Unit tests of base/words. */
#include "base/words.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

/* words: ended by NULL. */
static void check(const char *text, const char *const *expected)
{
    _cleanup_(freep) char **words = NULL;
    int count = words_split(text, &words), i;

    cr_assert(ge(int, count, 0), "'%s'", text);
    for (i = 0; expected[i] != NULL; i++) {
        cr_assert(lt(int, i, count), "'%s'", text);
        cr_assert(eq(str, words[i], (char *)expected[i]), "'%s'", text);
    }
    cr_assert(eq(int, count, i), "'%s'", text);
    cr_assert(eq(ptr, words[count], NULL));
}

#define CHECK(text, ...) check(text, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

Test(words, are_parted_by_white_space)
{
    CHECK("");
    CHECK(" \t ");
    CHECK("/bin/true", "/bin/true");
    CHECK("  /bin/cp  -a\t--to=x \n", "/bin/cp", "-a", "--to=x");
    CHECK("a b c d e", "a", "b", "c", "d", "e");
}

Test(words, quotes_keep_white_space_and_make_empty_words)
{
    CHECK("a 'b  c' d", "a", "b  c", "d");
    CHECK("a \"b  c\"d", "a", "b  cd");
    CHECK("'' \"\"", "", "");
    CHECK("x'y'\"z\"", "xyz");
    CHECK("\"it's\" '\"'", "it's", "\"");
}

Test(words, a_backslash_takes_the_next_character_but_not_in_single_quotes)
{
    CHECK("a\\ b \\\"", "a b", "\"");
    CHECK("\"a\\\"b\\\\\"", "a\"b\\");
    CHECK("'a\\b'", "a\\b");
}

Test(words, nothing_else_means_anything)
{
    CHECK("$HOME *.c ; | && `x` #", "$HOME", "*.c", ";", "|", "&&", "`x`", "#");
}

Test(words, what_is_not_ended_is_refused)
{
    static const char *const wrong[] = {"'", "a 'b", "\"", "a \"b\\\"", "\\", "a\\"};
    char **words;

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        cr_assert(eq(int, words_split(wrong[i], &words), -EINVAL), "%s", wrong[i]);
}
