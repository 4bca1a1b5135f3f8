#include "store/database.h"

#include <arpa/inet.h>
#include <endian.h>
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
#include "postgres/query.h"

enum { MAX_PENDING = 16 };

/* Type identifiers of PostgreSQL (pg_type.dat); they never change. */
enum {
	OID_BOOL = 16,
	OID_TEXT = 25,
	OID_INT8 = 20,
	OID_JSON = 114,
	OID_BYTEA = 17,
	OID_TIMESTAMPTZ = 1184,
	OID_INTERVAL = 1186,
	OID_JSON_ARRAY = 199,
	OID_BYTEA_ARRAY = 1001,
	OID_TEXT_ARRAY = 1009,
	OID_INT8_ARRAY = 1016,
	OID_TIMESTAMPTZ_ARRAY = 1185
};

/* 2000-01-01, where PostgreSQL's binary timestamps start, in Unix us. */
static const int64_t postgres_epoch = INT64_C(946684800000000);

/* One transaction on its way, until its Sync comes back. */
struct pending_request {
	enum database_request request;
	bool is_record_next; /* humcli.record_next(), which can leave it undone */
	bool failed;
	char sqlstate[6];
	char message[256];
};

/* Those of humcli.record(), and the ids of humcli.notify(). */
enum { RECORD_PARAMETERS = 11, MAX_PARAMETERS };

/* In an array's binary form, what comes before the first element's bytes. */
enum { ARRAY_HEAD = 20, ELEMENT_HEAD = 4 };

struct database {
	struct connector *connector;
	PGconn *conn;
	bool flush_wanted;
	struct pending_request pending[MAX_PENDING]; /* oldest first */
	size_t pending_count;
	size_t *event_indexes; /* of humcli.record()'s inputs in the batch */
	size_t event_count;
	struct database_row *rows;
	size_t row_count;
	size_t row_capacity;
	struct buf parameters[MAX_PARAMETERS]; /* kept to be used again */
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
	for (size_t i = 0; i < MAX_PARAMETERS; i++)
		buf_free(&db->parameters[i]);
	connector_free(db->connector);
	free(db->event_indexes);
	free(db->rows);
	free(db);
}

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
	db->conn = connector_try(db->connector, CONNECT_WRITABLE, deadline);
	if (db->conn && (PQsetnonblocking(db->conn, 1) != 0 ||
			 PQenterPipelineMode(db->conn) != 1)) {
		log_message(LEVEL_ERROR,
			    "can't switch the connection to pipeline "
			    "mode: %s",
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
		connector_open(connector, CONNECT_WRITABLE, deadline, -1);
	bool answers = conn != NULL;

	PQfinish(conn);
	connector_free(connector);
	return answers;
}

/* Parameters in PostgreSQL's binary form (array_send, timestamptz_send). */

static void put32(struct buf *b, int32_t value)
{
	uint32_t wire = htonl((uint32_t)value);

	buf_add(b, &wire, sizeof(wire));
}

static void put64(struct buf *b, int64_t value)
{
	uint64_t wire = htobe64((uint64_t)value);

	buf_add(b, &wire, sizeof(wire));
}

static void array_start(struct buf *b, size_t count, int32_t element)
{
	b->length = 0;
	put32(b, 1); /* dimensions */
	put32(b, 1); /* may hold NULLs */
	put32(b, element);
	put32(b, (int32_t)count);
	put32(b, 1); /* lower bound */
}

static void array_bytes(struct buf *b, const char *data, size_t length)
{
	put32(b, (int32_t)length);
	buf_add(b, data, length);
}

static void array_text(struct buf *b, const char *text)
{
	if (text)
		array_bytes(b, text, strlen(text));
	else
		put32(b, -1);
}

static void array_time(struct buf *b, int64_t unix_us)
{
	put32(b, 8);
	put64(b, unix_us - postgres_epoch);
}

/* An array's first element alone; NULL is no data. */
static void array_first(const struct buf *array, const char **data, int *length)
{
	uint32_t wire;

	memcpy(&wire, array->data + ARRAY_HEAD, sizeof(wire));
	*length = (int)ntohl(wire);
	*data = *length < 0 ? NULL : array->data + ARRAY_HEAD + ELEMENT_HEAD;
}

static bool send_query(struct database *db, const char *query, const Oid *types,
		       const struct buf *parameters, int count)
{
	const char *values[MAX_PARAMETERS] = { NULL };
	int lengths[MAX_PARAMETERS] = { 0 }, formats[MAX_PARAMETERS] = { 0 };

	for (int i = 0; i < count; i++) {
		values[i] = parameters[i].data;
		lengths[i] = (int)parameters[i].length;
		formats[i] = 1;
	}
	return PQsendQueryParams(db->conn, query, count, types, values, lengths,
				 formats, 1) == 1;
}

/* Ends a transaction: what was sent since the last one is its own. */
static bool send_sync(struct database *db, enum database_request task)
{
	if (db->pending_count == MAX_PENDING || PQpipelineSync(db->conn) != 1)
		return false;
	db->pending[db->pending_count++] =
		(struct pending_request){ .request = task };
	db->flush_wanted = true;
	return true;
}

/* humcli.record() with the parameters as they stand. */
static bool send_record(struct database *db)
{
	static const Oid types[RECORD_PARAMETERS] = { OID_TEXT_ARRAY,
						      OID_TEXT_ARRAY,
						      OID_TEXT_ARRAY,
						      OID_TEXT_ARRAY,
						      OID_TIMESTAMPTZ_ARRAY,
						      OID_TIMESTAMPTZ_ARRAY,
						      OID_TEXT_ARRAY,
						      OID_TEXT_ARRAY,
						      OID_JSON_ARRAY,
						      OID_INTERVAL,
						      OID_BOOL };

	return send_query(db,
			  "SELECT place, outcome, id FROM humcli.record("
			  "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
			  types, db->parameters, RECORD_PARAMETERS);
}

static const Oid event_types[] = { OID_TEXT, OID_TEXT,	      OID_TEXT,
				   OID_TEXT, OID_TIMESTAMPTZ, OID_TIMESTAMPTZ,
				   OID_TEXT, OID_TEXT,	      OID_JSON };

/* humcli.record_next() with the one event that is in the parameters. */
static bool send_record_next(struct database *db)
{
	const char *values[ARRAY_SIZE(event_types)];
	int lengths[ARRAY_SIZE(event_types)], formats[ARRAY_SIZE(event_types)];

	for (size_t i = 0; i < ARRAY_SIZE(event_types); i++) {
		array_first(&db->parameters[i], &values[i], &lengths[i]);
		formats[i] = 1;
	}
	return PQsendQueryParams(db->conn,
				 "SELECT humcli.record_next("
				 "$1, $2, $3, $4, $5, $6, $7, $8, $9)",
				 ARRAY_SIZE(event_types), event_types, values,
				 lengths, formats, 1) == 1;
}

static void fill_event_parameters(struct database *db,
				  struct delivery *const *batch, size_t count,
				  size_t events, int64_t window_us, bool notify)
{
	struct buf *p = db->parameters;
	size_t place = 0;

	for (size_t i = 0; i < ARRAY_SIZE(event_types); i++)
		array_start(&p[i], events, (int32_t)event_types[i]);
	for (size_t i = 0; i < count; i++) {
		const struct delivery *d = batch[i];

		if (d->reason)
			continue;
		db->event_indexes[place++] = i;
		array_text(&p[0], d->event.event);
		array_text(&p[1], d->event.task_id);
		array_text(&p[2], d->event.status);
		array_text(&p[3], d->event.previous_status);
		array_time(&p[4], d->event.occurred_at);
		array_time(&p[5], d->received_at);
		array_text(&p[6], d->secret_name);
		array_text(&p[7], d->signature);
		array_bytes(&p[8], d->payload, d->length);
	}
	db->event_count = place;
	p[9].length = p[10].length = 0;
	put64(&p[9], window_us);
	put32(&p[9], 0); /* days */
	put32(&p[9], 0); /* months */
	buf_add(&p[10], notify ? "\1" : "\0", 1);
}

static bool send_quarantine(struct database *db, struct delivery *const *batch,
			    size_t count, size_t set_aside)
{
	static const Oid types[] = { OID_TIMESTAMPTZ_ARRAY, OID_TEXT_ARRAY,
				     OID_TEXT_ARRAY, OID_TEXT_ARRAY,
				     OID_BYTEA_ARRAY };
	static const int32_t elements[] = { OID_TIMESTAMPTZ, OID_TEXT, OID_TEXT,
					    OID_TEXT, OID_BYTEA };
	struct buf *p = db->parameters;

	for (size_t i = 0; i < ARRAY_SIZE(elements); i++)
		array_start(&p[i], set_aside, elements[i]);
	for (size_t i = 0; i < count; i++) {
		const struct delivery *d = batch[i];

		if (!d->reason)
			continue;
		array_time(&p[0], d->received_at);
		array_text(&p[1], d->reason);
		array_text(&p[2], d->secret_name);
		array_text(&p[3], d->signature);
		array_bytes(&p[4], d->payload, d->length);
	}
	return send_query(db,
			  "SELECT humcli.quarantine_add($1, $2, $3, $4, $5)",
			  types, db->parameters, ARRAY_SIZE(types));
}

bool database_send_record(struct database *db, struct delivery *const *batch,
			  size_t count, int64_t window_us, bool notify)
{
	size_t events = 0;

	for (size_t i = 0; i < count; i++)
		events += batch[i]->reason == NULL;
	db->event_indexes =
		xrealloc(db->event_indexes, count * sizeof(*db->event_indexes));
	/* Nothing at all still goes the way of events: it tries the way. */
	if (events || !count)
		fill_event_parameters(db, batch, count, events, window_us,
				      notify);
	/* Who notifies at once has but this one event to bring. */
	if (notify && events == 1 && count == 1) {
		if (!send_record_next(db) || !send_sync(db, DATABASE_RECORD))
			return false;
		db->pending[db->pending_count - 1].is_record_next = true;
		return true;
	}
	if ((events || !count) && !send_record(db))
		return false;
	if (events < count &&
	    !send_quarantine(db, batch, count, count - events))
		return false;
	return send_sync(db, DATABASE_RECORD);
}

bool database_send_notify(struct database *db, const int64_t *ids, size_t count)
{
	static const Oid types[] = { OID_INT8_ARRAY };
	struct buf *p = &db->parameters[RECORD_PARAMETERS];

	array_start(p, count, OID_INT8);
	for (size_t i = 0; i < count; i++) {
		put32(p, 8);
		put64(p, ids[i]);
	}
	return send_query(db, "SELECT humcli.notify($1)", types, p, 1) &&
	       send_sync(db, DATABASE_NOTIFY);
}

bool database_send_ping(struct database *db)
{
	return send_query(db, "SELECT 1", NULL, NULL, 0) &&
	       send_sync(db, DATABASE_PING);
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

static bool row_outcome(const char *word, enum row_outcome *outcome)
{
	static const char *const words[] = {
		[ROW_RECORDED] = "recorded", [ROW_DUPLICATE] = "duplicate",
		[ROW_REPEAT] = "repeat",     [ROW_BUSY] = "busy",
		[ROW_PROMOTED] = "promoted",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*outcome = (enum row_outcome)i;
			return true;
		}
	}
	return false;
}

static bool read_row(const struct database *db, const PGresult *result, int i,
		     struct database_row *row)
{
	uint32_t place;
	uint64_t id = 0;

	if (PQnfields(result) != 3 || PQgetlength(result, i, 0) != 4 ||
	    !row_outcome(PQgetvalue(result, i, 1), &row->outcome))
		return false;
	memcpy(&place, PQgetvalue(result, i, 0), sizeof(place));
	place = ntohl(place);
	if (place < 1 || place > db->event_count)
		return false;
	row->index = db->event_indexes[place - 1];
	if (!PQgetisnull(result, i, 2)) {
		if (PQgetlength(result, i, 2) != 8)
			return false;
		memcpy(&id, PQgetvalue(result, i, 2), sizeof(id));
	}
	row->id = (int64_t)be64toh(id);
	return true;
}

static void reserve_rows(struct database *db, size_t count)
{
	if (db->row_capacity >= count)
		return;
	db->rows = xrealloc(db->rows, count * sizeof(*db->rows));
	db->row_capacity = count;
}

static bool read_rows(struct database *db, const PGresult *result)
{
	size_t count = (size_t)PQntuples(result);

	reserve_rows(db, count);
	db->row_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (!read_row(db, result, (int)i, &db->rows[i]))
			return false;
		db->row_count++;
	}
	return true;
}

/* What humcli.record_next() gives: the id, or NULL where it did nothing. */
static bool read_next(struct database *db, const PGresult *result)
{
	uint64_t id;

	db->row_count = 0;
	if (PQntuples(result) != 1 || PQnfields(result) != 1)
		return false;
	if (PQgetisnull(result, 0, 0))
		return true;
	if (PQgetlength(result, 0, 0) != 8)
		return false;
	memcpy(&id, PQgetvalue(result, 0, 0), sizeof(id));
	reserve_rows(db, 1);
	db->rows[0] = (struct database_row){ .index = db->event_indexes[0],
					     .outcome = ROW_RECORDED,
					     .id = (int64_t)be64toh(id) };
	db->row_count = 1;
	return true;
}

static void fail_request(struct pending_request *s, const char *sqlstate,
			 const char *message)
{
	if (s->failed)
		return;
	s->failed = true;
	snprintf(s->sqlstate, sizeof(s->sqlstate), "%s",
		 sqlstate ? sqlstate : "");
	pq_one_line(s->message, sizeof(s->message), message ? message : "");
}

/* One PGresult of the oldest transaction; true when that is at its end. */
static bool read_result(struct database *db, const PGresult *result)
{
	struct pending_request *s = &db->pending[0];

	switch (PQresultStatus(result)) {
	case PGRES_PIPELINE_SYNC:
		return true;
	case PGRES_TUPLES_OK:
		if (s->is_record_next ? !read_next(db, result)
				      : s->request == DATABASE_RECORD &&
						PQnfields(result) == 3 &&
						!read_rows(db, result))
			fail_request(s, "42804",
				     "humcli.record() gave rows of another "
				     "form; is sql/install.sql newer?");
		return false;
	case PGRES_COMMAND_OK:
	case PGRES_PIPELINE_ABORTED:
		return false;
	default:
		fail_request(s, PQresultErrorField(result, PG_DIAG_SQLSTATE),
			     PQresultErrorField(result,
						PG_DIAG_MESSAGE_PRIMARY));
		return false;
	}
}

/*
 * The event at hand is no usual one, or the schema is older than we are:
 * nothing has happened yet, and humcli.record() knows what to do.
 */
static bool needs_full_record(const struct database *db)
{
	const struct pending_request *s = &db->pending[0];

	return s->is_record_next &&
	       (s->failed ? strcmp(s->sqlstate, "42883") == 0
			  : db->row_count == 0);
}

static struct pending_request pop_request(struct database *db)
{
	struct pending_request s = db->pending[0];

	db->pending_count--;
	memmove(&db->pending[0], &db->pending[1],
		db->pending_count * sizeof(s));
	return s;
}

static void make_result(struct database *db, struct database_result *result)
{
	struct pending_request s = pop_request(db);

	*result = (struct database_result){
		.request = s.request,
		.committed = !s.failed,
		.rows = db->rows,
		.count = s.failed || s.request != DATABASE_RECORD
				 ? 0
				 : db->row_count,
	};
	memcpy(result->sqlstate, s.sqlstate, sizeof(s.sqlstate));
	memcpy(result->message, s.message, sizeof(s.message));
	if (s.request == DATABASE_RECORD)
		db->row_count = 0;
}

enum database_status database_next(struct database *db,
				   struct database_result *result)
{
	bool end, between = false;

	while (db->pending_count && !PQisBusy(db->conn)) {
		PGresult *r = PQgetResult(db->conn);

		if (!r) {
			/* One stands between two queries, never two. */
			if (between || PQstatus(db->conn) != CONNECTION_OK)
				return DATABASE_LOST;
			between = true;
			continue;
		}
		between = false;
		end = read_result(db, r);
		PQclear(r);
		if (PQstatus(db->conn) != CONNECTION_OK)
			return DATABASE_LOST;
		if (end && needs_full_record(db)) {
			pop_request(db);
			if (!send_record(db) ||
			    !send_sync(db, DATABASE_RECORD) ||
			    !database_flush(db))
				return DATABASE_LOST;
		} else if (end) {
			make_result(db, result);
			return DATABASE_RESULT;
		}
	}
	return DATABASE_NOTHING;
}
