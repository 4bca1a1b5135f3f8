/*
 * Owns the responder's connection to PostgreSQL and its statements; pipeline.c
 * has the requests in flight. Must not know batches, retries or who waits.
 * All functions but database_answers() are the writer's.
 */
#include "store/database.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "postgres/connector.h"
#include "postgres/conninfo.h"
#include "postgres/sqlstate.h"
#include "store/parameters.h"
#include "store/pipeline.h"
#include "store/record_rows.h"

struct database {
	struct connector *connector;
	struct pipeline pipeline;
	bool recorded_before; /* on this connection */
	bool from_spool; /* the events below */
	size_t *event_indexes; /* in the batch, of record_batch()'s inputs */
	size_t event_count;
	size_t quarantine_count; /* of the batch */
	struct pending_request failure; /* whose parameters are read again */
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
	pipeline_free(&db->pipeline);
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
	return db->pipeline.conn != NULL;
}

void database_explain_loss(const struct database *db,
			   struct database_result *result)
{
	const char *words = pipeline_last_words(&db->pipeline);

	snprintf(result->message, sizeof(result->message),
		 "the connection was lost%s%s", words ? ": " : "",
		 words ? words : "");
}

void database_disconnect(struct database *db)
{
	pipeline_close(&db->pipeline);
}

size_t database_pending(const struct database *db)
{
	return db->pipeline.pending_count;
}

bool database_connect(struct database *db, int64_t deadline)
{
	PGconn *conn;

	database_disconnect(db);
	db->recorded_before = false;
	conn = connector_try(db->connector, CONNECT_WRITABLE, deadline);
	if (!conn)
		return false;
	if (pipeline_open(&db->pipeline, conn))
		return true;
	log_message(LEVEL_ERROR,
		    "can't switch the connection to pipeline mode: %s",
		    PQerrorMessage(conn));
	database_disconnect(db);
	return false;
}

_Static_assert((int)DATABASE_FAULT_SIZE == (int)CONNINFO_FAULT_SIZE,
	       "conninfo_check() fills it");

bool database_check_conninfo(const char *conninfo,
			     char fault[DATABASE_FAULT_SIZE])
{
	return conninfo_check(conninfo, fault);
}

void database_describe(const char *conninfo, struct buf *text)
{
	static const char *const keywords[] = { "host", "hostaddr", "port",
						"dbname", "user" };
	char fault[CONNINFO_FAULT_SIZE];
	struct conninfo c;

	if (!conninfo_read(conninfo, &c, fault))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(keywords); i++) {
		const char *value = conninfo_option(&c, keywords[i]);

		if (value && *value)
			buf_printf(text, "%s=%s ", keywords[i], value);
	}
	conninfo_free(&c);
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

static bool send_statement(struct database *db, const char *query,
			   const struct parameters *p)
{
	struct parameter_list list;

	parameters_list(p, &list);
	return pipeline_send(&db->pipeline, query, &list);
}

static struct pending_request *start_record(struct database *db)
{
	return pipeline_start(&db->pipeline, DATABASE_RECORD, db->from_spool);
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
	const struct pending_request *p = start_record(db);

	return p && send_events(db) && pipeline_end(&db->pipeline, p);
}

/* Sends humcli.record_next() with the one event as it stands. */
static bool send_record_next(struct database *db)
{
	struct pending_request *p = start_record(db);
	struct parameter_list list;

	if (!p)
		return false;
	p->is_record_next = true;
	parameters_list_event(&db->events, &list);
	return pipeline_send(&db->pipeline,
			     "SELECT humcli.record_next("
			     "$1, $2, $3, $4, $5, $6, $7, $8, $9)",
			     &list) &&
	       pipeline_end(&db->pipeline, p);
}

/*
 * Sends the parameters of the one event to a statement that does nothing, so
 * that PostgreSQL reads them.
 */
static bool send_reading(struct database *db)
{
	struct pending_request *p = start_record(db);

	if (!p)
		return false;
	p->is_reading = true;
	return send_statement(db, "SELECT 1", &db->events) &&
	       pipeline_end(&db->pipeline, p);
}

/* Sends events and quarantined bodies in one transaction. */
static bool send_batch(struct database *db, struct delivery *const *quarantine,
		       size_t count)
{
	const struct pending_request *p = start_record(db);

	if (!p || (db->event_count && !send_events(db)))
		return false;
	parameters_set_quarantine(&db->others, quarantine, count);
	return send_statement(db,
			      "SELECT humcli.quarantine_add("
			      "$1, $2, $3, $4, $5)",
			      &db->others) &&
	       pipeline_end(&db->pipeline, p);
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
	db->quarantine_count = quarantined;
	/* Not on the first one, which may be the only one. */
	ok = !db->recorded_before || pipeline_ask_for_session(&db->pipeline);
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
		pipeline_start(&db->pipeline, DATABASE_NOTIFY, false);

	if (!p)
		return false;
	parameters_set_texts(&db->others, events, gaps);
	return send_statement(db, "SELECT humcli.notify($1, $2)",
			      &db->others) &&
	       pipeline_end(&db->pipeline, p);
}

bool database_send_ping(struct database *db)
{
	return pipeline_ping(&db->pipeline);
}

/* Results. */

int database_socket(const struct database *db, short *events)
{
	return pipeline_socket(&db->pipeline, events);
}

bool database_flush(struct database *db)
{
	return pipeline_flush(&db->pipeline);
}

bool database_receive(struct database *db)
{
	return pipeline_receive(&db->pipeline);
}

/* Reads rows where the request has some. */
static void read_tuples(struct database *db, const PGresult *result)
{
	struct pending_request *p = &db->pipeline.pending[0];
	bool ok = true;

	if (p->is_record_next)
		ok = record_rows_read_next(&db->rows, result,
					   db->event_indexes[0]);
	/* quarantine_add() returns one column. */
	else if (p->request == DATABASE_RECORD && PQnfields(result) > 1)
		ok = record_rows_read(&db->rows, result, db->event_indexes,
				      db->event_count);
	if (!ok)
		pipeline_fail(
			p, "42804",
			"humcli.record_batch() gave rows of another form; is "
			"sql/install.sql newer?");
}

/*
 * Returns true if humcli.record_next() declined, because the event is no usual
 * one; or if it does not exist, because the schema is older. Nothing was
 * recorded then, and humcli.record_batch() has to do it.
 */
static bool needs_full_record(const struct database *db)
{
	const struct pending_request *p = &db->pipeline.pending[0];

	return p->is_record_next &&
	       (p->failed ? strcmp(p->sqlstate, "42883") == 0
			  : db->rows.count == 0);
}

/*
 * Returns true if the data of the one event may be the cause of an error, or a
 * trigger of the site that raises the same: reading the data alone decides.
 */
static bool needs_reading(const struct database *db)
{
	const struct pending_request *p = &db->pipeline.pending[0];

	return p->request == DATABASE_RECORD && !p->is_reading && p->failed &&
	       sqlstate_is_data_error(p->sqlstate) && db->event_count == 1 &&
	       db->quarantine_count == 0;
}

static void make_result(struct database *db, struct database_result *result)
{
	struct pending_request p = pipeline_pop(&db->pipeline);
	bool unreadable = p.is_reading && p.failed &&
			  sqlstate_is_data_error(p.sqlstate);

	if (p.is_reading)
		p = db->failure;
	*result = (struct database_result){
		.request = p.request,
		.committed = !p.failed,
		.unreadable = unreadable,
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

/*
 * Ends the oldest request with a result. Returns false if something has to be
 * sent for it first, with *ok as for database_flush().
 */
static bool end_request(struct database *db, struct database_result *result,
			bool *ok)
{
	if (needs_full_record(db)) {
		pipeline_pop(&db->pipeline);
		*ok = send_record(db) && database_flush(db);
		return false;
	}
	if (needs_reading(db)) {
		db->failure = pipeline_pop(&db->pipeline);
		*ok = send_reading(db) && database_flush(db);
		return false;
	}
	make_result(db, result);
	return true;
}

enum database_status database_next(struct database *db,
				   struct database_result *result)
{
	PGresult *rows;
	bool ok = true;

	while (ok) {
		switch (pipeline_next(&db->pipeline, &rows)) {
		case PIPELINE_NOTHING:
			return DATABASE_NOTHING;
		case PIPELINE_LOST:
			return DATABASE_LOST;
		case PIPELINE_ROWS:
			read_tuples(db, rows);
			PQclear(rows);
			break;
		case PIPELINE_END:
			if (end_request(db, result, &ok))
				return DATABASE_RESULT;
			break;
		}
	}
	return DATABASE_LOST;
}
