#include "postgres/connector.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "postgres/query.h"

/* One host is given this long (doc/design.md, "Connecting"). */
enum { HOST_TIMEOUT_MS = 1000, REPEAT_LOG_MS = 60000 };

struct connector {
	char *conninfo;
	char failure[256]; /* the last one logged, and when */
	int64_t failure_logged_at;
};

struct connector *connector_new(const char *conninfo)
{
	struct connector *c = xcalloc(1, sizeof(*c));

	c->conninfo = xstrdup(conninfo);
	return c;
}

void connector_free(struct connector *c)
{
	if (!c)
		return;
	explicit_bzero(c->conninfo, strlen(c->conninfo));
	free(c->conninfo);
	free(c);
}

static void log_failure_limited(struct connector *c, const char *message)
{
	char text[sizeof(c->failure)];
	int64_t now = monotonic_ms();

	pq_one_line(text, sizeof(text), message);
	if (strcmp(text, c->failure) == 0 &&
	    now - c->failure_logged_at < REPEAT_LOG_MS)
		return;
	memcpy(c->failure, text, sizeof(text));
	c->failure_logged_at = now;
	log_message(LEVEL_ERROR, "no database: %s", text);
}

static void log_notice(void *context, const char *message)
{
	char text[256];

	(void)context;
	pq_one_line(text, sizeof(text), message);
	log_message(LEVEL_DEBUG, "postgresql: %s", text);
}

/* The nth of a comma-separated list, or the only one; NULL if none. */
static char *list_item(const char *list, size_t n)
{
	if (!list || !*list)
		return NULL;
	if (!strchr(list, ','))
		return xstrdup(list);
	for (; n && list; n--) {
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
	return list ? xstrndup(list, strcspn(list, ",")) : NULL;
}

static size_t list_length(const char *list)
{
	size_t n = 1;

	for (; list && *list; list++)
		n += *list == ',';
	return n;
}

/* A conninfo taken apart, with libpq's variables for the hosts put in. */
struct parsed_conninfo {
	PQconninfoOption *options;
	const char *host;
	const char *hostaddr;
	const char *port;
	size_t count; /* of hosts */
};

static const char *option(const PQconninfoOption *options, const char *keyword,
			  const char *variable)
{
	for (; options->keyword; options++) {
		if (strcmp(options->keyword, keyword) == 0 && options->val)
			return options->val;
	}
	return getenv(variable);
}

static bool conninfo_parse(struct connector *c, struct parsed_conninfo *t)
{
	char *error = NULL;

	t->options = PQconninfoParse(c->conninfo, &error);
	if (!t->options) {
		/* libpq's message can quote what may be a password. */
		log_failure_limited(c,
				    "HUMCLI_WEBHOOK_DATABASE can't be parsed");
		PQfreemem(error);
		return false;
	}
	t->host = option(t->options, "host", "PGHOST");
	t->hostaddr = option(t->options, "hostaddr", "PGHOSTADDR");
	t->port = option(t->options, "port", "PGPORT");
	t->count = list_length(t->hostaddr && *t->hostaddr ? t->hostaddr
							   : t->host);
	return true;
}

/* Starts to connect to the nth host; the keywords are libpq's. */
static PGconn *start_connect(const struct parsed_conninfo *t, size_t n)
{
	/* Ahead of the conninfo: what it says itself comes later and wins. */
	const char *keywords[80] = { "keepalives_idle", "keepalives_interval",
				     "keepalives_count", "tcp_user_timeout" };
	const char *values[80] = { "10", "5", "3", "3000" };
	size_t used = 4;
	char *host = list_item(t->host, n);
	char *hostaddr = list_item(t->hostaddr, n);
	char *port = list_item(t->port, n);
	const struct {
		const char *keyword;
		const char *value;
	} ours[] = { { "host", host },
		     { "hostaddr", hostaddr },
		     { "port", port },
		     /* We ask the server ourselves. */
		     { "target_session_attrs", "any" },
		     { "client_encoding", "UTF8" },
		     { "fallback_application_name", "humcli-webhook" } };
	PGconn *conn;

	for (const PQconninfoOption *o = t->options;
	     o->keyword && used < ARRAY_SIZE(keywords) - 8; o++) {
		if (!o->val)
			continue;
		keywords[used] = o->keyword;
		values[used++] = o->val;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (!ours[i].value)
			continue;
		keywords[used] = ours[i].keyword;
		values[used++] = ours[i].value;
	}
	keywords[used] = NULL;
	conn = PQconnectStartParams(keywords, values, 0);
	free(host);
	free(hostaddr);
	free(port);
	return conn;
}

/* One host's turn. */
struct attempt {
	enum connect_server server;
	int64_t deadline;
	int stop;
};

static bool finish_connect(PGconn *conn, const struct attempt *a)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (status != PGRES_POLLING_OK) {
		if (status == PGRES_POLLING_FAILED ||
		    !pq_wait(PQsocket(conn),
			     status == PGRES_POLLING_READING ? POLLIN : POLLOUT,
			     a->deadline, a->stop))
			return false;
		status = PQconnectPoll(conn);
	}
	return true;
}

/*
 * Why this server will not do; NULL: it will. Poolers greet with what
 * another server said once, so we ask.
 */
static const char *rejection_reason(PGconn *conn, const struct attempt *a)
{
	PGresult *r;
	bool answered, standby, read_only;

	if (a->server == CONNECT_ANY)
		return NULL;
	r = pq_query(conn,
		     "SELECT pg_catalog.pg_is_in_recovery(), "
		     "pg_catalog.current_setting('transaction_read_only')",
		     NULL, 0, a->deadline, a->stop);
	answered = pq_succeeded(r) && PQntuples(r) == 1;
	standby = answered && *PQgetvalue(r, 0, 0) == 't';
	read_only = answered && strcmp(PQgetvalue(r, 0, 1), "off") != 0;
	PQclear(r);
	if (!answered)
		return *PQerrorMessage(conn) ? PQerrorMessage(conn)
					     : "no answer in time";
	if (standby)
		return "the server is read-only: it is a standby";
	if (a->server == CONNECT_WRITABLE && read_only)
		return "the server is read-only: default_transaction_read_only "
		       "is on";
	return NULL;
}

static PGconn *connect_host(struct connector *c,
			    const struct parsed_conninfo *t, size_t n,
			    const struct attempt *a)
{
	PGconn *conn = start_connect(t, n);
	const char *fault;

	if (!conn || PQstatus(conn) == CONNECTION_BAD)
		fault = conn ? PQerrorMessage(conn) : "out of memory";
	else if (!finish_connect(conn, a))
		/* Without a reason the message is but the server's name. */
		fault = PQstatus(conn) == CONNECTION_BAD
				? PQerrorMessage(conn)
				: "no connection in time";
	else
		fault = rejection_reason(conn, a);
	if (!fault) {
		PQsetNoticeProcessor(conn, log_notice, NULL);
		return conn;
	}
	if (!pq_stop_requested(a->stop)) /* else it is no failure */
		log_failure_limited(c, fault);
	PQfinish(conn);
	return NULL;
}

PGconn *connector_open(struct connector *c, enum connect_server to,
		       int64_t deadline, int stop)
{
	struct parsed_conninfo t;
	PGconn *conn = NULL;

	if (!conninfo_parse(c, &t))
		return NULL;
	for (size_t n = 0; n < t.count && !conn; n++) {
		int64_t limit = monotonic_ms() + HOST_TIMEOUT_MS;
		struct attempt a = { to, limit < deadline ? limit : deadline,
				     stop };

		if (monotonic_ms() >= deadline)
			break;
		conn = connect_host(c, &t, n, &a);
	}
	PQconninfoFree(t.options);
	if (conn && *c->failure) {
		c->failure[0] = '\0';
		log_message(LEVEL_INFO, "the database is back");
	}
	return conn;
}
