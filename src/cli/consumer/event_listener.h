/*
 * Hears the notifications on humcli_events, and knows whether it does: a
 * pooler in transaction mode takes a LISTEN and stays silent. So a probe is
 * sent through another connection, and must come back.
 */
#ifndef EVENT_LISTENER_H
#define EVENT_LISTENER_H

#include "cli/session.h"

struct ear;

/* As session_new() has it. */
struct ear *ear_new(const char *conninfo, int stop) MUST_CHECK;
void ear_free(struct ear *e);

enum hearing {
	EAR_OFF, /* no connection, or it is deaf: poll */
	EAR_PROBING,
	EAR_HEARING
};

/*
 * Does what is due: connects, LISTENs, probes through work, asks whether it
 * still listens. Whoever looks at the tables looks after this, never before.
 */
enum hearing ear_tend(struct ear *e, struct session *work) MUST_CHECK;
/* When the next thing is due, by clock_ms(). */
int64_t ear_due(const struct ear *e) MUST_CHECK;
/* For poll(); -1: there is none. */
int ear_socket(const struct ear *e) MUST_CHECK;
/*
 * Takes in what has come. True: look now, there was a notification, or the
 * ear has only begun to hear.
 */
bool ear_woken(struct ear *e) MUST_CHECK;
/* Its connection, for locks that end with it; only while it hears. */
struct session *ear_session(struct ear *e) MUST_CHECK;

#endif
