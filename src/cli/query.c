/*
 * Owns how a verb asks the database one question and prints the rows. Must not
 * know what is asked. query_open() loads the settings and connects by
 * session.c; query_run() reports an error together with what helps;
 * query_print() prints a table by table.c, or lines of JSON that PostgreSQL
 * made.
 */
#include "cli/query.h"

#include "base/alloc.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/program.h"
#include "cli/remedies.h"
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Becomes the user postgres for good, because root is no role of the database.
 * Does so only with the settings of the whole system and a database on this
 * machine, and not if the environment names the database: then its role is
 * meant.
 */
static void become_postgres(struct query *q)
{
	char *conninfo;

	if (geteuid() != 0 || getenv("HUMCLI_WEBHOOK_DATABASE") ||
	    !q->settings.file ||
	    strcmp(q->settings.file, SYSCONFDIR "/humcli-webhook.conf") != 0)
		return;
	conninfo = session_conninfo_as(q->settings.database, "postgres");
	if (conninfo && cli_switch_user("postgres")) {
		free(q->settings.database);
		q->settings.database = conninfo;
		return;
	}
	free(conninfo);
}

/* Reports what helps, and where the connection string is. */
static void advise(const struct query *q, bool is_set)
{
	const char *failure = session_connect_failure(q->session);
	bool in_file = q->settings.file && !getenv("HUMCLI_WEBHOOK_DATABASE");
	bool sudo = geteuid() != 0 && (strstr(failure, "role \"") ||
				       strstr(failure, "Peer authentication"));

	cli_error(q->verb, "%s%s; HUMCLI_WEBHOOK_DATABASE is %s%s%s",
		  sudo ? "run it with sudo, or " : "",
		  remedy_for_connection(failure), is_set ? "set" : "not set",
		  in_file ? " in " : " in the environment",
		  in_file ? q->settings.file : "");
}

static int open_session(struct query *q, bool primary)
{
	bool is_set = *q->settings.database;

	become_postgres(q);
	q->session = session_new(q->settings.database, primary, q->stop);
	if (session_open(q->session))
		return EX_OK;
	/* The connector has reported the reason. */
	advise(q, is_set);
	return EX_UNAVAILABLE;
}

int query_load(struct query *q, const struct verb *v)
{
	*q = (struct query){ .verb = v, .stop = -1 };
	return cli_load_settings(v, &q->settings);
}

int query_connect(struct query *q)
{
	return open_session(q, true);
}

int query_open(struct query *q, const struct verb *v)
{
	int code = query_load(q, v);

	return code == EX_OK ? open_session(q, false) : code;
}

int query_open_primary(struct query *q, const struct verb *v)
{
	int code = query_load(q, v);

	return code == EX_OK ? query_connect(q) : code;
}

void query_close(struct query *q)
{
	session_free(q->session);
	settings_free(&q->settings);
	*q = (struct query){ 0 };
}

int query_report(const struct query *q, enum query_status status)
{
	int code = status == QUERY_REFUSED ? session_exit_code(q->session)
					   : EX_OK;

	cli_error(q->verb, "%s", session_message(q->session));
	return code == EX_OK ? EX_UNAVAILABLE : code;
}

int query_run(struct query *q, const char *sql, const char *const *values,
	      size_t count, struct rows **rows)
{
	enum query_status a =
		session_query(q->session, sql, values, count, INT64_MAX, rows);

	return a == QUERY_OK ? EX_OK : query_report(q, a);
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

/* Returns true for a column that no table has. */
static bool is_hidden(const struct rows *r, size_t column)
{
	static const char *const hidden[] = { "payload", "body", "follow_xid",
					      "follow_id" };

	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
		if (strcmp(rows_title(r, column), hidden[i]) == 0)
			return true;
	}
	return false;
}

/* Returns the text of a cell for people; NULL if the value is NULL. */
static const char *cell_text(const struct rows *r, size_t row, size_t column)
{
	const char *text = rows_get(r, row, column);

	if (!text || !rows_is_boolean(r, column))
		return text;
	return *text == 't' ? "yes" : "no";
}

/* Returns true if a cell tells of something wrong; 0 and "no" do not. */
static bool is_wrong(const struct rows_printer *p, const struct rows *r,
		     size_t row, size_t column)
{
	const char *text = cell_text(r, row, column);

	return p->form->wrong && text && *text && strcmp(text, "0") != 0 &&
	       strcmp(text, "no") != 0 &&
	       cli_list_has(p->form->wrong, rows_title(r, column));
}

static void add_row(struct rows_printer *p, const struct rows *r, size_t row)
{
	for (size_t c = 0; c < rows_columns(r); c++) {
		if (is_hidden(r, c))
			continue;
		if (is_wrong(p, r, row, c))
			table_add_wrong(&p->table, cell_text(r, row, c));
		else
			table_add_cell(&p->table, cell_text(r, row, c));
	}
}

/*
 * Appends a line. A line break between the tokens of JSON becomes a space,
 * which means the same.
 */
static void put_line(const char *json, struct buf *out)
{
	size_t start = out->length;

	buf_printf(out, "%s\n", json);
	for (char *p = out->data + start; p[1]; p++) {
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	}
}

char *rows_printer_sql(const struct query_form *form, const char *sql)
{
	return xasprintf(form->json ? "SELECT pg_catalog.row_to_json(r) "
				      "FROM (%s) r"
				    : "%s",
			 sql);
}

size_t rows_printer_add(struct rows_printer *p, const struct rows *r,
			struct buf *out)
{
	bool titled = p->form->json || p->table.columns;
	size_t added = 0;

	for (size_t c = 0; !titled && c < rows_columns(r); c++) {
		if (!is_hidden(r, c))
			table_add_column(&p->table, rows_title(r, c));
	}
	for (size_t n = 0; n < rows_count(r); n++) {
		/* A row that does not meet a filter is all NULL. */
		if (!rows_get(r, n, 0))
			continue;
		if (p->form->json)
			put_line(rows_text(r, n, 0), out);
		else
			add_row(p, r, n);
		added++;
	}
	if (added && !p->form->json)
		table_format(&p->table, p->form->wide, out);
	return added;
}

void rows_printer_free(struct rows_printer *p)
{
	table_free(&p->table);
}

int query_print(struct query *q, const char *sql, const char *const *values,
		size_t count, const struct query_form *form, size_t *printed)
{
	struct rows_printer printer = { .form = form };
	char *wrapped = rows_printer_sql(form, sql);
	struct buf out = { 0 };
	struct rows *rows = NULL;
	size_t added = 0;
	int code = query_run(q, wrapped, values, count, &rows);

	free(wrapped);
	if (code == EX_OK)
		added = rows_printer_add(&printer, rows, &out);
	if (added)
		fputs(out.data, stdout);
	else if (code == EX_OK && !form->json && isatty(STDOUT_FILENO))
		puts("none");
	if (printed)
		*printed = added;
	buf_free(&out);
	rows_free(rows);
	rows_printer_free(&printer);
	return code;
}
