/*
 * The states of the notification listener: off → probing → active, and back
 * to off on every fault. event_listener_maintain() makes the timed steps,
 * event_listener_receive() those that a notification causes. Runs in the
 * consumer's thread; each query waits for its answer, QUERY_TIMEOUT_MS at most.
 */
#include "cli/consumer/event_listener.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	QUERY_TIMEOUT_MS = 5000,
	PROBE_MS = 3000,
	HEARTBEAT_MS = 10000,
	RETRY_MS = 300000 /* after a probe that did not arrive */
};

/* A channel of its own: a probe must not wake other listeners. */
#define PROBE_CHANNEL "humcli_probe"

struct event_listener {
	struct session *session;
	enum listener_state state;
	char *probe; /* the payload that must arrive */
	int64_t due;
	bool unreachable_logged;
};

struct event_listener *event_listener_new(const char *conninfo, int stop)
{
	struct event_listener *e = xcalloc(1, sizeof(*e));

	e->session = session_new(conninfo, true, stop);
	return e;
}

void event_listener_free(struct event_listener *e)
{
	if (!e)
		return;
	session_free(e->session);
	free(e->probe);
	free(e);
}

int64_t event_listener_next_due(const struct event_listener *e)
{
	return e->due;
}

int event_listener_socket(const struct event_listener *e)
{
	return session_socket(e->session);
}

struct session *event_listener_session(struct event_listener *e)
{
	return e->session;
}

/* Closes the connection; the next attempt is when the session allows one. */
static void set_off(struct event_listener *e)
{
	session_close(e->session);
	e->state = LISTENER_OFF;
	e->due = session_retry_at(e->session);
}

static void connection_lost(struct event_listener *e, const char *why)
{
	log_message(LEVEL_WARNING,
		    "connection of the notification listener lost: %s", why);
	set_off(e);
}

static void set_unreachable(struct event_listener *e)
{
	/* Behind a pooler the server's connection would go on listening. */
	if (session_query(e->session, "UNLISTEN *", NULL, 0, QUERY_TIMEOUT_MS,
			  NULL) != QUERY_OK)
		log_message(LEVEL_DEBUG, "can't UNLISTEN: %s",
			    session_message(e->session));
	if (!e->unreachable_logged)
		log_message(LEVEL_WARNING,
			    "notifications do not arrive (is a pooler in "
			    "transaction mode in between?); polling instead");
	e->unreachable_logged = true;
	set_off(e);
	e->due = monotonic_ms() + RETRY_MS;
}

/*
 * Sends the probe. lock_timeout bounds the wait for another transaction that
 * is committing a NOTIFY, as in humcli.notify().
 */
static bool send_probe(struct event_listener *e, struct session *work)
{
	const char *values[] = { PROBE_CHANNEL, e->probe };

	return session_query(work,
			     "SELECT pg_catalog.set_config('lock_timeout', "
			     "'250ms', true), pg_catalog.pg_notify($1, $2)",
			     values, 2, QUERY_TIMEOUT_MS, NULL) == QUERY_OK;
}

static void start_listening(struct event_listener *e, struct session *work)
{
	if (!session_open_lasting(e->session)) {
		set_off(e);
		return;
	}
	if (session_query(e->session, "LISTEN humcli_events", NULL, 0,
			  QUERY_TIMEOUT_MS, NULL) != QUERY_OK ||
	    session_query(e->session, "LISTEN " PROBE_CHANNEL, NULL, 0,
			  QUERY_TIMEOUT_MS, NULL) != QUERY_OK) {
		log_message(LEVEL_ERROR, "can't LISTEN: %s",
			    session_message(e->session));
		set_off(e);
		return;
	}
	free(e->probe);
	e->probe = xasprintf("%ld-%lld", (long)getpid(),
			     (long long)wall_clock_us());
	if (!send_probe(e, work)) {
		log_message(LEVEL_WARNING, "can't send a probe: %s",
			    session_message(work));
		set_off(e);
		return;
	}
	e->state = LISTENER_PROBING;
	e->due = monotonic_ms() + PROBE_MS;
}

/* Asks whether the connection still listens: the heartbeat. */
static void check_alive(struct event_listener *e)
{
	struct rows *rows = NULL;
	enum query_status status =
		session_query(e->session,
			      "SELECT 1 FROM "
			      "pg_catalog.pg_listening_channels() c "
			      "WHERE c = 'humcli_events'",
			      NULL, 0, QUERY_TIMEOUT_MS, &rows);

	if (status != QUERY_OK)
		connection_lost(e, session_message(e->session));
	else if (rows_count(rows) != 1)
		connection_lost(e, "it no longer listens");
	else
		e->due = monotonic_ms() + HEARTBEAT_MS;
	rows_free(rows);
}

enum listener_state event_listener_maintain(struct event_listener *e,
					    struct session *work)
{
	if (monotonic_ms() < e->due)
		return e->state;
	switch (e->state) {
	case LISTENER_OFF:
		start_listening(e, work);
		break;
	case LISTENER_PROBING:
		set_unreachable(e);
		break;
	case LISTENER_ACTIVE:
		check_alive(e);
		break;
	}
	return e->state;
}

static void set_active(struct event_listener *e)
{
	log_message(LEVEL_INFO, "listening on humcli_events");
	e->state = LISTENER_ACTIVE;
	e->unreachable_logged = false;
	e->due = monotonic_ms() + HEARTBEAT_MS;
	session_reset_backoff(e->session);
}

bool event_listener_receive(struct event_listener *e)
{
	struct notification n;
	bool woken = false;

	if (e->state != LISTENER_OFF && !session_receive(e->session))
		connection_lost(e, "closed by the server");
	while (session_notification(e->session, &n)) {
		if (strcmp(n.channel, PROBE_CHANNEL) != 0) {
			woken = true;
		} else if (e->state == LISTENER_PROBING &&
			   strcmp(n.payload, e->probe) == 0) {
			set_active(e);
			woken = true;
		}
		notification_free(&n);
	}
	return woken;
}
