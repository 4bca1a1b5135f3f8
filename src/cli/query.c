#include "cli/query.h"

#include "base/alloc.h"
#include "base/parse.h"
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_session(struct query *q, const struct verb *v, bool primary)
{
	int code;

	*q = (struct query){ .verb = v };
	code = cli_load_settings(v, &q->settings);
	if (code != EX_OK)
		return code;
	q->session = session_new(q->settings.database, primary, -1);
	/* Why not is in the log, on stderr. */
	return session_open(q->session) ? EX_OK : EX_UNAVAILABLE;
}

int query_open(struct query *q, const struct verb *v)
{
	return open_session(q, v, false);
}

int query_open_primary(struct query *q, const struct verb *v)
{
	return open_session(q, v, true);
}

void query_close(struct query *q)
{
	session_free(q->session);
	settings_free(&q->settings);
	*q = (struct query){ 0 };
}

int query_run(struct query *q, const char *sql, const char *const *values,
	      size_t count, struct rows **rows)
{
	enum query_status a =
		session_query(q->session, sql, values, count, INT64_MAX, rows);
	int code = EX_UNAVAILABLE;

	if (a == QUERY_OK)
		return EX_OK;
	if (a == QUERY_REFUSED && session_exit_code(q->session) != EX_OK)
		code = session_exit_code(q->session);
	cli_error(q->verb, "%s", session_message(q->session));
	return code;
}

int query_count(struct query *q, const char *sql, const char *const *values,
		size_t count, uint64_t *changed)
{
	struct rows *rows = NULL;
	int code = query_run(q, sql, values, count, &rows);

	*changed = 0;
	if (code == EX_OK &&
	    !parse_u64(rows_text(rows, 0, 0), 0, UINT64_MAX, changed)) {
		(void)session_reject(q->session, sql);
		cli_error(q->verb, "%s", session_message(q->session));
		code = session_exit_code(q->session);
	}
	rows_free(rows);
	return code;
}

static bool is_hidden(const struct rows *r, size_t column)
{
	return strcmp(rows_title(r, column), "payload") == 0 ||
	       strcmp(rows_title(r, column), "body") == 0;
}

static void print_table(const struct rows *r)
{
	struct table t = { 0 };

	for (size_t c = 0; c < rows_columns(r); c++) {
		if (!is_hidden(r, c))
			table_add_column(&t, rows_title(r, c));
	}
	for (size_t n = 0; n < rows_count(r); n++) {
		for (size_t c = 0; c < rows_columns(r); c++) {
			if (!is_hidden(r, c))
				table_add_cell(&t, rows_get(r, n, c));
		}
	}
	table_print(&t);
	table_free(&t);
}

/* Line breaks can only stand between tokens, where a space means the same. */
static void print_lines(const struct rows *r)
{
	for (size_t n = 0; n < rows_count(r); n++) {
		for (const char *p = rows_text(r, n, 0); *p; p++)
			putchar(*p == '\n' || *p == '\r' ? ' ' : *p);
		putchar('\n');
	}
}

int query_print(struct query *q, const char *sql, const char *const *values,
		size_t count, bool json, size_t *printed)
{
	char *wrapped = xasprintf(json ? "SELECT pg_catalog.row_to_json(r) "
					 "FROM (%s) r"
				       : "%s",
				  sql);
	struct rows *rows = NULL;
	int code = query_run(q, wrapped, values, count, &rows);

	free(wrapped);
	if (code != EX_OK)
		return code;
	if (printed)
		*printed = rows_count(rows);
	if (json)
		print_lines(rows);
	else if (rows_count(rows))
		print_table(rows);
	rows_free(rows);
	return EX_OK;
}
