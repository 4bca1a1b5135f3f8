#include "cli/consumer/event_listener.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ASK_MS = 5000,
	PROBE_MS = 3000,
	HEARTBEAT_MS = 10000,
	DEAF_MS = 300000 /* until it is tried anew */
};

/* Of its own, so that a probe wakes nobody who listens for events. */
#define PROBE_CHANNEL "humcli_probe"

struct ear {
	struct session *session;
	enum hearing state;
	char *probe; /* what must come back */
	int64_t due;
	bool deaf; /* and it was said */
};

struct ear *ear_new(const char *conninfo, int stop)
{
	struct ear *e = xcalloc(1, sizeof(*e));

	e->session = session_new(conninfo, true, stop);
	return e;
}

void ear_free(struct ear *e)
{
	if (!e)
		return;
	session_free(e->session);
	free(e->probe);
	free(e);
}

int64_t ear_due(const struct ear *e)
{
	return e->due;
}

int ear_socket(const struct ear *e)
{
	return session_socket(e->session);
}

struct session *ear_session(struct ear *e)
{
	return e->session;
}

/* No connection: the next attempt when the session allows it. */
static void turn_off(struct ear *e)
{
	session_close(e->session);
	e->state = EAR_OFF;
	e->due = session_due(e->session);
}

static void lose(struct ear *e, const char *why)
{
	log_message(LEVEL_WARNING, "the connection that listens is lost: %s",
		    why);
	turn_off(e);
}

static void turn_deaf(struct ear *e)
{
	/* Behind a pooler it may listen on, to wake nobody. */
	if (session_ask(e->session, "UNLISTEN *", NULL, 0, ASK_MS, NULL) !=
	    ANSWER_OK)
		log_message(LEVEL_DEBUG, "can't UNLISTEN: %s",
			    session_message(e->session));
	if (!e->deaf)
		log_message(LEVEL_WARNING,
			    "LISTEN is deaf: a notification sent through "
			    "another connection did not come; is there a "
			    "pooler in transaction mode? Polling instead");
	e->deaf = true;
	turn_off(e);
	e->due = clock_ms() + DEAF_MS;
}

/*
 * Like humcli.notify(), not for longer than a moment behind another's stuck
 * notifying commit.
 */
static bool send_probe(struct ear *e, struct session *work)
{
	const char *values[] = { PROBE_CHANNEL, e->probe };

	return session_ask(work,
			   "SELECT pg_catalog.set_config('lock_timeout', "
			   "'250ms', true), pg_catalog.pg_notify($1, $2)",
			   values, 2, ASK_MS, NULL) == ANSWER_OK;
}

static void start_listening(struct ear *e, struct session *work)
{
	if (!session_open(e->session)) {
		turn_off(e);
		return;
	}
	if (session_ask(e->session, "LISTEN humcli_events", NULL, 0, ASK_MS,
			NULL) != ANSWER_OK ||
	    session_ask(e->session, "LISTEN " PROBE_CHANNEL, NULL, 0, ASK_MS,
			NULL) != ANSWER_OK) {
		log_message(LEVEL_ERROR, "can't LISTEN: %s",
			    session_message(e->session));
		turn_off(e);
		return;
	}
	free(e->probe);
	e->probe = xasprintf("%ld-%lld", (long)getpid(), (long long)now_us());
	if (!send_probe(e, work)) {
		log_message(LEVEL_WARNING, "can't probe: %s",
			    session_message(work));
		turn_off(e);
		return;
	}
	e->state = EAR_PROBING;
	e->due = clock_ms() + PROBE_MS;
}

static void beat(struct ear *e)
{
	struct rows *rows = NULL;
	enum answer a = session_ask(e->session,
				    "SELECT 1 FROM "
				    "pg_catalog.pg_listening_channels() c "
				    "WHERE c = 'humcli_events'",
				    NULL, 0, ASK_MS, &rows);

	if (a != ANSWER_OK)
		lose(e, session_message(e->session));
	else if (rows_count(rows) != 1)
		lose(e, "it does not listen any more");
	else
		e->due = clock_ms() + HEARTBEAT_MS;
	rows_free(rows);
}

enum hearing ear_tend(struct ear *e, struct session *work)
{
	if (clock_ms() < e->due)
		return e->state;
	switch (e->state) {
	case EAR_OFF:
		start_listening(e, work);
		break;
	case EAR_PROBING:
		turn_deaf(e);
		break;
	case EAR_HEARING:
		beat(e);
		break;
	}
	return e->state;
}

static void begin_to_hear(struct ear *e)
{
	log_message(LEVEL_INFO, "listening on humcli_events");
	e->state = EAR_HEARING;
	e->deaf = false;
	e->due = clock_ms() + HEARTBEAT_MS;
	session_proven(e->session);
}

bool ear_woken(struct ear *e)
{
	struct notification n;
	bool woken = false;

	if (e->state != EAR_OFF && !session_receive(e->session))
		lose(e, "it was closed");
	while (session_notification(e->session, &n)) {
		if (strcmp(n.channel, PROBE_CHANNEL) != 0) {
			woken = true;
		} else if (e->state == EAR_PROBING &&
			   strcmp(n.payload, e->probe) == 0) {
			begin_to_hear(e);
			woken = true;
		}
		notification_free(&n);
	}
	return woken;
}
