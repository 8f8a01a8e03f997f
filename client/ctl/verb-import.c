/* import: entries from JSON lines, as fast as the daemon takes them.
 *
 * A line is looked at just enough to find its key and its value, which go on as they stand, so that
 * no tree is built; the daemon validates. Lines go in batches, each one Apply, several on their way
 * at once. What fails is told with the number of its line: an operation's index leads there, and
 * where the daemon could not read the message at all, the batch's lines are parsed here to find the
 * one. An import can be repeated: it is puts and nothing else. */
#include <jansson.h>

#include "../lib/output.h"
#include "../lib/text.h"
#include "base/parse.h"
#include "lines.h"
#include "print.h"

#define BATCH_LINES 512
#define BATCH_BYTES (256 * KIB)
#define WINDOW 8 /* batches on their way */

typedef struct Batch {
    HfOutput text;
    size_t count;
    uint64_t numbers[BATCH_LINES];   /* of the lines */
    size_t offsets[BATCH_LINES + 1]; /* of the operations in the text */
} Batch;

typedef struct Import {
    Ctl *ctl;
    const char *arena;
    Lines lines;
    Batch batches[WINDOW];
    size_t first; /* oldest batch on its way */
    size_t sent;  /* batches on their way; the one behind them is being filled */
    int status;
    char *message; /* of the first failure */
    uint64_t entries;
    Progress progress;
} Import;

static Batch *batch_at(Import *import, size_t index)
{
    return &import->batches[(import->first + index) % WINDOW];
}

/* Keeps the first failure: what comes after it is its consequence. */
static _printf_(3, 4) void fail_line(Import *import, uint64_t number, const char *format, ...)
{
    va_list arguments;
    char *text = NULL;

    if (import->status != STATUS_OK)
        return;
    import->status = STATUS_FAILED;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    if (text == NULL || asprintf(&import->message, "%s:%llu: %s", import->lines.name,
                                 (unsigned long long)number, text) < 0)
        import->message = NULL;
    free(text);
}

/* --- what went wrong */

/* The daemon could not read the message: finds the line that is no JSON. False: they all are. */
static bool find_bad_line(Import *import, const Batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        json_error_t error;
        json_t *tree = json_loadb(batch->text.data + batch->offsets[i],
                                  batch->offsets[i + 1] - batch->offsets[i],
                                  JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &error);
        if (tree == NULL) {
            fail_line(import, batch->numbers[i], "%s", error.text);
            return true;
        }
        json_decref(tree);
    }
    return false;
}

static void batch_failed(Import *import, const Batch *batch, int r)
{
    const HoldfastConnection *connection = import->ctl->connection;
    const char *parameters = holdfast_error_parameters(connection);
    uint64_t number = batch->numbers[0];
    HoldfastText text;
    int64_t index;

    if (import->status != STATUS_OK)
        return;
    if (r != HOLDFAST_ERROR_REMOTE) {
        import->status = failure_call(import->ctl, r);
        return;
    }
    if (holdfast_error_is(connection, "BadMessage") && find_bad_line(import, batch))
        return;
    if (print_member(parameters, strlen(parameters), "operation", &text) &&
        hf_text_integer(text, &index) == 0 && index >= 0 && (uint64_t)index < batch->count)
        number = batch->numbers[index];
    _cleanup_(freep) char *message = failure_text(connection);
    fail_line(import, number, "%s", message != NULL ? message : holdfast_error_name(connection));
    if (holdfast_error_is(connection, "org.varlink.service.PermissionDenied"))
        import->status = STATUS_DENIED;
}

/* --- batches */

static void show_import(Import *import)
{
    char bytes[FORMAT_BYTES_MAX], number[FORMAT_NUMBER_MAX], detail[128];
    uint64_t elapsed = MAX(progress_elapsed(&import->progress), 1);

    if (!progress_due(&import->progress))
        return;
    snprintf(detail, sizeof(detail), "%s entries, %s/s", format_number(number, import->entries),
             format_bytes(bytes, (uint64_t)((double)import->lines.bytes_read * USEC_PER_SEC /
                                            (double)elapsed)));
    progress_update(&import->progress, import->lines.bytes_read, import->lines.bytes_total, detail);
}

static void batch_start(Import *import, Batch *batch)
{
    batch->count = 0;
    hf_output_rewind(&batch->text, 0);
    hf_output_literal(&batch->text, "{\"arena\":");
    hf_output_string(&batch->text, import->arena, strlen(import->arena));
    hf_output_literal(&batch->text, ",\"operations\":[");
}

/* The answer to the oldest batch on its way. */
static void receive_batch(Import *import)
{
    Batch *batch = batch_at(import, 0);
    int r = holdfast_receive(import->ctl->connection, NULL, NULL, NULL);

    if (r == 0)
        import->entries += batch->count;
    else
        batch_failed(import, batch, r);
    import->first = (import->first + 1) % WINDOW;
    import->sent--;
    show_import(import);
}

/* Sends the batch that was filled, and begins the next. */
static void send_batch(Import *import)
{
    Batch *batch = batch_at(import, import->sent);
    int r;

    if (batch->count == 0)
        return;
    hf_output_literal(&batch->text, "]}");
    r = batch->text.failed;
    if (r == 0)
        r = holdfast_send(import->ctl->connection, "Apply", batch->text.data,
                          hf_output_size(&batch->text), 0);
    if (r < 0) {
        /* A daemon that hung up said why before: the oldest answers come first, this failure after
         * them. */
        while (import->sent > 0)
            receive_batch(import);
        batch_failed(import, batch, r);
        return;
    }
    import->sent++;
    if (import->sent == WINDOW)
        receive_batch(import);
    batch_start(import, batch_at(import, import->sent));
}

/* key: the text of a JSON string, with its quotes. */
static void add_put(Import *import, HoldfastText key, HoldfastText value)
{
    Batch *batch = batch_at(import, import->sent);

    if (batch->count == BATCH_LINES ||
        (batch->count > 0 && hf_output_size(&batch->text) + value.size > BATCH_BYTES)) {
        send_batch(import);
        if (import->status != STATUS_OK)
            return;
        batch = batch_at(import, import->sent);
    }
    if (batch->count > 0)
        hf_output_literal(&batch->text, ",");
    batch->numbers[batch->count] = import->lines.number;
    batch->offsets[batch->count] = hf_output_size(&batch->text);
    hf_output_literal(&batch->text, "{\"op\":\"put\",\"key\":");
    hf_output_append(&batch->text, key.data, key.size);
    hf_output_literal(&batch->text, ",\"value\":");
    hf_output_append(&batch->text, value.data, value.size);
    hf_output_literal(&batch->text, "}");
    batch->offsets[++batch->count] = hf_output_size(&batch->text);
}

/* --- lines */

/* What the daemon would refuse without saying which it was. */
static const char *check_key(HoldfastText key)
{
    if (hf_text_type(key) != HF_TEXT_STRING)
        return "the key is no string";
    return hf_text_inner(key).size > 0 ? NULL : "the key is empty";
}

/* What a line says; NULL, or what is wrong with it. */
static const char *read_entry(HfTextWalk *walk, HoldfastText *ret_key, HoldfastText *ret_value)
{
    HoldfastText name, value;
    int r;

    while ((r = hf_text_next(walk, &name, &value)) > 0) {
        HoldfastText *to = hf_text_is(name, "key")     ? ret_key
                           : hf_text_is(name, "value") ? ret_value
                                                       : NULL;
        if (to == NULL && !hf_text_is(name, "revision"))
            return "a member that is neither key nor value (documents need --key=FIELD)";
        if (to != NULL && to->data != NULL)
            return "key or value stand there twice";
        if (to != NULL)
            *to = value;
    }
    if (r < 0)
        return "this is no JSON";
    if (ret_key->data == NULL || ret_value->data == NULL)
        return "key or value are missing (documents need --key=FIELD)";
    return check_key(*ret_key);
}

static const char *read_document(HfTextWalk *walk, const char *field, HoldfastText *ret_key)
{
    HoldfastText name, value;
    int r;

    while ((r = hf_text_next(walk, &name, &value)) > 0)
        if (hf_text_is(name, field))
            *ret_key = value;
    if (r < 0)
        return "this is no JSON";
    if (ret_key->data == NULL)
        return "the member that is the key is missing";
    return hf_text_type(*ret_key) == HF_TEXT_STRING ? NULL
                                                    : "the member that is the key is no string";
}

static void take_line(Import *import, HoldfastText line)
{
    const char *field = import->ctl->options.key, *wrong;
    HoldfastText whole, key = {0}, value = {0};
    HfTextWalk walk;

    if (memchr(line.data, '\0', line.size) != NULL || !hf_text_whole(line, &whole) ||
        hf_text_type(whole) != HF_TEXT_OBJECT || !hf_text_walk(whole, &walk))
        wrong = "this is no JSON object on one line";
    else
        wrong = field != NULL ? read_document(&walk, field, &key) : read_entry(&walk, &key, &value);
    if (wrong == NULL) {
        add_put(import, key, field != NULL ? whole : value);
        return;
    }
    /* All lines before this one go in first. */
    send_batch(import);
    while (import->sent > 0)
        receive_batch(import);
    fail_line(import, import->lines.number, "%s", wrong);
}

static void run_import(Import *import)
{
    HoldfastText line;
    int r;

    batch_start(import, batch_at(import, 0));
    r = batch_at(import, 0)->text.failed;
    if (r < 0)
        import->status = failure_call(import->ctl, r);
    while (import->status == STATUS_OK && (r = lines_next(&import->lines, &line)) > 0)
        take_line(import, line);
    if (import->status == STATUS_OK)
        send_batch(import);
    while (import->sent > 0)
        receive_batch(import);
    if (r < 0)
        fail_line(import, import->lines.number + 1, "%s", strerror(-r));
}

static void tell_result(const Import *import)
{
    char number[FORMAT_NUMBER_MAX], bytes[FORMAT_BYTES_MAX], duration[FORMAT_DURATION_MAX];

    if (import->message != NULL)
        failure(import->status, "%s", import->message);
    if (import->ctl->options.quiet)
        return;
    fprintf(stderr, "%s %s imported, %s in %s\n", format_number(number, import->entries),
            print_plural(import->entries, "entry", "entries"),
            format_bytes(bytes, import->lines.bytes_read),
            format_duration(duration, progress_elapsed(&import->progress)));
}

int verb_import(Ctl *ctl, int count, char **arguments)
{
    Import *import = calloc(1, sizeof(*import));
    int r, status;

    if (import == NULL)
        return failure_call(ctl, -ENOMEM);
    import->ctl = ctl;
    import->arena = arguments[0];
    r = lines_open(&import->lines, count > 1 ? arguments[1] : NULL);
    if (r < 0) {
        free(import);
        return failure(STATUS_FAILED, "cannot open %s: %s", arguments[1], strerror(-r));
    }
    progress_begin(&import->progress, ctl, "import");
    run_import(import);
    progress_end(&import->progress);
    tell_result(import);
    status = import->status;
    for (size_t i = 0; i < WINDOW; i++)
        hf_output_deinit(&import->batches[i].text);
    lines_close(&import->lines);
    free(import->message);
    free(import);
    return status;
}
