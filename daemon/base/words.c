/* Splitting a command line. One allocation holds the pointers and, behind them, the words: there
 * are at most half as many words as characters and one, and never more characters than before. */
#include "base/words.h"

#define BLANKS " \t\r\n\v\f"

/* The word that begins at *text, without its quotes, to *to. Both are moved on. */
static int take_word(const char **text, char **to)
{
    const char *at = *text;
    char *end = *to;
    char quote = '\0';

    for (; *at != '\0' && (quote != '\0' || strchr(BLANKS, *at) == NULL); at++) {
        if (*at == quote) {
            quote = '\0';
        } else if (quote == '\0' && (*at == '\'' || *at == '"')) {
            quote = *at;
        } else {
            if (*at == '\\' && quote != '\'' && *++at == '\0')
                return -EINVAL;
            *end++ = *at;
        }
    }
    if (quote != '\0')
        return -EINVAL;
    *end++ = '\0';
    *text = at;
    *to = end;
    return 0;
}

int words_split(const char *text, char ***ret)
{
    size_t length = strlen(text), most = length / 2 + 1;
    int count = 0;
    char **words = malloc((most + 1) * sizeof(*words) + length + 1);
    char *to;

    if (words == NULL)
        return -ENOMEM;
    to = (char *)(words + most + 1);
    for (text += strspn(text, BLANKS); *text != '\0'; text += strspn(text, BLANKS)) {
        words[count++] = to;
        int r = take_word(&text, &to);
        if (r < 0) {
            free(words);
            return r;
        }
    }
    words[count] = NULL;
    *ret = words;
    return count;
}
