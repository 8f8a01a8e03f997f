/* Tables, by libsmartcols: as wide as the terminal, and plain in a pipe. */
#include <libsmartcols.h>

#include "print.h"

struct Table {
    struct libscols_table *table;
    struct libscols_line *line; /* being filled */
    int failed;
};

static int add_columns(struct libscols_table *table, const Column *columns, size_t count)
{
    /* 0: as wide as the cells. */
    for (size_t i = 0; i < count; i++)
        if (scols_table_new_column(table, columns[i].name, 0,
                                   columns[i].right ? SCOLS_FL_RIGHT : 0) == NULL)
            return -ENOMEM;
    return 0;
}

int table_new(const Ctl *ctl, const Column *columns, size_t count, Table **ret)
{
    Table *table = calloc(1, sizeof(*table));

    if (table == NULL)
        return -ENOMEM;
    scols_init_debug(0);
    table->table = scols_new_table();
    if (table->table == NULL || add_columns(table->table, columns, count) < 0) {
        scols_unref_table(table->table);
        free(table);
        return -ENOMEM;
    }
    scols_table_enable_noheadings(table->table, ctl->options.no_legend);
    scols_table_enable_colors(table->table, ctl->colour);
    *ret = table;
    return 0;
}

void table_row(Table *table)
{
    table->line = scols_table_new_line(table->table, NULL);
    if (table->line == NULL)
        table->failed = -ENOMEM;
}

void table_set(Table *table, size_t column, const char *text)
{
    int r = table->line != NULL ? scols_line_set_data(table->line, column, text) : -ENOMEM;

    if (r < 0)
        table->failed = r;
}

int table_finish(Table *table)
{
    int r;

    if (table == NULL)
        return 0;
    r = table->failed;
    if (r == 0 && scols_table_get_nlines(table->table) > 0) {
        r = scols_print_table(table->table);
        if (r > 0)
            r = -r;
    }
    scols_unref_table(table->table);
    free(table);
    return r;
}
