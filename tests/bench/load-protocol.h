/* What the load says and hears in each protocol: a call as a template whose keys and values are
 * replaced before it is sent, and a count of the replies in what came back. All else of the load is
 * the same code for both. */
#pragma once

#include "base/common.h"

#define LOAD_KEY_BYTES 16
#define LOAD_OPERATIONS_MAX 4096

typedef enum LoadCommand {
    LOAD_PUT,   /* one entry a call */
    LOAD_GET,   /* one entry a call */
    LOAD_APPLY, /* many entries a call, where the protocol has that; else so many calls */
} LoadCommand;

/* One call as it is sent, without what differs from call to call. */
typedef struct LoadTemplate {
    char *text;
    size_t size;
    unsigned operations; /* entries in it */
    unsigned replies;    /* answers to it */
    size_t value_bytes;  /* 0: no values */
    size_t *keys;        /* where the key of each operation stands, LOAD_KEY_BYTES long */
    size_t *values;      /* where its value stands */
} LoadTemplate;

/* The replies of one connection, as far as they have come. */
typedef struct LoadReader {
    void *parser; /* of the protocol's library, if it has one */
    size_t position;
    bool failed; /* a reply is an error */
} LoadReader;

typedef struct LoadProtocol {
    const char *name;
    /* value_bytes: of text that needs no escaping. -EINVAL, -ENOMEM. */
    int (*make)(LoadCommand command, unsigned operations, size_t value_bytes, LoadTemplate *ret);
    int (*reader_init)(LoadReader *reader);
    void (*reader_deinit)(LoadReader *reader);
    /* How many replies end within the bytes, which follow those of the call before; negative errno:
     * they are no replies. Sets reader->failed where one is an error. */
    int (*replies)(LoadReader *reader, const char *data, size_t size);
} LoadProtocol;

/* NULL: there is none of that name, or it was not built in. */
const LoadProtocol *load_protocol(const char *name);

/* Writes the digits of a key, "key:" and twelve of them, to where a template has one. */
void load_write_key(char *at, uint64_t number);

void load_template_deinit(LoadTemplate *template);
