/*
 * Owns the attempts to connect: one for each address of each host, in the
 * order of libpq. addresses.c has the order, attempt.c the steps of one. Knows
 * nothing of what is asked on a connection later.
 *
 * connect_round() starts the attempts and polls all of them. The next attempt
 * starts when the one before it failed, or is 1 s old. Attempts that a round
 * leaves under way are taken over by the next round, so that a distant server
 * is reached even if a round is shorter than its round trips.
 *
 * A connector belongs to one thread. No function of libpq that is called here
 * waits, except that name look-ups do.
 */
#include "postgres/connector.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "postgres/addresses.h"
#include "postgres/attempt.h"
#include "postgres/conninfo.h"
#include "postgres/query.h"

/* An address that takes longer no longer holds up the next one. */
enum { HEAD_START_MS = 1000 };

struct connector {
	char *conninfo;
	struct attempt *attempts; /* of the last round */
	size_t count;
	struct buf failure; /* of the last round */
	struct log_limit log_limit;
	bool failing; /* a failure was logged */
};

/* What one call of connect_round() works with. */
struct round {
	struct connector *connector;
	struct conninfo info;
	enum connect_server server;
	bool patient; /* false: end when each address has had its head start */
	int64_t deadline;
	int stop;

	struct addresses addresses;
	struct attempt *attempts;
	size_t count;
	int64_t next_start; /* of the next attempt, unless the last one fails */
	int64_t end; /* of a round that is not patient */
};

struct connector *connector_new(const char *conninfo)
{
	struct connector *c = xcalloc(1, sizeof(*c));

	c->conninfo = xstrdup(conninfo);
	buf_add(&c->failure, "", 0);
	return c;
}

static void attempts_free(struct attempt *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		attempt_free(&list[i]);
	free(list);
}

void connector_free(struct connector *c)
{
	if (!c)
		return;
	attempts_free(c->attempts, c->count);
	explicit_bzero(c->conninfo, strlen(c->conninfo));
	free(c->conninfo);
	buf_free(&c->failure);
	free(c);
}

const char *connector_failure(const struct connector *c)
{
	return c->failure.data;
}

/* Attempts. */

/* Moves an attempt of the last round to *a, if it is to go on. */
static bool take_over(struct round *r, struct attempt *a)
{
	struct connector *c = r->connector;

	for (size_t i = 0; i < c->count; i++) {
		struct attempt *old = &c->attempts[i];

		if (!old->conn || !address_equal(&old->address, &a->address) ||
		    monotonic_ms() - old->started_at >= r->info.connect_timeout)
			continue;
		address_free(&a->address);
		*a = *old;
		*old = (struct attempt){ 0 };
		return true;
	}
	return false;
}

static void start_attempt(struct round *r)
{
	struct attempt a = { 0 };

	if (!addresses_next(&r->addresses, &a.address, &r->connector->failure))
		return;
	if (!take_over(r, &a))
		attempt_start(&a, &r->info, r->connector->conninfo,
			      &r->connector->failure);
	r->attempts = array_grow(r->attempts, r->count, sizeof(a));
	r->attempts[r->count++] = a;
	/* One that was taken over has had its head start. */
	r->next_start = a.conn ? a.started_at + HEAD_START_MS : INT64_MIN;
	r->end = monotonic_ms() + HEAD_START_MS;
}

/* Rounds. */

static void end_overdue(struct round *r, int64_t now)
{
	for (size_t i = 0; i < r->count; i++) {
		struct attempt *a = &r->attempts[i];

		if (!a->conn || now - a->started_at < r->info.connect_timeout)
			continue;
		attempt_fail(a, "no answer in time", &r->connector->failure);
		r->next_start = INT64_MIN;
	}
}

static size_t under_way(const struct round *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->count; i++)
		n += r->attempts[i].conn != NULL;
	return n;
}

/* Returns until when to wait for an attempt that is under way. */
static int64_t wait_until(const struct round *r)
{
	int64_t until = r->deadline;

	if (addresses_left(&r->addresses))
		until = min_i64(until, r->next_start);
	if (!r->patient)
		until = min_i64(until, r->end);
	for (size_t i = 0; i < r->count; i++) {
		if (r->attempts[i].conn)
			until = min_i64(until, r->attempts[i].started_at +
						       r->info.connect_timeout);
	}
	return until;
}

/* Goes on with an attempt whose socket is ready. True: it has succeeded. */
static bool advance(struct round *r, struct attempt *a)
{
	bool done = attempt_advance(a, r->server, &r->connector->failure);

	if (!a->conn)
		r->next_start = INT64_MIN;
	return done;
}

/* Polls all attempts once. Returns the one that succeeded, or NULL. */
static struct attempt *poll_attempts(struct round *r)
{
	struct pollfd *fds = xcalloc(r->count + 1, sizeof(*fds));
	struct attempt *done = NULL;
	int64_t left = wait_until(r) - monotonic_ms();
	int n;

	for (size_t i = 0; i < r->count; i++) {
		const struct attempt *a = &r->attempts[i];

		fds[i].fd = a->conn ? PQsocket(a->conn) : -1;
		fds[i].events = attempt_events(a);
	}
	fds[r->count] = (struct pollfd){ .fd = r->stop, .events = POLLIN };
	n = poll(fds, r->count + 1, (int)max_i64(0, min_i64(left, INT_MAX)));
	for (size_t i = 0; n > 0 && i < r->count && !done; i++) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): counted */
		if (r->attempts[i].conn && fds[i].revents &&
		    advance(r, &r->attempts[i]))
			done = &r->attempts[i];
	}
	free(fds);
	return done;
}

/* Makes attempts until one succeeds. NULL: the round is over. */
static struct attempt *run_attempts(struct round *r)
{
	struct attempt *done = NULL;

	while (!done) {
		int64_t now = monotonic_ms();

		if (now >= r->deadline || pq_stop_requested(r->stop))
			return NULL;
		end_overdue(r, now);
		if (now >= r->next_start && addresses_left(&r->addresses)) {
			start_attempt(r);
			continue;
		}
		if (!under_way(r) || (!r->patient && now >= r->end))
			return NULL;
		done = poll_attempts(r);
	}
	return done;
}

/* Hands the attempts that are under way to the next round. */
static void keep_attempts(struct round *r)
{
	struct connector *c = r->connector;

	for (size_t i = 0; i < r->count; i++) {
		if (r->attempts[i].conn)
			attempt_add_failure(&r->attempts[i], "no answer yet",
					    &c->failure);
	}
	attempts_free(c->attempts, c->count);
	c->attempts = r->attempts;
	c->count = r->count;
	r->attempts = NULL;
	r->count = 0;
}

static PGconn *connect_round(struct round *r)
{
	struct connector *c = r->connector;
	char fault[CONNINFO_FAULT_SIZE];
	struct attempt *done;
	PGconn *conn = NULL;

	c->failure.length = 0;
	if (!conninfo_read(c->conninfo, &r->info, fault)) {
		buf_printf(&c->failure, "HUMCLI_WEBHOOK_DATABASE: %s", fault);
		return NULL;
	}
	r->addresses.info = &r->info;
	r->next_start = INT64_MIN;
	done = run_attempts(r);
	if (done) {
		conn = done->conn;
		done->conn = NULL;
		attempts_free(c->attempts, c->count);
		c->attempts = NULL;
		c->count = 0;
	} else {
		keep_attempts(r);
	}
	attempts_free(r->attempts, r->count);
	addresses_end(&r->addresses);
	conninfo_free(&r->info);
	return conn;
}

/* Logs how a round ended. */
static void log_round(struct connector *c, const PGconn *conn)
{
	if (!conn) {
		log_limited(&c->log_limit, LEVEL_ERROR,
			    "can't connect to the database: %s",
			    connector_failure(c));
		c->failing = true;
	} else if (c->failing) {
		log_limit_reset(&c->log_limit);
		c->failing = false;
		log_message(LEVEL_INFO, "connected to the database again");
	}
}

PGconn *connector_open(struct connector *c, enum connect_server to,
		       int64_t deadline, int stop)
{
	struct round r = { .connector = c,
			   .server = to,
			   .patient = true,
			   .deadline = deadline,
			   .stop = stop };
	PGconn *conn = connect_round(&r);

	/* A stop is no failure. */
	if (conn || !pq_stop_requested(stop))
		log_round(c, conn);
	return conn;
}

PGconn *connector_try(struct connector *c, enum connect_server to,
		      int64_t deadline)
{
	struct round r = {
		.connector = c, .server = to, .deadline = deadline, .stop = -1
	};
	PGconn *conn = connect_round(&r);

	log_round(c, conn);
	return conn;
}

PGconn *connector_open_quietly(struct connector *c, enum connect_server to,
			       int64_t deadline)
{
	struct round r = { .connector = c,
			   .server = to,
			   .patient = true,
			   .deadline = deadline,
			   .stop = -1 };

	return connect_round(&r);
}
