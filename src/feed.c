#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_MS = 30000 };

/* The class of the advisory locks of consumers, "huml" (recording: "humc"). */
#define CLAIM_CLASS "1752526188"

/* For to_char(). */
#define AS_UTC " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'"

void item_free(struct item *i)
{
	struct recorded *e = &i->event;
	char *const all[] = {
		e->id,		e->event,	    e->task_id,
		e->status,	e->previous_status, e->occurred_at,
		e->received_at, e->payload,	    i->position
	};

	for (size_t n = 0; n < ARRAY_SIZE(all); n++)
		free(all[n]);
	*i = (struct item){ 0 };
}

enum answer feed_open(const struct feed *f, struct session *s, bool *made)
{
	const char *values[] = { f->name, f->from ? f->from : "now",
				 f->statuses };
	struct rows *rows = NULL;
	enum answer a = session_ask(s,
				    "SELECT humcli.subscribe($1, $2, "
				    "pg_catalog.string_to_array($3, ','))",
				    values, 3, ASK_MS, &rows);

	*made = a == ANSWER_OK && strcmp(rows_get(rows, 0, 0), "t") == 0;
	rows_free(rows);
	return a;
}

static char *copy(const struct rows *r, size_t row, size_t column)
{
	const char *value = rows_get(r, row, column);

	return value ? xstrdup(value) : NULL;
}

static void read_item(const struct rows *r, size_t row, struct item *i)
{
	*i = (struct item){
		.event = { copy(r, row, 0), copy(r, row, 1), copy(r, row, 2),
			   copy(r, row, 3), copy(r, row, 4), copy(r, row, 5),
			   copy(r, row, 6), copy(r, row, 7) },
		.position = copy(r, row, 8),
		.attempt = 1,
	};
}

enum answer feed_take(const struct feed *f, struct session *s,
		      struct item *items, size_t *count)
{
	char max[16];
	const char *values[] = { f->name, max };
	struct rows *rows = NULL;
	enum answer a;

	snprintf(max, sizeof(max), "%d", FEED_MAX);
	a = session_ask(s,
			"SELECT id, event, task_id, status, previous_status, "
			"pg_catalog.to_char(occurred_at" AS_UTC "), "
			"pg_catalog.to_char(received_at" AS_UTC "), "
			"payload, position "
			"FROM humcli.fetch($1, $2)",
			values, 2, ASK_MS, &rows);

	*count = 0;
	if (a != ANSWER_OK)
		return a;
	for (; *count < rows_count(rows) && *count < FEED_MAX; (*count)++)
		read_item(rows, *count, &items[*count]);
	rows_free(rows);
	return a;
}

enum answer feed_done(const struct feed *f, struct session *s,
		      const struct item *i)
{
	const char *values[] = { f->name, i->position };

	return session_ask(s, "SELECT humcli.ack($1, $2)", values, 2, ASK_MS,
			   NULL);
}

enum answer feed_claim(const struct feed *f, struct session *s,
		       enum claim_to to, bool *granted)
{
	static const char *const queries[] = {
		[CLAIM_SESSION] =
			"SELECT pg_catalog.pg_try_advisory_lock(" CLAIM_CLASS
			", pg_catalog.hashtext($1))",
		[CLAIM_TRANSACTION] = "SELECT pg_catalog."
				      "pg_try_advisory_xact_lock(" CLAIM_CLASS
				      ", pg_catalog.hashtext($1))",
	};
	const char *values[] = { f->name };
	struct rows *rows = NULL;
	enum answer a = ANSWER_OK;

	*granted = false;
	if (to == CLAIM_TRANSACTION)
		a = session_ask(s, "BEGIN", NULL, 0, ASK_MS, NULL);
	if (a == ANSWER_OK)
		a = session_ask(s, queries[to], values, 1, ASK_MS, &rows);
	if (a == ANSWER_OK)
		*granted = strcmp(rows_get(rows, 0, 0), "t") == 0;
	rows_free(rows);
	return a;
}
