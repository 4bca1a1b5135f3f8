/*
 * Owns the order of what is sent on one connection, and what each transaction
 * asks for. Must not know what a statement does, nor its rows.
 *
 * Each request is a transaction with its own Sync, and what it did counts once
 * that Sync has come back clean.
 *
 * Settings of role and database (ALTER ROLE ... SET) change nothing. On a
 * connection to the server itself we set what we need once, for the session.
 * Behind a pooler the next transaction may be in another session; there, and
 * until we know, each transaction asks for what it needs: BEGIN and set_config
 * come before, COMMIT after the statement, all in the same flush.
 */
#include "store/pipeline.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "postgres/limits.h"
#include "postgres/query.h"

/*
 * The settings that a transaction asks for. Our time limits are wider than our
 * own clock's: they end statements whose outcome nobody awaits any more. They
 * do not end a COMMIT that waits for a standby.
 */
static const char begin_transaction[] =
	"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
static const char set_transaction[] = SQL_SET_LIMITS("30s", "10s", "60s");
/*
 * A spooled event may not hold up live events for long. A file that
 * needs more time is tried alone, after growing pauses.
 */
static const char set_spool_transaction[] = SQL_SET_LIMITS("4s", "10s", "60s");

/*
 * The same for a session, if it is the one that we connected to ($1). A
 * default_transaction_read_only of the server itself stays, because it makes
 * the server read-only as a whole. Older servers do not know all names of the
 * second list.
 */
static const char set_session[] =
	"SELECT (SELECT pg_catalog.count("
	"pg_catalog.set_config(name, value, false)) FROM (VALUES"
	" ('statement_timeout', '30s'), ('lock_timeout', '10s'),"
	" ('idle_in_transaction_session_timeout', '60s'),"
	" ('default_transaction_isolation', 'read committed'),"
	" ('default_transaction_deferrable', 'off'),"
	" ('search_path', 'pg_catalog, pg_temp'), ('row_security', 'on'),"
	" ('exit_on_error', 'off'))"
	" AS v (name, value)),"
	" (SELECT pg_catalog.count("
	"pg_catalog.set_config(name, value, false)) FROM (VALUES"
	" ('idle_session_timeout', '0'), ('transaction_timeout', '0'),"
	" ('plan_cache_mode', 'auto'),"
	" ('restrict_nonsystem_relation_kind', '')) AS v (name, value)"
	" WHERE pg_catalog.current_setting(name, true) IS NOT NULL),"
	" (SELECT pg_catalog.set_config(name, 'off', false)"
	" FROM pg_catalog.pg_settings"
	" WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only'"
	" AND source OPERATOR(pg_catalog.=)"
	" ANY (ARRAY['database', 'user', 'database user']))"
	" WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) $1";

bool pipeline_open(struct pipeline *p, PGconn *conn)
{
	p->conn = conn;
	p->session = SESSION_UNKNOWN;
	return PQsetnonblocking(conn, 1) == 0 && PQenterPipelineMode(conn) == 1;
}

void pipeline_close(struct pipeline *p)
{
	PQfinish(p->conn);
	p->conn = NULL;
	p->pending_count = 0;
	p->flush_wanted = false;
}

void pipeline_free(struct pipeline *p)
{
	pipeline_close(p);
	parameters_free(&p->pid);
}

/* Sending. */

static bool send_plain(struct pipeline *p, const char *query)
{
	return PQsendQueryParams(p->conn, query, 0, NULL, NULL, NULL, NULL,
				 1) == 1;
}

bool pipeline_send(struct pipeline *p, const char *query,
		   const struct parameter_list *list)
{
	return PQsendQueryParams(p->conn, query, list->count, list->types,
				 list->values, list->lengths, list->formats,
				 1) == 1;
}

/* Adds a request, whose statements are sent next. Returns NULL if it can't. */
static struct pending_request *start_request(struct pipeline *p,
					     enum database_request request)
{
	struct pending_request *r;

	if (p->pending_count == MAX_PENDING)
		return NULL;
	r = &p->pending[p->pending_count++];
	*r = (struct pending_request){ .request = request, .syncs = 1 };
	return r;
}

static bool send_sync(struct pipeline *p)
{
	p->flush_wanted = true;
	return PQpipelineSync(p->conn) == 1;
}

bool pipeline_ask_for_session(struct pipeline *p)
{
	struct parameter_list list;

	if (p->session != SESSION_UNKNOWN)
		return true;
	p->session = SESSION_ASKED;
	parameters_set_int(&p->pid, PQbackendPID(p->conn));
	parameters_list(&p->pid, &list);
	return start_request(p, DATABASE_SETTINGS) &&
	       pipeline_send(p, set_session, &list) && send_sync(p);
}

struct pending_request *pipeline_start(struct pipeline *p,
				       enum database_request request,
				       bool from_spool)
{
	struct pending_request *r = start_request(p, request);
	bool ok;

	if (!r || (p->session == SESSION_OURS && !from_spool))
		return r;
	r->is_explicit = true;
	r->skip = 2;
	r->syncs = 2;
	ok = send_plain(p, begin_transaction) &&
	     send_plain(p,
			from_spool ? set_spool_transaction : set_transaction);
	return ok ? r : NULL;
}

bool pipeline_end(struct pipeline *p, const struct pending_request *r)
{
	/*
	 * The first Sync ends the pipeline's error state, so COMMIT is always
	 * run: after an error it rolls back.
	 */
	return send_sync(p) &&
	       (!r->is_explicit || (send_plain(p, "COMMIT") && send_sync(p)));
}

bool pipeline_ping(struct pipeline *p)
{
	return start_request(p, DATABASE_PING) && send_plain(p, "SELECT 1") &&
	       send_sync(p);
}

/* Reading. */

int pipeline_socket(const struct pipeline *p, short *events)
{
	if (!p->conn)
		return -1;
	*events = (short)(POLLIN | (p->flush_wanted ? POLLOUT : 0));
	return PQsocket(p->conn);
}

bool pipeline_flush(struct pipeline *p)
{
	int left = PQflush(p->conn);

	p->flush_wanted = left > 0;
	return left >= 0;
}

bool pipeline_receive(struct pipeline *p)
{
	return PQconsumeInput(p->conn) &&
	       (!p->flush_wanted || pipeline_flush(p)) &&
	       PQstatus(p->conn) == CONNECTION_OK;
}

void pipeline_fail(struct pending_request *r, const char *sqlstate,
		   const char *message)
{
	if (r->failed || r->committed)
		return;
	r->failed = true;
	snprintf(r->sqlstate, sizeof(r->sqlstate), "%s",
		 sqlstate ? sqlstate : "");
	pq_one_line(r->message, sizeof(r->message), message ? message : "");
}

/*
 * Reads one PGresult of the oldest request. Returns PIPELINE_ROWS if it has
 * rows, PIPELINE_END if the request has ended, PIPELINE_NOTHING otherwise.
 */
static enum pipeline_status read_result(struct pipeline *p, PGresult *result)
{
	struct pending_request *r = &p->pending[0];

	switch (PQresultStatus(result)) {
	case PGRES_PIPELINE_SYNC:
		r->skip = 0;
		return --r->syncs == 0 ? PIPELINE_END : PIPELINE_NOTHING;
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		if (r->skip)
			r->skip--;
		else if (PQresultStatus(result) == PGRES_TUPLES_OK)
			return PIPELINE_ROWS;
		else if (strcmp(PQcmdStatus(result), "COMMIT") == 0)
			r->committed = true;
		return PIPELINE_NOTHING;
	case PGRES_PIPELINE_ABORTED:
		return PIPELINE_NOTHING;
	default:
		pipeline_fail(r, PQresultErrorField(result, PG_DIAG_SQLSTATE),
			      PQresultErrorField(result,
						 PG_DIAG_MESSAGE_PRIMARY));
		return PIPELINE_NOTHING;
	}
}

const char *pipeline_last_words(const struct pipeline *p)
{
	return p->pending_count && p->pending[0].failed ? p->pending[0].message
							: NULL;
}

struct pending_request pipeline_pop(struct pipeline *p)
{
	struct pending_request r = p->pending[0];

	p->pending_count--;
	memmove(&p->pending[0], &p->pending[1], p->pending_count * sizeof(r));
	return r;
}

/* Reads the answer to set_session: a row if the session is ours. */
static void read_session(struct pipeline *p, enum pipeline_status status,
			 const PGresult *rows)
{
	if (status == PIPELINE_ROWS)
		p->session = PQntuples(rows) ? SESSION_OURS : SESSION_POOLED;
	/* After a refusal each transaction asks. */
	else if (status == PIPELINE_END && pipeline_pop(p).failed)
		p->session = SESSION_POOLED;
}

enum pipeline_status pipeline_next(struct pipeline *p, PGresult **rows)
{
	bool between = false;

	while (p->pending_count && !PQisBusy(p->conn)) {
		const struct pending_request *r = &p->pending[0];
		PGresult *result = PQgetResult(p->conn);
		enum pipeline_status status;

		if (!result) {
			/* One NULL is between two statements, never two. */
			if (between || PQstatus(p->conn) != CONNECTION_OK)
				return PIPELINE_LOST;
			between = true;
			continue;
		}
		between = false;
		status = read_result(p, result);
		if (PQstatus(p->conn) != CONNECTION_OK)
			/* The end of a committed one need not be seen. */
			status = r->committed ? PIPELINE_END : PIPELINE_LOST;
		if (status != PIPELINE_LOST &&
		    r->request == DATABASE_SETTINGS) {
			read_session(p, status, result);
			status = PIPELINE_NOTHING;
		}
		if (status == PIPELINE_ROWS) {
			*rows = result;
			return status;
		}
		PQclear(result);
		if (status != PIPELINE_NOTHING)
			return status;
	}
	return PIPELINE_NOTHING;
}
