/*
 * The notification listener: a connection of its own that LISTENs on
 * humcli_events. Sends a probe by another connection, because a pooler in
 * transaction mode accepts LISTEN and delivers nothing; only when the probe
 * has come back is the listener active.
 */
#ifndef EVENT_LISTENER_H
#define EVENT_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cli/session.h"

struct event_listener;

/* Returns a listener that is off. Its arguments are those of session_new(). */
struct event_listener *event_listener_new(const char *conninfo,
					  int stop) MUST_CHECK;
void event_listener_free(struct event_listener *e);

enum listener_state {
	LISTENER_OFF, /* no connection, or the probe did not arrive: poll */
	LISTENER_PROBING, /* the probe is under way */
	LISTENER_ACTIVE
};

/*
 * Makes the steps that are due: connects, LISTENs, sends the probe by work,
 * checks that the connection still listens. Call this before reading the
 * tables, so that no event falls between LISTEN and the read.
 */
enum listener_state event_listener_maintain(struct event_listener *e,
					    struct session *work) MUST_CHECK;
/* Returns when event_listener_maintain() is due, monotonic_ms(). */
int64_t event_listener_next_due(const struct event_listener *e) MUST_CHECK;
/* Returns the socket for poll(); -1 without a connection. */
int event_listener_socket(const struct event_listener *e) MUST_CHECK;
/*
 * Reads what has arrived. Returns true if events may be there: after a
 * notification, and when the listener has just become active.
 */
bool event_listener_receive(struct event_listener *e) MUST_CHECK;
/* Returns the connection, for locks that end with it; only while active. */
struct session *event_listener_session(struct event_listener *e) MUST_CHECK;

#endif
