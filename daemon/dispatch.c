/* Between the server and the methods: neither knows the other. The server hands over a connection
 * and a call; the methods see an opaque caller with the operations below. */

#include "base/log.h"
#include "manager-private.h"

static bool caller_administrator(const void *caller)
{
    return peer_is_administrator(connection_peer(caller));
}

static bool caller_may(const void *caller, uint32_t uid, uint32_t gid, uint32_t mode,
                       unsigned rights)
{
    return peer_may(connection_peer(caller), uid, gid, mode, rights);
}

static bool caller_in_group(const void *caller, uint32_t gid)
{
    return peer_in_group(connection_peer(caller), gid);
}

static void caller_credentials(const void *caller, uint32_t *ret_uid, uint32_t *ret_gid)
{
    const Peer *peer = connection_peer(caller);

    *ret_uid = peer->uid;
    *ret_gid = peer->gid;
}

static Buffer *caller_output(void *caller)
{
    return connection_output(caller);
}

static Buffer *caller_scratch(void *caller)
{
    return connection_scratch(caller);
}

static char caller_terminator(const void *caller)
{
    return connection_terminator(caller);
}

static void caller_hold(void *caller, uint64_t revision)
{
    connection_hold(caller, revision);
}

static int caller_attach(void *caller, int fd)
{
    return connection_attach(caller, fd);
}

static void caller_finish(void *caller)
{
    connection_finish(caller);
}

static void caller_wrote(void *caller)
{
    connection_wrote(caller);
}

static bool caller_has_room(const void *caller)
{
    return connection_has_room(caller);
}

static void caller_set_state(void *caller, void *state, void (*release)(void *state))
{
    connection_set_state(caller, state, release);
}

static void *caller_state(const void *caller)
{
    return connection_state(caller);
}

const CallerOperations dispatch_caller = {
    .administrator = caller_administrator,
    .may = caller_may,
    .in_group = caller_in_group,
    .credentials = caller_credentials,
    .output = caller_output,
    .scratch = caller_scratch,
    .terminator = caller_terminator,
    .hold = caller_hold,
    .attach = caller_attach,
    .finish = caller_finish,
    .wrote = caller_wrote,
    .has_room = caller_has_room,
    .set_state = caller_set_state,
    .state = caller_state,
};

static const CallResult results[] = {
    [METHOD_DONE] = CALL_DONE,
    [METHOD_AGAIN] = CALL_AGAIN,
    [METHOD_PARKED] = CALL_PARKED,
    [METHOD_WAITING] = CALL_WAITING,
};

static CallResult handle_call(void *context, Connection *connection, const Call *call)
{
    Manager *manager = context;

    if (!manager->turn_started) {
        store_turn(manager->store);
        manager->turn_started = true;
    }
    MethodResult result = methods_call(manager->methods, connection, call);
    connection_set_kind(connection, methods_kind(manager->methods));
    return results[result];
}

static void handle_bad(void *context, Buffer *out, char terminator, const char *reason,
                       const char *limit, uint64_t maximum)
{
    (void)context;
    if (limit)
        methods_limit_exceeded(out, terminator, limit, maximum);
    else
        methods_bad_message(out, terminator, reason);
}

static void handle_not_durable(void *context, Buffer *out, char terminator, uint64_t revision)
{
    const Manager *manager = context;
    /* In the words of the status. */
    const char *reason = store_reason(manager->store);

    methods_not_durable(out, terminator, revision,
                        reason ? reason : log_errno(journal_error(manager->journal)));
}

ServerHandler dispatch_handler(Manager *manager)
{
    return (ServerHandler){
        .context = manager,
        .call = handle_call,
        .bad = handle_bad,
        .not_durable = handle_not_durable,
    };
}
