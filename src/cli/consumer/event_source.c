/*
 * The consumer's SQL, a function a question. Knows nothing of the loop: each
 * call asks once, waits for the answer and says how it went. A function of
 * another schema version can give no row; that is refused, not read.
 */
#include "cli/consumer/event_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/parse.h"

enum { QUERY_TIMEOUT_MS = 30000 };

/* The class of the consumer locks, "huml" (the recording's is "humc"). */
#define LOCK_CLASS "1752526188"

/* For to_char(). */
#define AS_UTC " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'"

void claimed_event_free(struct claimed_event *e)
{
	struct recorded *r = &e->event;
	char *const all[] = {
		r->id,		r->event,	    r->task_id,
		r->status,	r->previous_status, r->occurred_at,
		r->received_at, r->secret_name,	    r->signature,
		r->payload,	e->position
	};

	for (size_t n = 0; n < ARRAY_SIZE(all); n++)
		free(all[n]);
	*e = (struct claimed_event){ 0 };
}

/*
 * Asks a function of the schema for one value. No row, or NULL, is refused:
 * the function then is of another schema version.
 */
static enum query_status query_one_value(struct session *s, const char *query,
					 const char *const *values,
					 size_t count, char *value, size_t size)
{
	struct rows *rows = NULL;
	enum query_status status =
		session_query(s, query, values, count, QUERY_TIMEOUT_MS, &rows);
	const char *got = NULL;

	if (status == QUERY_OK && rows_count(rows) > 0)
		got = rows_get(rows, 0, 0);
	snprintf(value, size, "%s", got ? got : "");
	rows_free(rows);
	return status == QUERY_OK && !got ? session_reject(s, query) : status;
}

enum query_status event_source_open(const struct event_source *source,
				    struct session *s, bool *made)
{
	const char *values[] = { source->name,
				 source->from ? source->from : "now",
				 source->statuses, source->secrets };
	char value[8];
	enum query_status status =
		query_one_value(s,
				"SELECT humcli.subscribe($1, $2, "
				"pg_catalog.string_to_array($3, ','), "
				"pg_catalog.string_to_array($4, ','))",
				values, 4, value, sizeof(value));

	*made = strcmp(value, "t") == 0;
	return status;
}

enum query_status event_source_has_pools(struct session *s, bool *has)
{
	char value[8];
	enum query_status status =
		query_one_value(s,
				"SELECT pg_catalog.to_regprocedure("
				"'humcli.claim(text, text, integer, "
				"interval)') IS NOT NULL",
				NULL, 0, value, sizeof(value));

	*has = strcmp(value, "t") == 0;
	return status;
}

static char *copy(const struct rows *r, size_t row, size_t column)
{
	const char *value = rows_get(r, row, column);

	return value ? xstrdup(value) : NULL;
}

/* Returns false if a column that is needed is NULL. */
static bool read_event(const struct rows *r, size_t row,
		       struct claimed_event *e)
{
	const char *attempt = rows_get(r, row, 11);

	*e = (struct claimed_event){
		.event = { copy(r, row, 0), copy(r, row, 1), copy(r, row, 2),
			   copy(r, row, 3), copy(r, row, 4), copy(r, row, 5),
			   copy(r, row, 6), copy(r, row, 7), copy(r, row, 8),
			   copy(r, row, 9) },
		.position = copy(r, row, 10),
	};
	if (!attempt || !parse_u64(attempt, 1, UINT64_MAX, &e->attempt))
		e->attempt = 1;
	return e->event.id && e->event.event && e->event.task_id &&
	       e->event.status && e->event.payload && e->position;
}

/* The text of an interval. */
struct interval {
	char text[32];
};

static struct interval interval_of(int64_t ms)
{
	struct interval i;

	snprintf(i.text, sizeof(i.text), "%lld ms", (long long)ms);
	return i;
}

#define COLUMNS                                                \
	"SELECT id, event, task_id, status, previous_status, " \
	"pg_catalog.to_char(occurred_at" AS_UTC "), "          \
	"pg_catalog.to_char(received_at" AS_UTC "), "          \
	"secret_name, signature, payload, "

enum query_status event_source_fetch(const struct event_source *source,
				     struct session *s, size_t max,
				     struct claimed_event *events,
				     size_t *count)
{
	char rows_wanted[16];
	struct interval lease = interval_of(source->lease_ms);
	const char *values[] = { source->name, rows_wanted, source->worker,
				 lease.text };
	/* The server starts the lease later than this, never earlier. */
	int64_t until = boottime_ms() + source->lease_ms;
	struct rows *rows = NULL;
	bool complete = true;
	enum query_status status;

	snprintf(rows_wanted, sizeof(rows_wanted), "%zu", max);
	status = session_query(s,
			       source->worker ? COLUMNS
				       "claim_no, attempt FROM "
				       "humcli.claim($1, $3, $2, $4)"
					      : COLUMNS "position, 1 FROM "
							"humcli.fetch($1, $2)",
			       values, source->worker ? 4 : 2, QUERY_TIMEOUT_MS,
			       &rows);

	*count = 0;
	if (status != QUERY_OK)
		return status;
	for (; *count < rows_count(rows) && *count < max; (*count)++) {
		complete &= read_event(rows, *count, &events[*count]);
		events[*count].until = until;
	}
	rows_free(rows);
	if (complete)
		return QUERY_OK;
	while (*count)
		claimed_event_free(&events[--*count]);
	return session_reject(s, source->worker ? "humcli.claim()"
						: "humcli.fetch()");
}

static enum query_status acknowledge(const struct event_source *source,
				     struct session *s,
				     const struct claimed_event *e, bool *lost)
{
	const char *values[] = { source->name, e->position };
	enum query_status status = session_query(s, "SELECT humcli.ack($1, $2)",
						 values, 2, QUERY_TIMEOUT_MS,
						 NULL);

	*lost = status == QUERY_REFUSED &&
		strcmp(session_sqlstate(s), "40001") == 0;
	return *lost ? QUERY_OK : status;
}

enum query_status event_source_ack(const struct event_source *source,
				   struct session *s,
				   const struct claimed_event *e, bool *lost)
{
	const char *values[] = { source->name, e->event.id, e->position };
	char value[8];
	enum query_status status;

	if (!source->worker)
		return acknowledge(source, s, e, lost);
	status = query_one_value(s, "SELECT humcli.complete($1, $2, $3)",
				 values, 3, value, sizeof(value));
	*lost = strcmp(value, "f") == 0;
	return status;
}

enum query_status event_source_fail(const struct event_source *source,
				    struct session *s,
				    const struct claimed_event *e,
				    const char *error, int64_t retry_ms,
				    enum fail_result *result)
{
	struct interval retry = interval_of(retry_ms);
	const char *values[] = { source->name, e->event.id, e->position, error,
				 retry_ms < 0 ? NULL : retry.text };
	char value[8];
	enum query_status status =
		query_one_value(s, "SELECT humcli.fail($1, $2, $3, $4, $5)",
				values, 5, value, sizeof(value));

	*result = strcmp(value, "retry") == 0  ? FAIL_RETRY
		  : strcmp(value, "dead") == 0 ? FAIL_DEAD
					       : FAIL_LOST;
	return status;
}

enum query_status event_source_extend(const struct event_source *source,
				      struct session *s,
				      struct claimed_event *e, bool *lost)
{
	struct interval lease = interval_of(source->lease_ms);
	const char *values[] = { source->name, e->event.id, e->position,
				 lease.text };
	int64_t until = boottime_ms() + source->lease_ms;
	char value[8];
	enum query_status status =
		query_one_value(s, "SELECT humcli.extend($1, $2, $3, $4)",
				values, 4, value, sizeof(value));

	*lost = strcmp(value, "f") == 0;
	if (strcmp(value, "t") == 0)
		e->until = until;
	return status;
}

/*
 * Asks for the earliest due time. The result is at least one second, because an
 * event that is due and was not claimed waits for another event of its task, or
 * another worker has just claimed it.
 */
enum query_status event_source_next_due(const struct event_source *source,
					struct session *s, int64_t *ms)
{
	const char *values[] = { source->name };
	char value[24];
	uint64_t pause;
	enum query_status status = query_one_value(
		s,
		"SELECT CASE WHEN n.due IS NULL THEN '' ELSE "
		"pg_catalog.ceil(least(86400000, greatest(1000, "
		"1000 * pg_catalog.date_part('epoch', n.due - "
		"pg_catalog.clock_timestamp()))))::text END "
		"FROM (SELECT pg_catalog.min(j.due) AS due "
		"FROM humcli.jobs j WHERE j.subscription = $1) n",
		values, 1, value, sizeof(value));

	*ms = parse_u64(value, 0, INT64_MAX, &pause) ? (int64_t)pause
						     : INT64_MAX;
	return status;
}

enum query_status event_source_lock(const struct event_source *source,
				    struct session *s, enum lock_scope to,
				    bool *granted)
{
	static const char *const queries[] = {
		[LOCK_SESSION] =
			"SELECT pg_catalog.pg_try_advisory_lock(" LOCK_CLASS
			", pg_catalog.hashtext($1))",
		[LOCK_TRANSACTION] = "SELECT pg_catalog."
				     "pg_try_advisory_xact_lock(" LOCK_CLASS
				     ", pg_catalog.hashtext($1))",
	};
	const char *values[] = { source->name };
	char value[8] = "";
	enum query_status status = QUERY_OK;

	if (to == LOCK_TRANSACTION)
		status = session_begin(s, QUERY_TIMEOUT_MS);
	if (status == QUERY_OK)
		status = query_one_value(s, queries[to], values, 1, value,
					 sizeof(value));
	*granted = strcmp(value, "t") == 0;
	return status;
}
