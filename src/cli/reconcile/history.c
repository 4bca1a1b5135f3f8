/*
 * Owns the SQL of reconcile. Reads what is recorded through the views, as any
 * reader does, and records through functions that only humcli_reconciler may
 * call. Must not know how HumCLI is asked.
 */
#include "cli/reconcile/history.h"

#include "base/alloc.h"
#include "event/event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char statuses_sql[] =
	"SELECT s.status, s.timestamp_field, s.terminal::int "
	"FROM humcli.statuses s ORDER BY s.status";

/* $1: the ids of the tasks that HumCLI lists. */
static const char tasks_sql[] =
	"SELECT t.task_id, t.status, t.agent, t.is_open::int FROM ("
	"SELECT c.task_id, c.status, coalesce(e.secret_name, e.key_name) "
	"AS agent, c.terminal IS NOT TRUE AND NOT EXISTS ("
	"SELECT FROM (SELECT r.http_status, r.read_at FROM humcli.readings r "
	"WHERE r.task_id = c.task_id ORDER BY r.read_at DESC, r.id DESC LIMIT 1) n "
	"WHERE n.http_status IN (403, 404, 410) "
	"AND n.read_at > now() - interval '1 day') AS is_open "
	"FROM humcli.tasks c JOIN humcli.events e ON e.id = c.id "
	"WHERE c.terminal IS NOT TRUE OR c.task_id = ANY ($1::text[]) "
	"UNION ALL "
	"SELECT d.task_id, d.status, NULL, false FROM humcli.retired d "
	"WHERE d.task_id = ANY ($1::text[]) AND NOT EXISTS ("
	"SELECT FROM humcli.events e WHERE e.task_id = d.task_id)) t "
	"ORDER BY (SELECT max(r.read_at) FROM humcli.readings r "
	"WHERE r.task_id = t.task_id) NULLS FIRST, t.task_id";

static const char last_sql[] =
	"SELECT c.status, c.id::text, coalesce(e.secret_name, e.key_name) "
	"FROM humcli.tasks c JOIN humcli.events e ON e.id = c.id "
	"WHERE c.task_id = $1 "
	"UNION ALL "
	"SELECT d.status, d.event_id::text, NULL FROM humcli.retired d "
	"WHERE d.task_id = $1 AND NOT EXISTS ("
	"SELECT FROM humcli.events e WHERE e.task_id = d.task_id)";

static char *copy(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

int history_statuses(struct query *q, struct known_statuses *s)
{
	struct rows *rows = NULL;
	int code = query_run(q, statuses_sql, NULL, 0, &rows);

	*s = (struct known_statuses){ 0 };
	if (code != EX_OK)
		return code;
	s->list = xcalloc(rows_count(rows) + 1, sizeof(*s->list));
	for (size_t i = 0; i < rows_count(rows); i++)
		s->list[s->count++] = (struct known_status){
			.status = xstrdup(rows_text(rows, i, 0)),
			.timestamp_field = copy(rows_get(rows, i, 1)),
			.is_terminal = *rows_text(rows, i, 2) == '1'
		};
	rows_free(rows);
	return EX_OK;
}

void known_statuses_free(struct known_statuses *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->list[i].status);
		free(s->list[i].timestamp_field);
	}
	free(s->list);
	*s = (struct known_statuses){ 0 };
}

const char *known_statuses_field(const struct known_statuses *s,
				 const char *status)
{
	for (size_t i = 0; i < s->count; i++) {
		if (strcmp(s->list[i].status, status) == 0)
			return s->list[i].timestamp_field;
	}
	return NULL;
}

/* Appends the ids as PostgreSQL writes an array of texts. */
static void put_array(struct buf *b, const struct page *told)
{
	buf_add(b, "{", 1);
	for (size_t i = 0; i < told->count; i++) {
		buf_printf(b, "%s\"", i ? "," : "");
		for (const char *p = told->list[i].task_id; *p; p++) {
			if (*p == '"' || *p == '\\')
				buf_add(b, "\\", 1);
			buf_add(b, p, 1);
		}
		buf_add(b, "\"", 1);
	}
	buf_add(b, "}", 1);
}

int history_tasks(struct query *q, const struct page *told,
		  struct own_tasks *tasks)
{
	struct rows *rows = NULL;
	struct buf ids = { 0 };
	const char *value;
	int code;

	*tasks = (struct own_tasks){ 0 };
	put_array(&ids, told);
	value = ids.data;
	code = query_run(q, tasks_sql, &value, 1, &rows);
	buf_free(&ids);
	if (code != EX_OK)
		return code;
	tasks->list = xcalloc(rows_count(rows) + 1, sizeof(*tasks->list));
	for (size_t i = 0; i < rows_count(rows); i++)
		tasks->list[tasks->count++] = (struct own_task){
			.task_id = xstrdup(rows_text(rows, i, 0)),
			.status = xstrdup(rows_text(rows, i, 1)),
			.agent = copy(rows_get(rows, i, 2)),
			.is_open = *rows_text(rows, i, 3) == '1'
		};
	rows_free(rows);
	return EX_OK;
}

void own_tasks_free(struct own_tasks *tasks)
{
	for (size_t i = 0; i < tasks->count; i++) {
		free(tasks->list[i].task_id);
		free(tasks->list[i].status);
		free(tasks->list[i].agent);
	}
	free(tasks->list);
	*tasks = (struct own_tasks){ 0 };
}

int history_last(struct query *q, const char *task_id, struct last_event *last)
{
	struct rows *rows = NULL;
	int code = query_run(q, last_sql, &task_id, 1, &rows);

	*last = (struct last_event){ 0 };
	if (code == EX_OK && rows_count(rows))
		*last = (struct last_event){ copy(rows_get(rows, 0, 0)),
					     copy(rows_get(rows, 0, 1)),
					     copy(rows_get(rows, 0, 2)) };
	rows_free(rows);
	return code;
}

void last_event_free(struct last_event *last)
{
	free(last->status);
	free(last->id);
	free(last->agent);
	*last = (struct last_event){ 0 };
}

/* A time in us since 1970, as a parameter. */
enum { TIME_SIZE = 24 };

static void put_time(char text[TIME_SIZE], int64_t us)
{
	snprintf(text, TIME_SIZE, "%" PRId64, us);
}

#define TIME(n)                                      \
	"'1970-01-01 00:00:00Z'::timestamptz + $" #n \
	"::bigint * interval '1 microsecond'"

int history_add_reading(struct query *q, const struct reading *r)
{
	static const char sql[] =
		"SELECT humcli.add_reading($1, " TIME(2) ", $3::int, $4, $5)";
	char read_at[TIME_SIZE], status[24];
	bool is_text = r->body->length &&
		       utf8_valid(r->body->data, r->body->length) &&
		       !memchr(r->body->data, '\0', r->body->length);
	const char *values[] = { r->task_id, read_at, status,
				 is_text ? r->body->data : NULL, r->key };

	put_time(read_at, r->read_at);
	snprintf(status, sizeof(status), "%ld", r->http_status);
	return query_run(q, sql, values, 5, NULL);
}

static bool parse_outcome(const char *text, enum record_outcome *outcome)
{
	static const char *const names[] = {
		[STATUS_RECORDED] = "recorded",
		[STATUS_CURRENT] = "current",
		[STATUS_CHANGED] = "changed",
		[STATUS_BUSY] = "busy",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*outcome = (enum record_outcome)i;
			return true;
		}
	}
	return false;
}

int history_record(struct query *q, const struct reading *r,
		   const struct last_event *last, enum record_outcome *outcome,
		   char **id)
{
	static const char sql[] =
		"SELECT r.outcome, r.id::text FROM humcli.record_status_read("
		"$1, $2, $3::bigint, " TIME(4) ", " TIME(5) ", $6, $7::json) r";
	char occurred_at[TIME_SIZE], read_at[TIME_SIZE];
	const char *values[] = { r->task_id,   r->status,
				 last->id,     r->has_time ? occurred_at : NULL,
				 read_at,      r->key,
				 r->body->data };
	struct rows *rows = NULL;
	int code;

	*id = NULL;
	put_time(occurred_at, r->occurred_at);
	put_time(read_at, r->told_at);
	code = query_run(q, sql, values, ARRAY_SIZE(values), &rows);
	if (code == EX_OK && !parse_outcome(rows_text(rows, 0, 0), outcome)) {
		(void)session_reject(q->session, "record_status_read()");
		cli_error(q->verb, "%s", session_message(q->session));
		code = session_exit_code(q->session);
	}
	if (code == EX_OK)
		*id = xstrdup(rows_text(rows, 0, 1));
	rows_free(rows);
	return code;
}

int history_add_run(struct query *q, const struct run_result *r)
{
	static const char sql[] = "SELECT humcli.add_reconcile_run(" TIME(
		1) ", $2::int, $3::int, $4::int, $5::int, $6)";
	char started_at[TIME_SIZE];
	char numbers[4][16];
	const unsigned counts[] = { r->requests, r->tasks, r->repaired,
				    r->denied };
	const char *values[] = { started_at, numbers[0], numbers[1],
				 numbers[2], numbers[3], r->fault };

	put_time(started_at, r->started_at);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		snprintf(numbers[i], sizeof(numbers[i]), "%u", counts[i]);
	return query_run(q, sql, values, ARRAY_SIZE(values), NULL);
}
