#include "cli/consumer/event_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/parse.h"

enum { QUERY_TIMEOUT_MS = 30000 };

/* The class of the advisory locks of consumers, "huml" (recording: "humc"). */
#define CLAIM_CLASS "1752526188"

/* For to_char(). */
#define AS_UTC " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'"

void claimed_event_free(struct claimed_event *i)
{
	struct recorded *e = &i->event;
	char *const all[] = {
		e->id,		e->event,	    e->task_id,
		e->status,	e->previous_status, e->occurred_at,
		e->received_at, e->payload,	    i->position
	};

	for (size_t n = 0; n < ARRAY_SIZE(all); n++)
		free(all[n]);
	*i = (struct claimed_event){ 0 };
}

enum query_status event_source_open(const struct event_source *f,
				    struct session *s, bool *made)
{
	const char *values[] = { f->name, f->from ? f->from : "now",
				 f->statuses };
	struct rows *rows = NULL;
	enum query_status a =
		session_query(s,
			      "SELECT humcli.subscribe($1, $2, "
			      "pg_catalog.string_to_array($3, ','))",
			      values, 3, QUERY_TIMEOUT_MS, &rows);

	*made = a == QUERY_OK && strcmp(rows_get(rows, 0, 0), "t") == 0;
	rows_free(rows);
	return a;
}

/* Asks for one value; copied out, "" for NULL and where there is no answer. */
static enum query_status query_one_value(struct session *s, const char *query,
					 const char *const *values,
					 size_t count, char *value, size_t size)
{
	struct rows *rows = NULL;
	enum query_status a =
		session_query(s, query, values, count, QUERY_TIMEOUT_MS, &rows);
	const char *got = NULL;

	if (a == QUERY_OK && rows_count(rows) > 0)
		got = rows_get(rows, 0, 0);
	snprintf(value, size, "%s", got ? got : "");
	rows_free(rows);
	return a;
}

enum query_status event_source_has_pools(struct session *s, bool *has)
{
	char value[8];
	enum query_status a =
		query_one_value(s,
				"SELECT pg_catalog.to_regprocedure("
				"'humcli.claim(text, text, integer, "
				"interval)') IS NOT NULL",
				NULL, 0, value, sizeof(value));

	*has = strcmp(value, "t") == 0;
	return a;
}

static char *copy(const struct rows *r, size_t row, size_t column)
{
	const char *value = rows_get(r, row, column);

	return value ? xstrdup(value) : NULL;
}

static void read_item(const struct rows *r, size_t row, struct claimed_event *i)
{
	*i = (struct claimed_event){
		.event = { copy(r, row, 0), copy(r, row, 1), copy(r, row, 2),
			   copy(r, row, 3), copy(r, row, 4), copy(r, row, 5),
			   copy(r, row, 6), copy(r, row, 7) },
		.position = copy(r, row, 8),
	};
	if (!parse_u64(rows_get(r, row, 9), 1, UINT64_MAX, &i->attempt))
		i->attempt = 1;
}

/* An interval. */
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
	"pg_catalog.to_char(received_at" AS_UTC "), payload, "

enum query_status event_source_fetch(const struct event_source *f,
				     struct session *s, size_t max,
				     struct claimed_event *items, size_t *count)
{
	char rows_wanted[16];
	struct interval lease = interval_of(f->lease_ms);
	const char *values[] = { f->name, rows_wanted, f->worker, lease.text };
	/* The lease runs from a moment after this one. */
	int64_t until = monotonic_ms() + f->lease_ms;
	struct rows *rows = NULL;
	enum query_status a;

	snprintf(rows_wanted, sizeof(rows_wanted), "%zu", max);
	a = session_query(s,
			  f->worker ? COLUMNS "claim_no, attempt FROM "
					      "humcli.claim($1, $3, $2, $4)"
				    : COLUMNS "position, 1 FROM "
					      "humcli.fetch($1, $2)",
			  values, f->worker ? 4 : 2, QUERY_TIMEOUT_MS, &rows);

	*count = 0;
	if (a != QUERY_OK)
		return a;
	for (; *count < rows_count(rows) && *count < max; (*count)++) {
		read_item(rows, *count, &items[*count]);
		items[*count].until = until;
	}
	rows_free(rows);
	return a;
}

static enum query_status acknowledge(const struct event_source *f,
				     struct session *s,
				     const struct claimed_event *i, bool *lost)
{
	const char *values[] = { f->name, i->position };
	enum query_status a = session_query(s, "SELECT humcli.ack($1, $2)",
					    values, 2, QUERY_TIMEOUT_MS, NULL);

	*lost = a == QUERY_REFUSED && strcmp(session_sqlstate(s), "40001") == 0;
	return *lost ? QUERY_OK : a;
}

enum query_status event_source_ack(const struct event_source *f,
				   struct session *s,
				   const struct claimed_event *i, bool *lost)
{
	const char *values[] = { f->name, i->event.id, i->position };
	char value[8];
	enum query_status a;

	if (!f->worker)
		return acknowledge(f, s, i, lost);
	a = query_one_value(s, "SELECT humcli.complete($1, $2, $3)", values, 3,
			    value, sizeof(value));
	*lost = strcmp(value, "f") == 0;
	return a;
}

enum query_status event_source_fail(const struct event_source *f,
				    struct session *s,
				    const struct claimed_event *i,
				    const char *error, int64_t retry_ms,
				    enum fail_result *fate)
{
	struct interval retry = interval_of(retry_ms);
	const char *values[] = { f->name, i->event.id, i->position, error,
				 retry_ms < 0 ? NULL : retry.text };
	char value[8];
	enum query_status a =
		query_one_value(s, "SELECT humcli.fail($1, $2, $3, $4, $5)",
				values, 5, value, sizeof(value));

	*fate = strcmp(value, "retry") == 0  ? FAIL_RETRY
		: strcmp(value, "dead") == 0 ? FAIL_DEAD
					     : FAIL_LOST;
	return a;
}

enum query_status event_source_extend(const struct event_source *f,
				      struct session *s,
				      struct claimed_event *i, bool *lost)
{
	struct interval lease = interval_of(f->lease_ms);
	const char *values[] = { f->name, i->event.id, i->position,
				 lease.text };
	int64_t until = monotonic_ms() + f->lease_ms;
	char value[8];
	enum query_status a =
		query_one_value(s, "SELECT humcli.extend($1, $2, $3, $4)",
				values, 4, value, sizeof(value));

	*lost = strcmp(value, "f") == 0;
	if (strcmp(value, "t") == 0)
		i->until = until;
	return a;
}

/*
 * What is due and was not given to us waits for another event of its task,
 * or another worker just had it: again after a second.
 */
enum query_status event_source_next_due(const struct event_source *f,
					struct session *s, int64_t *ms)
{
	const char *values[] = { f->name };
	char value[24];
	uint64_t pause;
	enum query_status a = query_one_value(
		s,
		"SELECT pg_catalog.ceil(least(86400000, greatest(1000, "
		"1000 * pg_catalog.date_part('epoch', n.due - "
		"pg_catalog.clock_timestamp())))) "
		"FROM (SELECT pg_catalog.min(j.due) AS due "
		"FROM humcli.jobs j WHERE j.subscription = $1) n "
		"WHERE n.due IS NOT NULL",
		values, 1, value, sizeof(value));

	*ms = parse_u64(value, 0, INT64_MAX, &pause) ? (int64_t)pause
						     : INT64_MAX;
	return a;
}

enum query_status event_source_lock(const struct event_source *f,
				    struct session *s, enum lock_scope to,
				    bool *granted)
{
	static const char *const queries[] = {
		[LOCK_SESSION] =
			"SELECT pg_catalog.pg_try_advisory_lock(" CLAIM_CLASS
			", pg_catalog.hashtext($1))",
		[LOCK_TRANSACTION] = "SELECT pg_catalog."
				     "pg_try_advisory_xact_lock(" CLAIM_CLASS
				     ", pg_catalog.hashtext($1))",
	};
	const char *values[] = { f->name };
	struct rows *rows = NULL;
	enum query_status a = QUERY_OK;

	*granted = false;
	if (to == LOCK_TRANSACTION)
		a = session_query(s, "BEGIN", NULL, 0, QUERY_TIMEOUT_MS, NULL);
	if (a == QUERY_OK)
		a = session_query(s, queries[to], values, 1, QUERY_TIMEOUT_MS,
				  &rows);
	if (a == QUERY_OK)
		*granted = strcmp(rows_get(rows, 0, 0), "t") == 0;
	rows_free(rows);
	return a;
}
