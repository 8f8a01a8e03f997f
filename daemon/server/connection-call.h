/* The calls of a connection: what connection.c needs of connection-call.c, and the other way round.
 */
#pragma once

#include "server/connection.h"

/* --- connection.c */

/* The next flush looks at it. */
void connection_queue(Connection *connection);
/* The next flush frees it: not at once, since somebody may be at work on it. */
void connection_break(Connection *connection);
/* It goes on in the next turn. */
void connection_make_ready(Connection *connection);

/* --- connection-call.c */

/* Changes the state; only moves that the table there has. */
void connection_move(Connection *connection, ConnectionState state);
/* Runs complete calls until none is left, one stays under way, the output is full or its share of
 * the turn is used up. */
void connection_run(Connection *connection);
/* Calls the call in front again: parked, or a stream. */
void connection_run_front(Connection *connection);
/* Nothing is read or called any more: what is queued is sent, then it ends. */
void connection_close(Connection *connection);
/* The same, with an error as the last reply: the limit, or LIMIT_NONE and a reason. */
void connection_bad(Connection *connection, const char *reason, Limit limit);
/* Ends a call that is under way, without a reply. */
void connection_drop_call(Connection *connection);
/* Little enough is unsent for calls to go on. */
bool connection_drained(const Connection *connection);
/* An OutputReplace. context: the connection. */
void connection_replace_reply(void *context, Buffer *out, uint64_t revision);
