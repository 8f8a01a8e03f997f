/* Reading one entry at a time, at random: holdfast's map, LMDB, Redis over its socket. All with the
 * same keys and values, and the same loop around them; each value is copied out and looked at.
 *
 *     bench-map fill  PEER PLACE ENTRIES           makes the entries
 *     bench-map read  PEER PLACE ENTRIES SECONDS   prints reads a second, and reads a
 *                                                  second of the process's own CPU time
 *     bench-map write PEER PLACE ENTRIES SECONDS   updates as fast as it can, prints
 *                                                  updates a second
 *
 * PEER holdfast: PLACE is the daemon's socket; lmdb: a directory; redis: its socket. LMDB reads
 * each key in a read transaction of its own, renewed rather than begun, which is its fastest way.
 * tests/bench/map.py starts the peers and compares. */
#include <errno.h>
#include <holdfast.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HAVE_LMDB
#include <lmdb.h>
#endif
#ifdef HAVE_HIREDIS
#include <hiredis/hiredis.h>
#endif

#define KEY_BYTES 16
#define VALUE_BYTES 100
#define BATCH 5000 /* entries that are made, or calls that are sent, at a time */
#define CHECK 256  /* reads between two looks at the clock */
#define ARENA "bench"

typedef struct Bench Bench;

typedef struct Peer {
    const char *name;
    void (*open)(Bench *bench);
    void (*fill)(Bench *bench);
    /* The entry's value into value; its length. */
    size_t (*read)(Bench *bench, const char *key, char *value);
    /* Updates BATCH entries at random. */
    void (*write)(Bench *bench);
    void (*close)(Bench *bench);
} Peer;

struct Bench {
    const Peer *peer;
    const char *place;
    uint64_t entries;
    double seconds;
    uint64_t random;
    HoldfastConnection *connection;
    HoldfastMap *map;
#ifdef HAVE_LMDB
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;
#endif
#ifdef HAVE_HIREDIS
    redisContext *redis;
#endif
};

static _Noreturn void fail(const char *what, int r, const char *why)
{
    fprintf(stderr, "bench-map: %s: %d %s\n", what, r, why);
    exit(1);
}

static void must(bool holds, const char *what, int r)
{
    if (!holds)
        fail(what, r, r < 0 ? strerror(-r) : "");
}

/* --- what all share */

static double clock_now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double now(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

static uint64_t random_entry(Bench *bench)
{
    bench->random ^= bench->random << 13;
    bench->random ^= bench->random >> 7;
    bench->random ^= bench->random << 17;
    return bench->random % bench->entries;
}

/* "k" and 15 digits. */
static void make_key(uint64_t number, char *key)
{
    key[0] = 'k';
    for (int i = KEY_BYTES - 1; i > 0; i--) {
        key[i] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* A JSON string that begins with its key. */
static void make_value(const char *key, char *value)
{
    memset(value, 'v', VALUE_BYTES);
    value[0] = value[VALUE_BYTES - 1] = '"';
    memcpy(value + 1, key, KEY_BYTES);
}

/* --- holdfast */

static void holdfast_open(Bench *bench)
{
    int r = holdfast_connect(bench->place, &bench->connection);

    must(r == 0, "connect", r);
    r = holdfast_map_open(bench->connection, ARENA, &bench->map);
    must(r == 0 || r == -ESTALE, "map", r);
}

static void holdfast_close(Bench *bench)
{
    holdfast_map_close(bench->map);
    holdfast_disconnect(bench->connection);
}

static void holdfast_fill(Bench *bench)
{
    static HoldfastOperation operations[BATCH];
    static char keys[BATCH][KEY_BYTES], values[BATCH][VALUE_BYTES];
    int r = holdfast_create_arena(bench->connection, ARENA, NULL, NULL);

    must(r == 0, "create", r);
    for (uint64_t at = 0; at < bench->entries;) {
        size_t count = 0;
        for (; count < BATCH && at < bench->entries; count++, at++) {
            make_key(at, keys[count]);
            make_value(keys[count], values[count]);
            operations[count] = (HoldfastOperation){.type = HOLDFAST_PUT,
                                                    .key = {keys[count], KEY_BYTES},
                                                    .json = {values[count], VALUE_BYTES}};
        }
        r = holdfast_apply(bench->connection, ARENA, operations, count, NULL);
        must(r == 0, "apply", r);
    }
}

static size_t holdfast_read(Bench *bench, const char *key, char *value)
{
    size_t length = 0;
    int r = holdfast_map_get(bench->map, key, KEY_BYTES, value, VALUE_BYTES, &length, NULL);

    must(r == 0, "get", r);
    return length;
}

/* Puts, pipelined. */
static void holdfast_write(Bench *bench)
{
    char key[KEY_BYTES], value[VALUE_BYTES], call[512];
    int r = 0;

    for (unsigned i = 0; i < BATCH && r == 0; i++) {
        make_key(random_entry(bench), key);
        make_value(key, value);
        int n = snprintf(call, sizeof(call),
                         "{\"arena\":\"" ARENA "\",\"key\":\"%.*s\",\"value\":%.*s}", KEY_BYTES,
                         key, VALUE_BYTES, value);
        r = holdfast_send(bench->connection, "Put", call, (size_t)n, 0);
        if (r == 0 && i % 64 == 63)
            while (r == 0 && holdfast_outstanding(bench->connection) > 0)
                r = holdfast_receive(bench->connection, NULL, NULL, NULL);
    }
    while (r == 0 && holdfast_outstanding(bench->connection) > 0)
        r = holdfast_receive(bench->connection, NULL, NULL, NULL);
    must(r == 0, "put", r);
}

/* --- LMDB */

#ifdef HAVE_LMDB
static void lmdb_must(int r, const char *what)
{
    if (r != MDB_SUCCESS)
        fail(what, r, mdb_strerror(r));
}

static void lmdb_open(Bench *bench)
{
    MDB_txn *txn;

    lmdb_must(mdb_env_create(&bench->env), "env");
    lmdb_must(mdb_env_set_mapsize(bench->env, (size_t)bench->entries * 1000 + (64u << 20)), "size");
    lmdb_must(mdb_env_open(bench->env, bench->place, MDB_NOSYNC, 0600), "open");
    lmdb_must(mdb_txn_begin(bench->env, NULL, 0, &txn), "begin");
    lmdb_must(mdb_dbi_open(txn, NULL, MDB_CREATE, &bench->dbi), "dbi");
    lmdb_must(mdb_txn_commit(txn), "commit");
    lmdb_must(mdb_txn_begin(bench->env, NULL, MDB_RDONLY, &bench->txn), "begin");
    mdb_txn_reset(bench->txn);
}

static void lmdb_close(Bench *bench)
{
    mdb_txn_abort(bench->txn);
    mdb_env_close(bench->env);
}

static void lmdb_put(Bench *bench, MDB_txn *txn, uint64_t number)
{
    char key[KEY_BYTES], value[VALUE_BYTES];
    MDB_val k = {KEY_BYTES, key}, v = {VALUE_BYTES, value};

    make_key(number, key);
    make_value(key, value);
    lmdb_must(mdb_put(txn, bench->dbi, &k, &v, 0), "put");
}

static void lmdb_fill(Bench *bench)
{
    MDB_txn *txn;

    lmdb_must(mdb_txn_begin(bench->env, NULL, 0, &txn), "begin");
    for (uint64_t at = 0; at < bench->entries; at++)
        lmdb_put(bench, txn, at);
    lmdb_must(mdb_txn_commit(txn), "commit");
}

static size_t lmdb_read(Bench *bench, const char *key, char *value)
{
    MDB_val k = {KEY_BYTES, (void *)(uintptr_t)key}, v;

    lmdb_must(mdb_txn_renew(bench->txn), "renew");
    lmdb_must(mdb_get(bench->txn, bench->dbi, &k, &v), "get");
    memcpy(value, v.mv_data, v.mv_size);
    mdb_txn_reset(bench->txn);
    return v.mv_size;
}

static void lmdb_write(Bench *bench)
{
    MDB_txn *txn;

    for (unsigned i = 0; i < BATCH; i++) {
        lmdb_must(mdb_txn_begin(bench->env, NULL, 0, &txn), "begin");
        lmdb_put(bench, txn, random_entry(bench));
        lmdb_must(mdb_txn_commit(txn), "commit");
    }
}
#endif

/* --- Redis */

#ifdef HAVE_HIREDIS
static void redis_open(Bench *bench)
{
    bench->redis = redisConnectUnix(bench->place);
    if (bench->redis == NULL || bench->redis->err != 0)
        fail("redis", 0, bench->redis != NULL ? bench->redis->errstr : "");
}

static void redis_close(Bench *bench)
{
    redisFree(bench->redis);
}

static void redis_append(Bench *bench, uint64_t number)
{
    char key[KEY_BYTES], value[VALUE_BYTES];

    make_key(number, key);
    make_value(key, value);
    redisAppendCommand(bench->redis, "SET %b %b", key, (size_t)KEY_BYTES, value,
                       (size_t)VALUE_BYTES);
}

static void redis_take(Bench *bench, unsigned count)
{
    while (count-- > 0) {
        redisReply *reply = NULL;
        if (redisGetReply(bench->redis, (void **)&reply) != REDIS_OK ||
            reply->type == REDIS_REPLY_ERROR)
            fail("redis", 0, bench->redis->errstr);
        freeReplyObject(reply);
    }
}

static void redis_fill(Bench *bench)
{
    for (uint64_t at = 0; at < bench->entries;) {
        unsigned count = 0;
        for (; count < BATCH && at < bench->entries; count++, at++)
            redis_append(bench, at);
        redis_take(bench, count);
    }
}

static size_t redis_read(Bench *bench, const char *key, char *value)
{
    redisReply *reply = redisCommand(bench->redis, "GET %b", key, (size_t)KEY_BYTES);

    if (reply == NULL || reply->type != REDIS_REPLY_STRING || reply->len > VALUE_BYTES)
        fail("get", 0, bench->redis->errstr);
    size_t length = reply->len;
    memcpy(value, reply->str, length);
    freeReplyObject(reply);
    return length;
}

static void redis_write(Bench *bench)
{
    for (unsigned i = 0; i < BATCH; i++) {
        redis_append(bench, random_entry(bench));
        if (i % 64 == 63)
            redis_take(bench, 64);
    }
    redis_take(bench, BATCH % 64);
}
#endif

static const Peer peers[] = {
    {"holdfast", holdfast_open, holdfast_fill, holdfast_read, holdfast_write, holdfast_close},
#ifdef HAVE_LMDB
    {"lmdb", lmdb_open, lmdb_fill, lmdb_read, lmdb_write, lmdb_close},
#endif
#ifdef HAVE_HIREDIS
    {"redis", redis_open, redis_fill, redis_read, redis_write, redis_close},
#endif
};

/* --- what is measured */

static void read_one(Bench *bench, uint64_t number)
{
    char key[KEY_BYTES], value[VALUE_BYTES];

    make_key(number, key);
    if (bench->peer->read(bench, key, value) != VALUE_BYTES || memcmp(value + 1, key, KEY_BYTES))
        fail("another value", 0, "");
}

/* Once over all that there is first, so that pages are mapped: page tables are nobody's merit. (Of
 * a peer that is slow, over what goes in ten times as long.) */
static void run_read(Bench *bench)
{
    uint64_t count = 0;
    double begin, cpu, time, until = now() + 10 * bench->seconds;

    for (uint64_t at = 0; at < bench->entries && (at % CHECK != 0 || now() < until); at++)
        read_one(bench, at);
    cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID);
    begin = now();
    do {
        for (unsigned i = 0; i < CHECK; i++)
            read_one(bench, random_entry(bench));
        count += CHECK;
        time = now() - begin;
    } while (time < bench->seconds);
    cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%.0f %.0f\n", (double)count / time, (double)count / cpu);
}

static void run_write(Bench *bench)
{
    uint64_t count = 0;
    double begin = now(), time;

    do {
        bench->peer->write(bench);
        count += BATCH;
        time = now() - begin;
    } while (time < bench->seconds);
    printf("%.0f\n", (double)count / time);
}

static void run_fill(Bench *bench)
{
    bench->peer->fill(bench);
}

static const struct {
    const char *name;
    void (*run)(Bench *bench);
    int arguments;
} verbs[] = {{"fill", run_fill, 5}, {"read", run_read, 6}, {"write", run_write, 6}};

int main(int argc, char **argv)
{
    Bench bench = {.random =
                       (uint64_t)time(NULL) * 2654435761u ^ (uint64_t)clock() ^ 88172645463325252u};

    for (size_t i = 0; argc > 2 && i < sizeof(peers) / sizeof(peers[0]); i++)
        if (strcmp(peers[i].name, argv[2]) == 0)
            bench.peer = &peers[i];
    for (size_t i = 0; bench.peer != NULL && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, argv[1]) != 0 || argc != verbs[i].arguments)
            continue;
        bench.place = argv[3];
        bench.entries = strtoull(argv[4], NULL, 10);
        bench.seconds = argc > 5 ? strtod(argv[5], NULL) : 0;
        must(bench.entries > 0, "no entries", 0);
        bench.peer->open(&bench);
        verbs[i].run(&bench);
        bench.peer->close(&bench);
        return 0;
    }
    fprintf(stderr, "usage: bench-map fill|read|write PEER PLACE ENTRIES [SECONDS]; peers:");
    for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
        fprintf(stderr, " %s", peers[i].name);
    fprintf(stderr, "\n");
    return 64;
}
