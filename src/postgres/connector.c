/*
 * Owns the attempts to connect: one for each address of each host, in the
 * order of libpq. Knows nothing of what is asked on a connection later.
 *
 * connect_round() starts the attempts and polls all of them. The next attempt
 * starts when the one before it failed, or is 1 s old. Each attempt goes
 * through PQconnectPoll(), and then asks the server whether it accepts writes,
 * because a pooler greets with what another server said once. Attempts that a
 * round leaves under way are taken over by the next round, so that a distant
 * server is reached even if a round is shorter than its round trips.
 *
 * A connector belongs to one thread. No function of libpq that is called here
 * waits, except that name look-ups do.
 */
#include "postgres/connector.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "postgres/conninfo.h"
#include "postgres/limits.h"
#include "postgres/query.h"

/* An address that takes longer no longer holds up the next one. */
enum { HEAD_START_MS = 1000 };

/* One server: NULL stands for libpq's default. */
struct address {
	char *host;
	char *hostaddr;
	char *port;
};

struct attempt {
	struct address address;
	PGconn *conn; /* NULL: failed */
	PostgresPollingStatusType polling; /* of PQconnectPoll() */
	bool asking; /* connected; the answer on writes is due */
	bool answered;
	bool standby;
	bool read_only;
	int64_t started_at; /* ms, monotonic */
};

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

	size_t next_host; /* not looked up yet */
	struct addrinfo *looked_up; /* of the host before it */
	const struct addrinfo *next_address; /* NULL: none is left */
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

static void address_free(struct address *a)
{
	free(a->host);
	free(a->hostaddr);
	free(a->port);
}

static void attempts_free(struct attempt *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		PQfinish(list[i].conn);
		address_free(&list[i].address);
	}
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

/*
 * Logs a notice of the server. Those of our own SQL functions tell of a fault
 * that they repaired.
 */
static void log_notice(void *context, const PGresult *notice)
{
	const char *message =
		PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(notice, PG_DIAG_MESSAGE_HINT);
	bool ours = message && strncmp(message, "humcli: ", 8) == 0;
	char text[512], *whole;

	(void)context;
	if (!message)
		return;
	whole = xasprintf("%s%s%s", message, hint ? "; " : "",
			  hint ? hint : "");
	pq_one_line(text, sizeof(text), whole);
	free(whole);
	log_message(ours ? LEVEL_WARNING : LEVEL_DEBUG, "postgresql: %s", text);
}

/* Failures. */

static void add_failure(struct round *r, const char *message)
{
	struct buf *all = &r->connector->failure;
	char text[256];

	pq_one_line(text, sizeof(text), message);
	buf_printf(all, "%s%s", all->length ? "; " : "", text);
}

/* Adds a failure that is ours, with the server's name. */
static void add_server_failure(struct round *r, const struct attempt *a,
			       const char *what)
{
	const char *address = PQhostaddr(a->conn);
	char *text = xasprintf("server at \"%s\"%s%s%s, port %s: %s",
			       PQhost(a->conn), *address ? " (" : "", address,
			       *address ? ")" : "", PQport(a->conn), what);

	add_failure(r, text);
	free(text);
}

/* Ends an attempt whose failure was added. */
static void attempt_end(struct round *r, struct attempt *a)
{
	PQfinish(a->conn);
	a->conn = NULL;
	r->next_start = INT64_MIN;
}

static void attempt_failed(struct round *r, struct attempt *a)
{
	add_failure(r, a->conn ? PQerrorMessage(a->conn) : "out of memory");
	attempt_end(r, a);
}

/* Addresses. */

static bool needs_look_up(const struct address *a)
{
	return !a->hostaddr && a->host && *a->host != '/' && *a->host != '@';
}

/* Looks up a host; false with the failure added. */
static bool look_up(struct round *r, const char *host)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM };
	int error = getaddrinfo(host, NULL, &hints, &r->looked_up);
	char *text;

	if (error == 0) {
		r->next_address = r->looked_up;
		return true;
	}
	r->looked_up = NULL;
	text = xasprintf(
		"could not translate host name \"%s\" to address: %s", host,
		error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
	add_failure(r, text);
	free(text);
	return false;
}

static struct address host_address(const struct round *r, size_t n)
{
	return (struct address){
		.host = conninfo_item(r->info.host, n),
		.hostaddr = conninfo_item(r->info.hostaddr, n),
		.port = conninfo_item(r->info.port, n),
	};
}

/* Takes the next address of the host that was looked up last. */
static bool take_looked_up(struct round *r, struct address *a)
{
	char text[NI_MAXHOST];

	while (r->next_address) {
		const struct addrinfo *at = r->next_address;

		r->next_address = at->ai_next;
		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text),
				NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		*a = host_address(r, r->next_host - 1);
		a->hostaddr = xstrdup(text);
		return true;
	}
	if (r->looked_up)
		freeaddrinfo(r->looked_up);
	r->looked_up = NULL;
	return false;
}

/* Returns true with the next address in *a, which the caller frees. */
static bool next_address(struct round *r, struct address *a)
{
	while (!take_looked_up(r, a)) {
		if (r->next_host == r->info.hosts)
			return false;
		*a = host_address(r, r->next_host++);
		if (!needs_look_up(a))
			return true;
		/* The failure was added; the next host may do. */
		(void)look_up(r, a->host);
		address_free(a);
	}
	return true;
}

static bool has_next_address(const struct round *r)
{
	return r->next_address || r->next_host < r->info.hosts;
}

/* Attempts. */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_address(const struct address *a, const struct address *b)
{
	return same_text(a->host, b->host) &&
	       same_text(a->hostaddr, b->hostaddr) &&
	       same_text(a->port, b->port);
}

/* Starts to connect; the keywords are libpq's, and the last of two counts. */
static PGconn *start_connect(const struct round *r, const struct address *a)
{
	static const char *const defaults[][2] = {
		{ "keepalives_idle", "10" },
		{ "keepalives_interval", "5" },
		{ "keepalives_count", "3" },
		{ "tcp_user_timeout", "3000" },
	};
	const char *const ours[][2] = {
		{ "dbname", r->connector->conninfo },
		{ "host", a->host },
		{ "hostaddr", a->hostaddr },
		{ "port", a->port },
		{ "target_session_attrs", "any" },
		{ "client_encoding", "UTF8" },
		{ "fallback_application_name", "humcli-webhook" },
	};
	const char *keywords[ARRAY_SIZE(defaults) + ARRAY_SIZE(ours) + 1];
	const char *values[ARRAY_SIZE(keywords)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		/* A service file may set it, too. */
		if (conninfo_option(&r->info, defaults[i][0]))
			continue;
		keywords[n] = defaults[i][0];
		values[n++] = defaults[i][1];
	}
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (!ours[i][1])
			continue;
		keywords[n] = ours[i][0];
		values[n++] = ours[i][1];
	}
	keywords[n] = values[n] = NULL;
	return PQconnectStartParams(keywords, values, 1);
}

/* Moves an attempt of the last round to *a, if it is to go on. */
static bool take_over(struct round *r, struct attempt *a)
{
	struct connector *c = r->connector;

	for (size_t i = 0; i < c->count; i++) {
		struct attempt *old = &c->attempts[i];

		if (!old->conn || !same_address(&old->address, &a->address) ||
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
	struct attempt a = { .polling = PGRES_POLLING_WRITING };

	if (!next_address(r, &a.address))
		return;
	if (!take_over(r, &a)) {
		a.started_at = monotonic_ms();
		a.conn = start_connect(r, &a.address);
	}
	r->attempts = array_grow(r->attempts, r->count, sizeof(a));
	r->attempts[r->count++] = a;
	/* One that was taken over has had its head start. */
	r->next_start = a.started_at + HEAD_START_MS;
	r->end = monotonic_ms() + HEAD_START_MS;
	if (!a.conn || (!a.asking && PQstatus(a.conn) == CONNECTION_BAD))
		attempt_failed(r, &r->attempts[r->count - 1]);
}

/*
 * Asks whether the server accepts writes, in a transaction in which no time
 * limit of a role or database counts. A default of role or database does not
 * bind our transactions, which ask for READ WRITE; one of the server does.
 */
static bool ask(PGconn *conn)
{
	static const char question[] =
		"BEGIN ISOLATION LEVEL READ COMMITTED;" SQL_SET_LIMITS(
			"0", "0",
			"0") ";SET LOCAL search_path = pg_catalog, pg_temp;"
			     "SELECT pg_catalog.pg_is_in_recovery(), CASE"
			     " pg_catalog.current_setting('transaction_read_only')"
			     " WHEN 'off' THEN 'off' ELSE (SELECT CASE WHEN source"
			     " OPERATOR(pg_catalog.=) ANY (ARRAY['database', 'user',"
			     " 'database user']) THEN 'off' ELSE 'on' END"
			     " FROM pg_catalog.pg_settings WHERE name"
			     " OPERATOR(pg_catalog.=) 'default_transaction_read_only') END;"
			     "COMMIT";

	return PQsetnonblocking(conn, 1) == 0 &&
	       PQsendQuery(conn, question) == 1 && PQflush(conn) >= 0;
}

static void read_answer(struct attempt *a, const PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK ||
	    PQntuples(result) != 1 || PQnfields(result) != 2)
		return;
	a->answered = true;
	a->standby = *PQgetvalue(result, 0, 0) == 't';
	a->read_only = strcmp(PQgetvalue(result, 0, 1), "off") != 0;
}

/* Returns true if the answer on writes is complete and accepted. */
static bool receive_answer(struct round *r, struct attempt *a)
{
	PGresult *result;

	if (PQflush(a->conn) < 0 || !PQconsumeInput(a->conn)) {
		attempt_failed(r, a);
		return false;
	}
	do {
		if (PQisBusy(a->conn))
			return false;
		result = PQgetResult(a->conn);
		read_answer(a, result);
		PQclear(result);
	} while (result);
	if (!a->answered) {
		attempt_failed(r, a);
	} else if (a->standby) {
		add_server_failure(r, a,
				   "the server is read-only: it is a standby");
		attempt_end(r, a);
	} else if (r->server == CONNECT_WRITABLE && a->read_only) {
		add_server_failure(r, a,
				   "the server is read-only: "
				   "default_transaction_read_only is on");
		attempt_end(r, a);
	}
	return a->conn != NULL;
}

/* Goes on with an attempt whose socket is ready. True: it has succeeded. */
static bool advance(struct round *r, struct attempt *a)
{
	if (a->asking)
		return receive_answer(r, a);
	a->polling = PQconnectPoll(a->conn);
	if (a->polling == PGRES_POLLING_FAILED)
		attempt_failed(r, a);
	if (a->polling != PGRES_POLLING_OK)
		return false;
	if (r->server == CONNECT_ANY)
		return PQsetnonblocking(a->conn, 1) == 0;
	a->asking = ask(a->conn);
	if (!a->asking)
		attempt_failed(r, a);
	return false;
}

/* Rounds. */

static void end_overdue(struct round *r, int64_t now)
{
	for (size_t i = 0; i < r->count; i++) {
		struct attempt *a = &r->attempts[i];

		if (!a->conn || now - a->started_at < r->info.connect_timeout)
			continue;
		add_server_failure(r, a, "no answer in time");
		attempt_end(r, a);
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

	if (has_next_address(r))
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

/* Polls all attempts once. Returns the one that succeeded, or NULL. */
static struct attempt *poll_attempts(struct round *r)
{
	struct pollfd *fds = xcalloc(r->count + 1, sizeof(*fds));
	struct attempt *done = NULL;
	int64_t left = wait_until(r) - monotonic_ms();
	int n;

	for (size_t i = 0; i < r->count; i++) {
		const struct attempt *a = &r->attempts[i];
		bool reading = a->asking || a->polling == PGRES_POLLING_READING;

		fds[i].fd = a->conn ? PQsocket(a->conn) : -1;
		fds[i].events = reading ? POLLIN : POLLOUT;
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
		if (now >= r->next_start && has_next_address(r)) {
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
			add_server_failure(r, &r->attempts[i], "no answer yet");
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
	r->next_start = INT64_MIN;
	done = run_attempts(r);
	if (done) {
		conn = done->conn;
		done->conn = NULL;
		attempts_free(c->attempts, c->count);
		c->attempts = NULL;
		c->count = 0;
		PQsetNoticeReceiver(conn, log_notice, NULL);
	} else {
		keep_attempts(r);
	}
	attempts_free(r->attempts, r->count);
	if (r->looked_up)
		freeaddrinfo(r->looked_up);
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
