/* The two protocols of the load: Varlink by hand, which is JSON up to a NUL byte, and Redis'
 * through hiredis, which formats the template and parses the replies; it builds no objects for
 * them, just as no tree is built of the JSON. A reply that is an error ends a load: numbers of
 * refused calls mean nothing. */
#include "load-protocol.h"

#include <stdio.h>

#ifdef HAVE_HIREDIS
#include <hiredis/hiredis.h>
#endif

void load_write_key(char *at, uint64_t number)
{
    memcpy(at, "key:", 4);
    for (unsigned i = LOAD_KEY_BYTES - 1; i >= 4; i--) {
        at[i] = (char)('0' + number % 10);
        number /= 10;
    }
}

void load_template_deinit(LoadTemplate *template)
{
    free(template->text);
    free(template->keys);
    free(template->values);
    *template = (LoadTemplate){0};
}

static int template_init(LoadTemplate *template, unsigned operations, size_t value_bytes)
{
    if (operations == 0 || operations > LOAD_OPERATIONS_MAX)
        return -EINVAL;
    *template = (LoadTemplate){
        .operations = operations,
        .value_bytes = value_bytes,
        .text = malloc(operations * (value_bytes + 128) + 128),
        .keys = calloc(operations, sizeof(*template->keys)),
        .values = calloc(operations, sizeof(*template->values)),
    };
    if (template->text && template->keys && template->values)
        return 0;
    load_template_deinit(template);
    return -ENOMEM;
}

static void append(LoadTemplate *template, const char *text)
{
    size_t size = strlen(text);

    memcpy(template->text + template->size, text, size);
    template->size += size;
}

/* Appends what will be replaced and says where it stands. */
static size_t append_hole(LoadTemplate *template, size_t size)
{
    size_t at = template->size;

    memset(template->text + at, 'x', size);
    template->size += size;
    return at;
}

/* --- holdfast */

static void append_entry(LoadTemplate *template, unsigned i)
{
    append(template, "\"key\":\"");
    template->keys[i] = append_hole(template, LOAD_KEY_BYTES);
    append(template, "\"");
    if (template->value_bytes == 0)
        return;
    append(template, ",\"value\":\"");
    template->values[i] = append_hole(template, template->value_bytes);
    append(template, "\"");
}

static int holdfast_make(LoadCommand command, unsigned operations, size_t value_bytes,
                         LoadTemplate *ret)
{
    static const char *const heads[] = {
        [LOAD_PUT] = "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"a\",",
        [LOAD_GET] = "{\"method\":\"io.holdfast.Get\",\"parameters\":{\"arena\":\"a\",",
        [LOAD_APPLY] = "{\"method\":\"io.holdfast.Apply\",\"parameters\":{\"arena\":\"a\",",
    };
    int r = template_init(ret, command == LOAD_APPLY ? operations : 1,
                          command == LOAD_GET ? 0 : value_bytes);

    if (r < 0)
        return r;
    append(ret, heads[command]);
    if (command == LOAD_APPLY)
        append(ret, "\"operations\":[");
    if (command != LOAD_APPLY)
        append_entry(ret, 0);
    for (unsigned i = 0; command == LOAD_APPLY && i < operations; i++) {
        append(ret, i > 0 ? ",{\"op\":\"put\"," : "{\"op\":\"put\",");
        append_entry(ret, i);
        append(ret, "}");
    }
    append(ret, command == LOAD_APPLY ? "]}}" : "}}");
    ret->text[ret->size++] = '\0';
    ret->replies = 1;
    return 0;
}

static int holdfast_reader_init(LoadReader *reader)
{
    *reader = (LoadReader){0};
    return 0;
}

static void holdfast_reader_deinit(LoadReader *reader)
{
    *reader = (LoadReader){0};
}

/* An error is told by the reply's first member: {"error": against {"parameters":. */
static int holdfast_replies(LoadReader *reader, const char *data, size_t size)
{
    int count = 0;

    for (size_t at = 0; at < size;) {
        const char *end = memchr(data + at, '\0', size - at);
        size_t part = (end ? (size_t)(end - data) : size) - at;

        if (reader->position <= 2 && reader->position + part > 2 &&
            data[at + 2 - reader->position] == 'e')
            reader->failed = true;
        reader->position = end ? 0 : reader->position + part;
        count += end != NULL;
        at += part + (end != NULL);
    }
    return count;
}

/* --- Redis */

#ifdef HAVE_HIREDIS

static int redis_append(LoadTemplate *template, unsigned i, bool get)
{
    static const char digits[] = "key:000000000000";
    size_t value_bytes = template->value_bytes;
    char *value = malloc(value_bytes + 1), *text = NULL;
    const char *arguments[] = {get ? "GET" : "SET", digits, value};
    size_t sizes[] = {3, LOAD_KEY_BYTES, value_bytes};
    int size;

    if (!value)
        return -ENOMEM;
    memset(value, 'x', value_bytes);
    size = redisFormatCommandArgv(&text, get ? 2 : 3, arguments, sizes);
    free(value);
    if (size < 0)
        return -ENOMEM;
    template->keys[i] = template->size +
                        (size_t)((char *)memmem(text, (size_t)size, digits, LOAD_KEY_BYTES) - text);
    template->values[i] = template->size + (size_t)size - 2 - value_bytes;
    memcpy(template->text + template->size, text, (size_t)size);
    template->size += (size_t)size;
    redisFreeCommand(text);
    return 0;
}

static int redis_make(LoadCommand command, unsigned operations, size_t value_bytes,
                      LoadTemplate *ret)
{
    bool get = command == LOAD_GET;
    int r = template_init(ret, command == LOAD_APPLY ? operations : 1, get ? 0 : value_bytes);

    for (unsigned i = 0; r == 0 && i < ret->operations; i++)
        r = redis_append(ret, i, get);
    if (r < 0)
        load_template_deinit(ret);
    else
        ret->replies = ret->operations;
    return r;
}

static int redis_reader_init(LoadReader *reader)
{
    redisReader *parser = redisReaderCreateWithFunctions(NULL);

    if (!parser)
        return -ENOMEM;
    parser->maxbuf = 0; /* keeps its buffer */
    *reader = (LoadReader){.parser = parser};
    return 0;
}

static void redis_reader_deinit(LoadReader *reader)
{
    if (reader->parser)
        redisReaderFree(reader->parser);
    *reader = (LoadReader){0};
}

/* Without functions that make objects, a reply is its type. */
static int redis_replies(LoadReader *reader, const char *data, size_t size)
{
    int count = 0;

    if (redisReaderFeed(reader->parser, data, size) != REDIS_OK)
        return -EBADMSG;
    for (;;) {
        void *reply = NULL;

        if (redisReaderGetReply(reader->parser, &reply) != REDIS_OK)
            return -EBADMSG;
        if (!reply)
            return count;
        if ((size_t)reply == REDIS_REPLY_ERROR)
            reader->failed = true;
        count++;
    }
}

#endif

static const LoadProtocol protocols[] = {
    {"holdfast", holdfast_make, holdfast_reader_init, holdfast_reader_deinit, holdfast_replies},
#ifdef HAVE_HIREDIS
    {"redis", redis_make, redis_reader_init, redis_reader_deinit, redis_replies},
#endif
};

const LoadProtocol *load_protocol(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
        if (strcmp(protocols[i].name, name) == 0)
            return &protocols[i];
    return NULL;
}
