/*
 * Hears the notifications on humcli_events, and knows whether it does: a
 * pooler in transaction mode takes a LISTEN and stays silent. So a probe is
 * sent through another connection, and must come back.
 */
#ifndef EVENT_LISTENER_H
#define EVENT_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cli/session.h"

struct event_listener;

/* As session_new() has it. */
struct event_listener *event_listener_new(const char *conninfo,
					  int stop) MUST_CHECK;
void event_listener_free(struct event_listener *e);

enum listener_state {
	LISTENER_OFF, /* no connection, or it is deaf: poll */
	LISTENER_PROBING,
	LISTENER_ACTIVE
};

/*
 * Does what is due: connects, LISTENs, probes through work, asks whether it
 * still listens. Whoever looks at the tables looks after this, never before.
 */
enum listener_state event_listener_maintain(struct event_listener *e,
					    struct session *work) MUST_CHECK;
/* When the next thing is due, by monotonic_ms(). */
int64_t event_listener_next_due(const struct event_listener *e) MUST_CHECK;
/* For poll(); -1: there is none. */
int event_listener_socket(const struct event_listener *e) MUST_CHECK;
/*
 * Takes in what has come. True: look now, there was a notification, or the
 * ear has only begun to hear.
 */
bool event_listener_receive(struct event_listener *e) MUST_CHECK;
/* Its connection, for locks that end with it; only while it hears. */
struct session *event_listener_session(struct event_listener *e) MUST_CHECK;

#endif
