/*
 * Owns the responder's connection to PostgreSQL, its statements, and the
 * pipeline: each request is a transaction with its own Sync, and what it did
 * counts once that Sync has come back clean. It must not know batches, retries
 * or who waits. All functions but database_answers() are the writer's.
 *
 * Settings of role and database (ALTER ROLE ... SET) change nothing. On a
 * connection to the server itself we set what we need once, for the session.
 * Behind a pooler the next transaction may be in another session; there, and
 * until we know, each transaction asks for what it needs: BEGIN and set_config
 * come before, COMMIT after the statement, all in the same flush.
 */
#include "store/database.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "postgres/connector.h"
#include "postgres/conninfo.h"
#include "postgres/limits.h"
#include "postgres/query.h"
#include "store/parameters.h"
#include "store/record_rows.h"

enum { MAX_PENDING = 16 };

/* Whether each transaction has to ask for what it needs. */
enum session {
	SESSION_UNKNOWN, /* it asks */
	SESSION_ASKED, /* it asks; the answer is under way */
	SESSION_OURS, /* no: the session is set */
	SESSION_POOLED /* it asks */
};

/*
 * What a transaction asks for. Our time limits are wider than our own clock's:
 * they end statements that we gave up long ago. They do not end a COMMIT that
 * waits for a standby.
 */
static const char begin_transaction[] =
	"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
static const char set_transaction[] = SQL_SET_LIMITS("30s", "10s", "60s");
/*
 * What comes out of the spool may not hold up live events for long. A file that
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
	" ('search_path', 'pg_catalog, pg_temp'), ('row_security', 'on'))"
	" AS v (name, value)),"
	" (SELECT pg_catalog.count("
	"pg_catalog.set_config(name, value, false)) FROM (VALUES"
	" ('idle_session_timeout', '0'), ('transaction_timeout', '0'),"
	" ('plan_cache_mode', 'auto')) AS v (name, value)"
	" WHERE pg_catalog.current_setting(name, true) IS NOT NULL),"
	" (SELECT pg_catalog.set_config(name, 'off', false)"
	" FROM pg_catalog.pg_settings"
	" WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only'"
	" AND source OPERATOR(pg_catalog.=)"
	" ANY (ARRAY['database', 'user', 'database user']))"
	" WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) $1";

/* One transaction in flight, until its last Sync comes back. */
struct pending_request {
	enum database_request request;
	bool is_record_next; /* humcli.record_next(), which may decline */
	bool is_explicit; /* between BEGIN and COMMIT: two Syncs */
	unsigned skip; /* results of BEGIN and set_config */
	unsigned syncs; /* that have not come back */
	bool committed; /* COMMIT came back: no later error undoes it */
	bool failed;
	char sqlstate[6];
	char message[256];
};

struct database {
	struct connector *connector;
	PGconn *conn;
	bool flush_wanted;
	enum session session;
	bool recorded_before; /* on this connection */
	bool from_spool; /* the events below */
	struct pending_request pending[MAX_PENDING]; /* oldest first */
	size_t pending_count;
	size_t *event_indexes; /* of humcli.record_batch()'s inputs in the batch */
	size_t event_count;
	struct record_rows rows; /* of the last result */
	struct parameters events; /* kept until record_batch() has its result */
	struct parameters others;
};

struct database *database_new(const char *conninfo)
{
	struct database *db = xcalloc(1, sizeof(*db));

	db->connector = connector_new(conninfo);
	return db;
}

void database_free(struct database *db)
{
	if (!db)
		return;
	database_disconnect(db);
	parameters_free(&db->events);
	parameters_free(&db->others);
	connector_free(db->connector);
	free(db->event_indexes);
	record_rows_free(&db->rows);
	free(db);
}

/* The connection. */

bool database_connected(const struct database *db)
{
	return db->conn != NULL;
}

void database_disconnect(struct database *db)
{
	PQfinish(db->conn);
	db->conn = NULL;
	db->pending_count = 0;
	db->flush_wanted = false;
}

size_t database_pending(const struct database *db)
{
	return db->pending_count;
}

bool database_connect(struct database *db, int64_t deadline)
{
	database_disconnect(db);
	db->session = SESSION_UNKNOWN;
	db->recorded_before = false;
	db->conn = connector_try(db->connector, CONNECT_WRITABLE, deadline);
	if (db->conn && (PQsetnonblocking(db->conn, 1) != 0 ||
			 PQenterPipelineMode(db->conn) != 1)) {
		log_message(LEVEL_ERROR,
			    "can't switch the connection to pipeline mode: %s",
			    PQerrorMessage(db->conn));
		database_disconnect(db);
	}
	return db->conn != NULL;
}

_Static_assert((int)DATABASE_FAULT_SIZE == (int)CONNINFO_FAULT_SIZE,
	       "conninfo_check() fills it");

bool database_check_conninfo(const char *conninfo,
			     char fault[DATABASE_FAULT_SIZE])
{
	return conninfo_check(conninfo, fault);
}

bool database_answers(const char *conninfo, int64_t deadline)
{
	struct connector *connector = connector_new(conninfo);
	PGconn *conn =
		connector_open_quietly(connector, CONNECT_WRITABLE, deadline);
	bool answers = conn != NULL;

	PQfinish(conn);
	connector_free(connector);
	return answers;
}

/* Transactions. */

static bool send_plain(struct database *db, const char *query)
{
	return PQsendQueryParams(db->conn, query, 0, NULL, NULL, NULL, NULL,
				 1) == 1;
}

/* Sends an unnamed statement with parameters, for binary results. */
static bool send_list(struct database *db, const char *query,
		      const struct parameter_list *list)
{
	return PQsendQueryParams(db->conn, query, list->count, list->types,
				 list->values, list->lengths, list->formats,
				 1) == 1;
}

static bool send_statement(struct database *db, const char *query,
			   const struct parameters *p)
{
	struct parameter_list list;

	parameters_list(p, &list);
	return send_list(db, query, &list);
}

/* Adds a request, whose statements are sent next. Returns NULL if it can't. */
static struct pending_request *start_request(struct database *db,
					     enum database_request request)
{
	struct pending_request *p;

	if (db->pending_count == MAX_PENDING)
		return NULL;
	p = &db->pending[db->pending_count++];
	*p = (struct pending_request){ .request = request, .syncs = 1 };
	return p;
}

static bool send_sync(struct database *db)
{
	db->flush_wanted = true;
	return PQpipelineSync(db->conn) == 1;
}

/* Asks once whether the session is ours; if so, its settings are set. */
static bool ask_for_session(struct database *db)
{
	if (db->session != SESSION_UNKNOWN)
		return true;
	db->session = SESSION_ASKED;
	parameters_set_int(&db->others, PQbackendPID(db->conn));
	return start_request(db, DATABASE_SETTINGS) &&
	       send_statement(db, set_session, &db->others) && send_sync(db);
}

/* Adds a request and sends what comes before its statement. */
static struct pending_request *start_transaction(struct database *db,
						 enum database_request request)
{
	struct pending_request *p = start_request(db, request);
	bool from_spool = request == DATABASE_RECORD && db->from_spool;
	bool ok;

	if (!p || (db->session == SESSION_OURS && !from_spool))
		return p;
	p->is_explicit = true;
	p->skip = 2;
	p->syncs = 2;
	ok = send_plain(db, begin_transaction) &&
	     send_plain(db,
			from_spool ? set_spool_transaction : set_transaction);
	return ok ? p : NULL;
}

/*
 * Sends what comes behind the statement. The first Sync ends the pipeline's
 * error state, so COMMIT is always run: after an error it rolls back.
 */
static bool end_transaction(struct database *db,
			    const struct pending_request *p)
{
	return send_sync(db) &&
	       (!p->is_explicit || (send_plain(db, "COMMIT") && send_sync(db)));
}

/* Requests. */

static bool send_events(struct database *db)
{
	return send_statement(
		db,
		"SELECT place, outcome, notification FROM humcli.record_batch("
		"$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		&db->events);
}

/* Sends humcli.record_batch() with the events as they stand. */
static bool send_record(struct database *db)
{
	const struct pending_request *p =
		start_transaction(db, DATABASE_RECORD);

	return p && send_events(db) && end_transaction(db, p);
}

/* The same for the one event, by humcli.record_next(). */
static bool send_record_next(struct database *db)
{
	struct pending_request *p = start_transaction(db, DATABASE_RECORD);
	struct parameter_list list;

	if (!p)
		return false;
	p->is_record_next = true;
	parameters_list_event(&db->events, &list);
	return send_list(db,
			 "SELECT humcli.record_next("
			 "$1, $2, $3, $4, $5, $6, $7, $8, $9)",
			 &list) &&
	       end_transaction(db, p);
}

/* Sends events and quarantined bodies in one transaction. */
static bool send_batch(struct database *db, struct delivery *const *quarantine,
		       size_t count)
{
	const struct pending_request *p =
		start_transaction(db, DATABASE_RECORD);

	if (!p || (db->event_count && !send_events(db)))
		return false;
	parameters_set_quarantine(&db->others, quarantine, count);
	return send_statement(db,
			      "SELECT humcli.quarantine_add("
			      "$1, $2, $3, $4, $5)",
			      &db->others) &&
	       end_transaction(db, p);
}

bool database_send_record(struct database *db, struct delivery *const *batch,
			  size_t count, const struct record_options *options)
{
	struct delivery **sorted = xcalloc(count, sizeof(*sorted));
	size_t quarantined = 0;
	bool ok;

	/* Events come first, quarantined bodies last. */
	db->event_indexes = xrealloc(db->event_indexes,
				     (count + 1) * sizeof(*db->event_indexes));
	db->event_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (batch[i]->reason) {
			sorted[count - ++quarantined] = batch[i];
			continue;
		}
		db->event_indexes[db->event_count] = i;
		sorted[db->event_count++] = batch[i];
	}
	parameters_set_events(&db->events, sorted, db->event_count,
			      options->window_us, options->notify);
	db->from_spool = options->from_spool;
	/* Not on the first one, which may be the only one. */
	ok = db->session != SESSION_UNKNOWN || !db->recorded_before ||
	     ask_for_session(db);
	db->recorded_before = true;
	if (quarantined)
		ok = ok &&
		     send_batch(db, sorted + db->event_count, quarantined);
	else if (options->notify && count == 1)
		ok = ok && send_record_next(db);
	else
		ok = ok && send_record(db);
	free(sorted);
	return ok;
}

bool database_send_notify(struct database *db, struct text_list *events,
			  struct text_list *gaps)
{
	const struct pending_request *p =
		start_transaction(db, DATABASE_NOTIFY);

	if (!p)
		return false;
	parameters_set_texts(&db->others, events, gaps);
	return send_statement(db, "SELECT humcli.notify($1, $2)",
			      &db->others) &&
	       end_transaction(db, p);
}

bool database_send_ping(struct database *db)
{
	return start_request(db, DATABASE_PING) && send_plain(db, "SELECT 1") &&
	       send_sync(db);
}

/* Results. */

int database_socket(const struct database *db, short *events)
{
	if (!db->conn)
		return -1;
	*events = (short)(POLLIN | (db->flush_wanted ? POLLOUT : 0));
	return PQsocket(db->conn);
}

bool database_flush(struct database *db)
{
	int left = PQflush(db->conn);

	db->flush_wanted = left > 0;
	return left >= 0;
}

bool database_receive(struct database *db)
{
	return PQconsumeInput(db->conn) &&
	       (!db->flush_wanted || database_flush(db)) &&
	       PQstatus(db->conn) == CONNECTION_OK;
}

/* Keeps the first error of a request, which is the cause of the others. */
static void fail_request(struct pending_request *p, const char *sqlstate,
			 const char *message)
{
	if (p->failed || p->committed)
		return;
	p->failed = true;
	snprintf(p->sqlstate, sizeof(p->sqlstate), "%s",
		 sqlstate ? sqlstate : "");
	pq_one_line(p->message, sizeof(p->message), message ? message : "");
}

/* Reads rows where the request has some. */
static void read_tuples(struct database *db, const PGresult *result)
{
	struct pending_request *p = &db->pending[0];
	bool ok = true;

	if (p->request == DATABASE_SETTINGS) {
		db->session = PQntuples(result) ? SESSION_OURS : SESSION_POOLED;
		return;
	}
	if (p->is_record_next)
		ok = record_rows_read_next(&db->rows, result,
					   db->event_indexes[0]);
	/* quarantine_add() returns one column. */
	else if (p->request == DATABASE_RECORD && PQnfields(result) > 1)
		ok = record_rows_read(&db->rows, result, db->event_indexes,
				      db->event_count);
	if (!ok)
		fail_request(
			p, "42804",
			"humcli.record_batch() gave rows of another form; is "
			"sql/install.sql newer?");
}

/*
 * Reads one PGresult of the oldest request. Returns true if the request has
 * ended.
 */
static bool read_result(struct database *db, PGresult *result)
{
	struct pending_request *p = &db->pending[0];

	switch (PQresultStatus(result)) {
	case PGRES_PIPELINE_SYNC:
		p->skip = 0;
		return --p->syncs == 0;
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		if (p->skip)
			p->skip--;
		else if (PQresultStatus(result) == PGRES_TUPLES_OK)
			read_tuples(db, result);
		else if (strcmp(PQcmdStatus(result), "COMMIT") == 0)
			p->committed = true;
		return false;
	case PGRES_PIPELINE_ABORTED:
		return false;
	default:
		fail_request(p, PQresultErrorField(result, PG_DIAG_SQLSTATE),
			     PQresultErrorField(result,
						PG_DIAG_MESSAGE_PRIMARY));
		return false;
	}
}

/*
 * Returns true if humcli.record_next() declined, because the event is no usual
 * one; or if it does not exist, because the schema is older. Nothing was
 * recorded then, and humcli.record_batch() has to do it.
 */
static bool needs_full_record(const struct database *db)
{
	const struct pending_request *p = &db->pending[0];

	return p->is_record_next &&
	       (p->failed ? strcmp(p->sqlstate, "42883") == 0
			  : db->rows.count == 0);
}

static struct pending_request pop_request(struct database *db)
{
	struct pending_request p = db->pending[0];

	db->pending_count--;
	memmove(&db->pending[0], &db->pending[1],
		db->pending_count * sizeof(p));
	return p;
}

static void make_result(struct database *db, struct database_result *result)
{
	struct pending_request p = pop_request(db);

	*result = (struct database_result){
		.request = p.request,
		.committed = !p.failed,
		.rows = db->rows.list,
		.count = p.failed || p.request != DATABASE_RECORD
				 ? 0
				 : db->rows.count,
	};
	memcpy(result->sqlstate, p.sqlstate, sizeof(p.sqlstate));
	memcpy(result->message, p.message, sizeof(p.message));
	if (p.request == DATABASE_RECORD)
		db->rows.count = 0;
}

/* A refusal to set the session leaves each transaction to ask. */
static void settings_done(struct database *db)
{
	struct pending_request p = pop_request(db);

	if (p.failed)
		db->session = SESSION_POOLED;
}

enum database_status database_next(struct database *db,
				   struct database_result *result)
{
	bool end, between = false;

	while (db->pending_count && !PQisBusy(db->conn)) {
		PGresult *r = PQgetResult(db->conn);

		if (!r) {
			/* One NULL is between two statements, never two. */
			if (between || PQstatus(db->conn) != CONNECTION_OK)
				return DATABASE_LOST;
			between = true;
			continue;
		}
		between = false;
		end = read_result(db, r);
		PQclear(r);
		if (PQstatus(db->conn) != CONNECTION_OK &&
		    !db->pending[0].committed)
			return DATABASE_LOST;
		/* The end of a committed transaction need not be seen. */
		end = end || PQstatus(db->conn) != CONNECTION_OK;
		if (end && db->pending[0].request == DATABASE_SETTINGS) {
			settings_done(db);
		} else if (end && needs_full_record(db)) {
			pop_request(db);
			if (!send_record(db) || !database_flush(db))
				return DATABASE_LOST;
		} else if (end) {
			make_result(db, result);
			return DATABASE_RESULT;
		}
	}
	return DATABASE_NOTHING;
}
