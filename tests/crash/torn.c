/* Writer and reader of the torn-read campaign (torn.py). Each value carries what tells that it is
 * whole, and of which key and which update it is; readers know nothing but the key.
 *
 *     torn write SOCKET SECONDS SEED   updates as fast as it can
 *     torn read SOCKET SECONDS [restarts]
 *                                      checks every value that it reads from shared memory; with
 *                                      `restarts` daemons may come and go
 *     torn follow SOCKET KEY           prints the value of the key whenever it has changed
 *
 * A value of SIZE bytes is a JSON string of SIZE - 2 characters. From 48 bytes on: 16 hexadecimal
 * digits, 20 decimal digits, then letters. The decimal ones are the number of the update, which
 * grows; the hexadecimal ones are the 64-bit FNV-1a hash of the key and of all that follows them,
 * without the closing quote. Shorter ones repeat one letter; one byte is a digit.
 *
 * The two keys of a pair are always put by one Apply, with one number: read together they must be
 * of one state. Ends with 0, or 1 after a line that tells what was wrong. */
#include <errno.h>
#include <holdfast.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ARENA "torn"
#define KEYS 48
#define PAIRS 8
#define GROWN 3000 /* keys that come and go, so that index and memory grow and shrink */
#define VALUE_MAX (1u << 20)
#define CHECKED_MIN 48

typedef struct Reader {
    HoldfastMap *map;
    bool restarts;
    char *buffer;
    uint64_t revisions[KEYS + 2 * PAIRS];
    uint64_t numbers[KEYS + 2 * PAIRS];
    uint64_t reads, many, iterations, changed, away, bytes;
} Reader;

static _Noreturn void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void wrong(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    exit(1);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* --- values */

static uint64_t fnv(uint64_t hash, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t value_hash(const char *key, const char *rest, size_t size)
{
    return fnv(fnv(UINT64_C(0xcbf29ce484222325), key, strlen(key)), rest, size);
}

static void make_value(const char *key, uint64_t number, char *value, size_t size)
{
    char digits[24];

    if (size == 1) {
        value[0] = (char)('0' + number % 10);
        return;
    }
    memset(value, 'a' + (int)(number % 26), size);
    value[0] = value[size - 1] = '"';
    if (size < CHECKED_MIN)
        return;
    snprintf(digits, sizeof(digits), "%020llu", (unsigned long long)number);
    memcpy(value + 17, digits, 20);
    snprintf(digits, sizeof(digits), "%016llx",
             (unsigned long long)value_hash(key, value + 17, size - 18));
    memcpy(value + 1, digits, 16);
}

/* The number in the value; 0: a short one has none. */
static uint64_t check_value(const char *key, const char *value, size_t size)
{
    char digits[24] = "", numbers[24] = "";

    if (size == 1 && value[0] >= '0' && value[0] <= '9')
        return 0;
    if (size < 2 || value[0] != '"' || value[size - 1] != '"')
        wrong("torn: %s: %zu bytes that are no string", key, size);
    if (size < CHECKED_MIN) {
        for (size_t i = 2; i < size - 1; i++)
            if (value[i] != value[1])
                wrong("torn: %s: %.*s", key, (int)size, value);
        return 0;
    }
    snprintf(digits, sizeof(digits), "%016llx",
             (unsigned long long)value_hash(key, value + 17, size - 18));
    if (memcmp(digits, value + 1, 16) != 0)
        wrong("torn: %s: %zu bytes, hash %s, not %.16s", key, size, digits, value + 1);
    memcpy(numbers, value + 17, 20);
    return strtoull(numbers, NULL, 10);
}

static void make_key(unsigned index, char key[32])
{
    if (index < KEYS)
        snprintf(key, 32, "key-%u", index);
    else
        snprintf(key, 32, "pair-%u-%u", (index - KEYS) / 2, (index - KEYS) % 2);
}

/* --- writing */

/* From 1 byte to 1 MiB; small ones are most, and half of them of one class of sizes, so that they
 * are written over in place. */
static size_t random_size(uint64_t *random)
{
    uint64_t draw = next_random(random);

    if (draw % 2 == 0)
        return 200 + next_random(random) % 24;
    unsigned bits = (unsigned)(next_random(random) % (draw % 64 == 1 ? 21 : 14));
    return 1 + next_random(random) % (UINT64_C(1) << bits);
}

static void write_one(HoldfastConnection *connection, uint64_t *random, uint64_t *number,
                      char *value)
{
    char key[32];
    unsigned index = (unsigned)(next_random(random) % KEYS);
    int r;

    make_key(index, key);
    if (next_random(random) % 8 == 0) {
        r = holdfast_delete(connection, ARENA, key, strlen(key), HOLDFAST_ANY_REVISION, NULL);
        if (r == HOLDFAST_ERROR_REMOTE && holdfast_error_is(connection, "NoSuchKey"))
            r = 0;
    } else {
        size_t size = random_size(random);
        make_value(key, ++*number, value, size);
        r = holdfast_put(connection, ARENA, key, strlen(key), value, size, HOLDFAST_ANY_REVISION,
                         NULL);
    }
    if (r != 0)
        wrong("writer: %d %s", r, holdfast_error_name(connection));
}

/* Many small ones at once: what keeps the daemon at work all the time. */
static void write_many(HoldfastConnection *connection, uint64_t *random, uint64_t *number,
                       char *values)
{
    static char keys[256][32];
    HoldfastOperation operations[256];
    size_t count = 2 + next_random(random) % 254, used = 0;

    for (size_t i = 0; i < count; i++) {
        size_t size = 200 + next_random(random) % 24;
        make_key((unsigned)(next_random(random) % KEYS), keys[i]);
        make_value(keys[i], ++*number, values + used, size);
        operations[i] = (HoldfastOperation){
            .type = HOLDFAST_PUT,
            .key = {keys[i], strlen(keys[i])},
            .json = {values + used, size},
        };
        used += size;
    }
    int r = holdfast_apply(connection, ARENA, operations, count, NULL);
    if (r != 0)
        wrong("writer: %d %s", r, holdfast_error_name(connection));
}

static void write_pair(HoldfastConnection *connection, uint64_t *random, uint64_t *number,
                       char *values)
{
    char keys[2][32];
    HoldfastOperation operations[2];
    unsigned pair = (unsigned)(next_random(random) % PAIRS);

    ++*number;
    for (unsigned i = 0; i < 2; i++) {
        size_t size = CHECKED_MIN + next_random(random) % 2000;
        make_key(KEYS + 2 * pair + i, keys[i]);
        make_value(keys[i], *number, values + i * 4096, size);
        operations[i] = (HoldfastOperation){
            .type = HOLDFAST_PUT,
            .key = {keys[i], strlen(keys[i])},
            .json = {values + i * 4096, size},
        };
    }
    int r = holdfast_apply(connection, ARENA, operations, 2, NULL);
    if (r != 0)
        wrong("writer: %d %s", r, holdfast_error_name(connection));
}

/* All of them come, or all of them go. */
static void grow(HoldfastConnection *connection, uint64_t *random, bool put, char *value)
{
    static HoldfastOperation operations[GROWN];
    static char keys[GROWN][32];
    size_t size = 3 + next_random(random) % 2000;

    make_value("", 0, value, size);
    for (unsigned i = 0; i < GROWN; i++) {
        snprintf(keys[i], sizeof(keys[i]), "grown-%u", i);
        operations[i] = (HoldfastOperation){
            .type = put ? HOLDFAST_PUT : HOLDFAST_DELETE,
            .key = {keys[i], strlen(keys[i])},
            .json = {value, size},
        };
    }
    int r = holdfast_apply(connection, ARENA, operations, GROWN, NULL);
    if (r != 0 && !(r == HOLDFAST_ERROR_REMOTE && holdfast_error_is(connection, "NoSuchKey")))
        wrong("writer: %d %s", r, holdfast_error_name(connection));
}

static void run_write(HoldfastConnection *connection, double seconds, uint64_t seed)
{
    char *values = malloc(2 * VALUE_MAX);
    uint64_t random = seed * 2654435761u + 88172645463325252u, count = 0;
    struct timespec time;
    double until = now() + seconds;
    bool there = false;

    /* Numbers grow over restarts of the writer, too. */
    clock_gettime(CLOCK_REALTIME, &time);
    uint64_t number = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
    for (; now() < until; count++) {
        uint64_t draw = next_random(&random) % 1000;
        if (draw < 4)
            grow(connection, &random, there = !there, values);
        else if (draw < 300)
            write_pair(connection, &random, &number, values);
        else if (draw < 600)
            write_many(connection, &random, &number, values);
        else
            write_one(connection, &random, &number, values);
    }
    printf("writer: %llu calls\n", (unsigned long long)count);
    free(values);
}

/* --- reading */

/* What a daemon that comes and goes may answer. */
static bool away(Reader *reader, int r)
{
    if (!reader->restarts || (r != -ENOTCONN && r != -ETIMEDOUT && r != -ESTALE))
        return false;
    struct timespec moment = {.tv_nsec = 5000000};
    reader->away++;
    nanosleep(&moment, NULL);
    return true;
}

/* Revisions and numbers of a key never run backwards; but where a daemon was killed, what had not
 * reached the disk is lost. */
static void check_order(Reader *reader, unsigned index, const char *key, uint64_t revision,
                        uint64_t number)
{
    if (!reader->restarts && revision < reader->revisions[index])
        wrong("backwards: %s: revision %llu after %llu", key, (unsigned long long)revision,
              (unsigned long long)reader->revisions[index]);
    if (!reader->restarts && number > 0 && number < reader->numbers[index])
        wrong("backwards: %s: number %llu after %llu", key, (unsigned long long)number,
              (unsigned long long)reader->numbers[index]);
    reader->revisions[index] = revision;
    if (number > 0)
        reader->numbers[index] = number;
}

static void read_one(Reader *reader, uint64_t *random)
{
    char key[32];
    size_t length = 0;
    uint64_t revision = 0;
    unsigned index = (unsigned)(next_random(random) % (KEYS + 2 * PAIRS));

    make_key(index, key);
    int r = holdfast_map_get(reader->map, key, strlen(key), reader->buffer, VALUE_MAX, &length,
                             &revision);
    if (r == -ENOENT || away(reader, r))
        return;
    if (r != 0)
        wrong("get: %s: %d", key, r);
    check_order(reader, index, key, revision, check_value(key, reader->buffer, length));
    reader->reads++;
    reader->bytes += length;
}

static void read_pair(Reader *reader, uint64_t *random)
{
    char keys[2][32];
    uint64_t numbers[2];
    HoldfastMapEntry entries[2];
    unsigned pair = (unsigned)(next_random(random) % PAIRS);

    for (unsigned i = 0; i < 2; i++) {
        make_key(KEYS + 2 * pair + i, keys[i]);
        entries[i] = (HoldfastMapEntry){.key = {keys[i], strlen(keys[i])}};
    }
    int r = holdfast_map_get_many(reader->map, entries, 2, reader->buffer, VALUE_MAX, NULL, NULL);
    if (away(reader, r))
        return;
    if (r != 0)
        wrong("get_many: %d", r);
    if ((entries[0].json == NULL) != (entries[1].json == NULL))
        wrong("two states: %s is there and %s is not", keys[entries[0].json == NULL],
              keys[entries[0].json != NULL]);
    for (unsigned i = 0; i < 2 && entries[0].json != NULL; i++) {
        numbers[i] = check_value(keys[i], entries[i].json, entries[i].json_length);
        check_order(reader, KEYS + 2 * pair + i, keys[i], entries[i].revision, numbers[i]);
    }
    if (entries[0].json != NULL &&
        (numbers[0] != numbers[1] || entries[0].revision != entries[1].revision))
        wrong("two states: %s has %llu, %s has %llu", keys[0], (unsigned long long)numbers[0],
              keys[1], (unsigned long long)numbers[1]);
    reader->many++;
}

static int see(void *context, const HoldfastItem *item)
{
    Reader *reader = context;

    if (strncmp(item->key, "key-", 4) == 0 || strncmp(item->key, "pair-", 5) == 0)
        (void)check_value(item->key, item->json, item->json_length);
    reader->bytes += item->json_length;
    return 0;
}

static void iterate(Reader *reader)
{
    int r = holdfast_map_iterate(reader->map, see, reader, NULL);

    if (away(reader, r))
        return;
    if (r != 0 && r != HOLDFAST_MAP_CHANGED)
        wrong("iterate: %d", r);
    reader->iterations += r == 0;
    reader->changed += r != 0;
}

static HoldfastMap *open_map(HoldfastConnection *connection)
{
    HoldfastMap *map = NULL;

    holdfast_set_timeout(connection, 10000000);
    int r = holdfast_map_open(connection, ARENA, &map);
    if (r != 0)
        wrong("open: %d", r);
    return map;
}

static void run_read(HoldfastConnection *connection, double seconds, bool restarts)
{
    Reader reader = {
        .map = open_map(connection), .restarts = restarts, .buffer = malloc(VALUE_MAX)};
    uint64_t random = (uint64_t)(now() * 1e9) | 1;

    for (double until = now() + seconds; now() < until;)
        for (unsigned i = 0; i < 64; i++) {
            uint64_t draw = next_random(&random) % 2000;
            if (draw == 0)
                iterate(&reader);
            else if (draw < 300)
                read_pair(&reader, &random);
            else
                read_one(&reader, &random);
        }
    printf("reader: %llu values, %llu pairs, %llu iterations and %llu that were cut short, %llu "
           "MiB, %llu times away\n",
           (unsigned long long)reader.reads, (unsigned long long)reader.many,
           (unsigned long long)reader.iterations, (unsigned long long)reader.changed,
           (unsigned long long)(reader.bytes >> 20), (unsigned long long)reader.away);
    holdfast_map_close(reader.map);
    free(reader.buffer);
}

static void run_follow(HoldfastConnection *connection, const char *key)
{
    HoldfastMap *map = open_map(connection);
    char *buffer = malloc(VALUE_MAX), *last = calloc(1, VALUE_MAX + 1);
    struct timespec moment = {.tv_nsec = 5000000};
    uint64_t revision = UINT64_MAX;

    for (;;) {
        size_t length = 0;
        int r = holdfast_map_wait(map, revision, 60000000, &revision);
        if (r == 0)
            r = holdfast_map_get(map, key, strlen(key), buffer, VALUE_MAX, &length, NULL);
        if (r < 0 && r != -ENOENT) {
            nanosleep(&moment, NULL);
            revision = UINT64_MAX; // whatever has happened meanwhile
            continue;
        }
        if (r == 0 && (strlen(last) != length || memcmp(last, buffer, length) != 0)) {
            memcpy(last, buffer, length);
            last[length] = '\0';
            printf("%s\n", last);
            fflush(stdout);
        }
    }
}

int main(int argc, char **argv)
{
    HoldfastConnection *connection = NULL;
    int r;

    if (argc < 4) {
        fprintf(stderr, "usage: torn write|read|follow SOCKET SECONDS|KEY [SEED|restarts]\n");
        return 64;
    }
    r = holdfast_connect(argv[2], &connection);
    if (r < 0)
        wrong("connect: %d", r);
    if (strcmp(argv[1], "write") == 0)
        run_write(connection, strtod(argv[3], NULL), argc > 4 ? strtoull(argv[4], NULL, 10) : 1);
    else if (strcmp(argv[1], "read") == 0)
        run_read(connection, strtod(argv[3], NULL), argc > 4);
    else
        run_follow(connection, argv[3]);
    holdfast_disconnect(connection);
    return 0;
}
