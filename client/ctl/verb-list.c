/* list: a sorted table where all entries fit on a screenful, else a stream in the same columns, in
 * no order.
 *
 * Entries are gathered as they come. When there are more than fit, what was gathered is printed and
 * the rest follows as it comes, so that a large arena costs no memory; columns keep the widths that
 * the first screenful had. */
#include <unistd.h>

#include "print.h"

#define SCREENFUL_PIPE 256  /* entries sorted where there is no screen */
#define VALUE_BYTES_MAX 512 /* of a value kept for a table: more is never shown */

typedef struct Row {
    char *key;
    size_t key_length;
    char *value;
    size_t value_length;
    uint64_t revision;
} Row;

typedef struct Listing {
    const Ctl *ctl;
    Row *rows;
    size_t count;
    size_t screenful;
    unsigned columns; /* of the terminal; 0: as wide as it gets */
    int key_width;
    int revision_width;
    bool streaming;
} Listing;

static bool is_lines(const Ctl *ctl)
{
    return ctl->options.json != JSON_OFF;
}

static void print_line(const Ctl *ctl, const Row *row)
{
    const HoldfastItem entry = {
        .key = row->key,
        .key_length = row->key_length,
        .json = row->value,
        .json_length = row->value_length,
        .revision = row->revision,
    };

    if (!ctl->options.keys) {
        print_entry(NULL, &entry, true);
        return;
    }
    print_string(stdout, row->key, row->key_length);
    putchar('\n');
}

/* As many bytes of the text as go into the columns, whole characters of UTF-8. */
static size_t cut(const char *text, size_t size, unsigned columns)
{
    size_t at = 0;

    for (unsigned used = 0; at < size && used < columns; used++) {
        at++;
        while (at < size && ((uint8_t)text[at] & 0xc0) == 0x80)
            at++;
    }
    return at;
}

static void print_columns(const Listing *listing, const Row *row)
{
    const Ctl *ctl = listing->ctl;
    int padding = listing->key_width - (int)MIN(row->key_length, (size_t)listing->key_width);
    unsigned used = (unsigned)listing->key_width + (unsigned)listing->revision_width + 4;
    size_t size = row->value_length;

    print_plain(ctl, row->key, row->key_length);
    if (ctl->options.keys) {
        putchar('\n');
        return;
    }
    printf("%*s  %*llu  ", padding, "", listing->revision_width, (unsigned long long)row->revision);
    if (listing->columns > 0)
        size = cut(row->value, size, listing->columns > used + 10 ? listing->columns - used : 10);
    print_plain(ctl, row->value, size);
    putchar('\n');
}

static void print_row(const Listing *listing, const Row *row)
{
    if (is_lines(listing->ctl))
        print_line(listing->ctl, row);
    else
        print_columns(listing, row);
}

static int compare_rows(const void *a, const void *b)
{
    const Row *left = a, *right = b;
    int order = memcmp(left->key, right->key, MIN(left->key_length, right->key_length));

    return order != 0
               ? order
               : (left->key_length > right->key_length) - (left->key_length < right->key_length);
}

/* Widths are those of the rows gathered, heading included. */
static void print_gathered(Listing *listing)
{
    listing->key_width = 3;
    listing->revision_width = 8;
    for (size_t i = 0; i < listing->count; i++)
        listing->key_width =
            (int)MAX((size_t)listing->key_width, MIN(listing->rows[i].key_length, 40));
    if (!is_lines(listing->ctl) && !listing->ctl->options.no_legend &&
        !listing->ctl->options.keys && listing->count > 0)
        printf("%-*s  %*s  VALUE\n", listing->key_width, "KEY", listing->revision_width,
               "REVISION");
    for (size_t i = 0; i < listing->count; i++)
        print_row(listing, &listing->rows[i]);
}

static int gather(Listing *listing, const Row *row)
{
    bool shortened = !is_lines(listing->ctl) && listing->columns > 0;
    size_t size = shortened ? MIN(row->value_length, VALUE_BYTES_MAX) : row->value_length;
    Row *kept = &listing->rows[listing->count];
    char *text = malloc(row->key_length + size + 1);

    if (text == NULL)
        return -ENOMEM;
    *kept = *row;
    kept->key = text;
    kept->value = text + row->key_length;
    kept->value_length = size;
    memcpy(kept->key, row->key, row->key_length);
    if (size > 0)
        memcpy(kept->value, row->value, size);
    listing->count++;
    return 0;
}

static int take_entry(void *context, const HoldfastItem *entry)
{
    Listing *listing = context;
    Row row = {
        .key = (char *)(uintptr_t)entry->key,
        .key_length = entry->key_length,
        .value = (char *)(uintptr_t)entry->json,
        .value_length = entry->json_length,
        .revision = entry->revision,
    };

    if (!listing->streaming && listing->count < listing->screenful)
        return gather(listing, &row);
    if (!listing->streaming) {
        listing->streaming = true;
        print_gathered(listing);
    }
    print_row(listing, &row);
    return print_check();
}

int verb_list(Ctl *ctl, int count, char **arguments)
{
    Listing listing = {.ctl = ctl, .screenful = SCREENFUL_PIPE};
    unsigned lines;
    int r;

    (void)count;
    if (ctl->terminal) {
        terminal_size(ctl->screen, &lines, &listing.columns);
        listing.screenful = lines > 3 ? lines - 2 : 1;
    }
    listing.rows = calloc(listing.screenful, sizeof(*listing.rows));
    if (listing.rows == NULL)
        return failure_call(ctl, -ENOMEM);
    r = holdfast_list_all(ctl->connection, arguments[0], ctl->options.prefix,
                          ctl->options.keys ? HOLDFAST_KEYS_ONLY : 0, take_entry, &listing);
    if (r == 0 && !listing.streaming) {
        qsort(listing.rows, listing.count, sizeof(*listing.rows), compare_rows);
        print_gathered(&listing);
    }
    for (size_t i = 0; i < listing.count; i++)
        free(listing.rows[i].key);
    free(listing.rows);
    /* That stdout takes no more is told at the end. */
    return r != 0 && print_check() == 0 ? failure_call(ctl, r) : STATUS_OK;
}
