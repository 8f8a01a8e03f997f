/* apply, export: many entries as JSON lines. (import is in verb-import.c.) */
#include "../lib/output.h"
#include "../lib/text.h"
#include "base/parse.h"
#include "lines.h"
#include "print.h"

/* --- apply */

/* The parameters of an Apply whose operations are the input's lines; numbers: the line of each
 * operation. */
typedef struct Batch {
    HfOutput text;
    uint64_t *numbers;
    size_t count;
    size_t room;
} Batch;

static int add_operation(Batch *batch, HoldfastText line, uint64_t number)
{
    if (batch->count == batch->room) {
        size_t room = batch->room == 0 ? 256 : batch->room * 2;
        uint64_t *numbers = realloc(batch->numbers, room * sizeof(*numbers));
        if (numbers == NULL)
            return -ENOMEM;
        batch->numbers = numbers;
        batch->room = room;
    }
    batch->numbers[batch->count++] = number;
    if (batch->count > 1)
        hf_output_literal(&batch->text, ",");
    hf_output_append(&batch->text, line.data, line.size);
    return batch->text.failed;
}

static int read_operations(Lines *lines, Batch *batch)
{
    HoldfastText line, value;
    int r;

    while ((r = lines_next(lines, &line)) > 0) {
        if (!hf_text_whole(line, &value) || hf_text_type(value) != HF_TEXT_OBJECT)
            return failure(STATUS_FAILED,
                           "%s:%llu: this is no operation: a JSON object was expected", lines->name,
                           (unsigned long long)lines->number);
        r = add_operation(batch, value, lines->number);
        if (r == 0 && hf_output_size(&batch->text) > HOLDFAST_MESSAGE_MAX)
            r = -EMSGSIZE;
        if (r < 0)
            break;
    }
    if (r < 0)
        return failure(STATUS_FAILED, "%s:%llu: %s", lines->name, (unsigned long long)lines->number,
                       r == -EMSGSIZE ? "more than one message holds, apply it in parts"
                                      : strerror(-r));
    return STATUS_OK;
}

/* The error of an operation is one of its line. */
static int apply_failed(const Ctl *ctl, const Lines *lines, const Batch *batch, int r)
{
    const char *parameters = holdfast_error_parameters(ctl->connection);
    HoldfastText text;
    int64_t index;

    if (r != HOLDFAST_ERROR_REMOTE ||
        !print_member(parameters, strlen(parameters), "operation", &text) ||
        hf_text_integer(text, &index) < 0 || index < 0 || (uint64_t)index >= batch->count)
        return failure_call(ctl, r);
    _cleanup_(freep) char *message = failure_text(ctl->connection);
    return failure(STATUS_FAILED, "%s:%llu: %s", lines->name,
                   (unsigned long long)batch->numbers[index],
                   message != NULL ? message : holdfast_error_name(ctl->connection));
}

static int apply_batch(Ctl *ctl, const Lines *lines, Batch *batch)
{
    const char *reply;
    HoldfastText revision;
    size_t size;
    int r;

    hf_output_append(&batch->text, "]}", sizeof("]}"));
    if (batch->text.failed < 0)
        return failure_call(ctl, batch->text.failed);
    r = holdfast_call(ctl->connection, "Apply", batch->text.data, &reply, &size);
    if (r != 0)
        return apply_failed(ctl, lines, batch, r);
    if (ctl->options.revision && print_member(reply, size, "revision", &revision))
        printf("%.*s\n", (int)revision.size, revision.data);
    return STATUS_OK;
}

int verb_apply(Ctl *ctl, int count, char **arguments)
{
    Batch batch = {0};
    Lines lines;
    int status;
    int r = lines_open(&lines, count > 1 ? arguments[1] : NULL);

    if (r < 0)
        return failure(STATUS_FAILED, "cannot open %s: %s", arguments[1], strerror(-r));
    hf_output_literal(&batch.text, "{\"arena\":");
    hf_output_string(&batch.text, arguments[0], strlen(arguments[0]));
    hf_output_literal(&batch.text, ",\"operations\":[");
    status = batch.text.failed < 0 ? failure_call(ctl, batch.text.failed)
                                   : read_operations(&lines, &batch);
    if (status == STATUS_OK)
        status = apply_batch(ctl, &lines, &batch);
    hf_output_deinit(&batch.text);
    free(batch.numbers);
    lines_close(&lines);
    return status;
}

/* --- export */

typedef struct Export {
    Progress progress;
    uint64_t entries;
    uint64_t total;
} Export;

static void show_export(Export *export)
{
    char number[FORMAT_NUMBER_MAX], detail[64];

    if (!progress_due(&export->progress))
        return;
    snprintf(detail, sizeof(detail), "%s entries", format_number(number, export->entries));
    progress_update(&export->progress, export->entries, export->total, detail);
}

static int export_entry(void *context, const HoldfastItem *entry)
{
    Export *export = context;

    print_entry(NULL, entry, false);
    if (++export->entries % 256 != 0)
        return 0;
    show_export(export);
    return print_check();
}

/* How many there will be, about; 0 where that is not known. For the bar alone, so an error is one
 * of the listing. */
static uint64_t count_entries(Ctl *ctl, const char *name)
{
    HoldfastArena **arenas;
    uint64_t entries = 0;

    if (ctl->options.prefix != NULL || holdfast_list_arenas(ctl->connection, &arenas, NULL) != 0)
        return 0;
    for (size_t i = 0; arenas[i] != NULL; i++)
        if (strcmp(arenas[i]->name, name) == 0)
            entries = arenas[i]->entries;
    holdfast_arenas_free(arenas);
    return entries;
}

int verb_export(Ctl *ctl, int count, char **arguments)
{
    Export export = {0};
    int r;

    (void)count;
    progress_begin(&export.progress, ctl, "export");
    /* Lines and a bar on one screen would be in each other's way. */
    export.progress.shown = export.progress.shown && !ctl->terminal;
    if (export.progress.shown)
        export.total = count_entries(ctl, arguments[0]);
    r = holdfast_list_all(ctl->connection, arguments[0], ctl->options.prefix, 0, export_entry,
                          &export);
    progress_end(&export.progress);
    return r != 0 && print_check() == 0 ? failure_call(ctl, r) : STATUS_OK;
}
