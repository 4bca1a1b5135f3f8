/*
 * Questions to the database: a connection by the settings, and rows as an
 * aligned table or as lines of JSON.
 */
#ifndef QUERY_H
#define QUERY_H

#include "base/macros.h"
#include "cli/cli.h"
#include "cli/session.h"
#include "cli/table.h"
#include "config/settings.h"

#include <stdbool.h>
#include <stddef.h>

struct query {
	const struct verb *verb;
	struct settings settings;
	struct session *session;
	int stop; /* as for session_new(); set it before query_connect() */
};

/*
 * Loads the settings and connects, to a standby too; times are in UTC both
 * ways. Run by root it becomes the user postgres, where the settings are those
 * of the whole system and the database is on this machine. Returns EX_OK, or
 * the exit code of an error that was reported.
 */
int query_open(struct query *q, const struct verb *v) MUST_CHECK;
/* Opens the query for a verb that writes: a standby is passed over. */
int query_open_primary(struct query *q, const struct verb *v) MUST_CHECK;
/* Loads the settings: the first half of query_open_primary(). */
int query_load(struct query *q, const struct verb *v) MUST_CHECK;
/* Connects: the second half. */
int query_connect(struct query *q) MUST_CHECK;
/* Closes the query, also after one of the functions above failed. */
void query_close(struct query *q);

/*
 * Asks like session_query(), without a time limit. Returns EX_OK, or the exit
 * code of an error that was reported.
 */
int query_run(struct query *q, const char *sql, const char *const *values,
	      size_t count, struct rows **rows) MUST_CHECK;

/*
 * Reports why session_query() failed, and what helps. Returns the exit code;
 * EX_UNAVAILABLE if asking again may help.
 */
int query_report(const struct query *q, enum query_status status) MUST_CHECK;

/*
 * Calls a function that returns a count, into *changed. Returns EX_OK;
 * EX_CONFIG if it returned no number, because the schema is of another version;
 * otherwise as query_run().
 */
int query_count(struct query *q, const char *sql, const char *const *values,
		size_t count, uint64_t *changed) MUST_CHECK;

/* SQL for a timestamptz in the form of all output: ISO 8601, ms, Z. */
#define ISO_TIME(column)                                    \
	"pg_catalog.to_char(" column " AT TIME ZONE 'UTC'," \
	" 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

/*
 * SQL for the task_id of each task that has not ended, without tests, and the
 * occurred_at of its last event. Reads the index of the unique constraint
 * alone, backward; humcli.tasks would read all rows. If a task has several events
 * at its last moment and one ended it, the view says which of them came last.
 */
#define OPEN_TASKS                                                       \
	"SELECT l.task_id, l.occurred_at FROM ("                         \
	"SELECT DISTINCT ON (d.task_id) d.task_id, d.occurred_at, "      \
	"d.status FROM (SELECT DISTINCT ON (e.task_id, e.event) "        \
	"e.task_id, e.occurred_at, e.status FROM humcli.events e "       \
	"ORDER BY e.task_id DESC, e.event DESC, e.occurred_at DESC, "    \
	"e.status DESC) d ORDER BY d.task_id DESC, d.occurred_at DESC) " \
	"l WHERE l.status <> ALL (ARRAY(SELECT s.status "                \
	"FROM humcli.statuses s WHERE s.terminal)) "                     \
	"AND strpos(l.task_id, 'task_test_') <> 1 "                      \
	"AND CASE WHEN EXISTS (SELECT FROM humcli.events f "             \
	"WHERE f.task_id = l.task_id AND f.occurred_at = l.occurred_at " \
	"AND f.status = ANY (ARRAY(SELECT s.status "                     \
	"FROM humcli.statuses s WHERE s.terminal))) "                    \
	"THEN (SELECT t.terminal FROM humcli.tasks t "                   \
	"WHERE t.task_id = l.task_id) IS NOT TRUE ELSE true END"

/*
 * SQL for the ids of the tasks of the newest 10,000 events. humcli.gaps finds
 * the gaps of such an array by an index, but reads all rows without a condition.
 */
#define RECENT_TASKS                             \
	"ARRAY(SELECT DISTINCT x.task_id FROM (" \
	"SELECT e.task_id FROM humcli.events e " \
	"ORDER BY e.id DESC LIMIT " RECENT_EVENTS ") x)"
#define RECENT_EVENTS "10000"

/* The values of --json and --wide, for printing rows. */
struct query_form {
	bool json;
	bool wide;
	/* Columns whose values tell of something wrong, with spaces between. */
	const char *wrong;
};
#define QUERY_FORM_OPTIONS(form)                                                  \
	{ "json", NULL, &(form).json, NULL,                                       \
	  "print one JSON object per line" },                                     \
	{                                                                         \
		"wide", NULL, &(form).wide, NULL,                                 \
			"print all columns, even if they do not fit the terminal" \
	}

/*
 * Runs a SELECT and prints its rows: a table as table_print() prints it, or for
 * JSON one object a line, whose keys are the columns. A column named payload or
 * body is only in the JSON. *printed is the number of rows; printed may be
 * NULL.
 */
int query_print(struct query *q, const char *sql, const char *const *values,
		size_t count, const struct query_form *form, size_t *printed);

/* Prints rows of several queries with equal columns, as one table. */
struct rows_printer {
	const struct query_form *form;
	struct table table;
};
/* Returns the SQL to run for a SELECT to be printed. The caller frees it. */
char *rows_printer_sql(const struct query_form *form,
		       const char *sql) MUST_CHECK;
/*
 * Appends the rows to out, as query_print() prints them; a row whose first
 * column is NULL is left out. Returns how many were appended.
 */
size_t rows_printer_add(struct rows_printer *p, const struct rows *r,
			struct buf *out);
void rows_printer_free(struct rows_printer *p);

#endif
