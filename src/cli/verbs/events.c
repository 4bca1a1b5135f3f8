/*
 * events: lists what is recorded, the newest of those wanted, in the order of
 * recording. With --follow, cli/consumer/follow.c goes on where the list ends.
 */
#include "base/buf.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/consumer/follow.h"
#include "cli/output.h"
#include "cli/program.h"
#include "cli/query.h"
#include "cli/statuses.h"

#include <stdlib.h>

enum { LIMIT_MAX = 1000000 };

#define COLUMNS                                                                           \
	"e.id::text AS id, " ISO_TIME(                                                    \
		"e.occurred_at") " AS occurred_at, "                                      \
				 "e.task_id, e.status, nullif(e.previous_status, '') AS " \
				 "previous_status, e.secret_name, e.event, " ISO_TIME(    \
					 "e.received_at") " AS received_at, " ISO_TIME("e.recorded_at") " AS recorded_at, e.payload"

static const char events_sql[] =
	"SELECT " COLUMNS " FROM (SELECT v.* FROM humcli.events v "
	"WHERE ($1::text IS NULL OR v.task_id = $1) "
	"AND ($2::text IS NULL "
	"OR v.status = ANY (pg_catalog.string_to_array($2, ','))) "
	"AND ($3::timestamptz IS NULL OR v.recorded_at >= $3) "
	"AND ($4::timestamptz IS NULL OR v.recorded_at < $4) "
	"AND ($6::text IS NULL "
	"OR coalesce(v.secret_name, v.key_name) = ANY (pg_catalog.string_to_array($6, ','))) "
	"AND ($7::txid_snapshot IS NULL "
	"OR pg_catalog.txid_visible_in_snapshot(v.xid, $7)) "
	"ORDER BY v.id DESC LIMIT $5::bigint) e "
	"ORDER BY e.id";

struct events {
	struct query query;
	struct query_form form;
	struct follow filter;
	char *from, *to;
	const char *limit;
	bool follow;
};

/* Prints the events that the snapshot shows. */
static int list(struct events *e, const char *snapshot,
		struct rows_printer *printer)
{
	const char *values[] = { e->filter.task, e->filter.statuses,
				 e->from,	 e->to,
				 e->limit,	 e->filter.secrets,
				 snapshot };
	char *sql = rows_printer_sql(&e->form, events_sql);
	struct rows *rows = NULL;
	struct buf out = { 0 };
	int code = query_run(&e->query, sql, values, ARRAY_SIZE(values), &rows);

	if (code == EX_OK && rows_printer_add(printer, rows, &out) &&
	    !output_write_all(out.data, out.length, INT64_MAX, e->query.stop))
		code = EX_IOERR;
	buf_free(&out);
	rows_free(rows);
	free(sql);
	return code;
}

/* Prints the list and what is recorded after it. */
static int list_and_follow(struct events *e)
{
	struct rows_printer printer = { .form = &e->form };
	struct rows *rows = NULL;
	int code = query_run(&e->query,
			     "SELECT pg_catalog.txid_current_snapshot()::text",
			     NULL, 0, &rows);

	if (code == EX_OK)
		code = list(e, rows_text(rows, 0, 0), &printer);
	if (code == EX_OK)
		code = follow_events(&e->query, &e->filter,
				     rows_text(rows, 0, 0), &printer, COLUMNS);
	else if (session_stop_requested(e->query.session))
		code = EX_OK;
	rows_free(rows);
	rows_printer_free(&printer);
	return code;
}

static int follow(struct events *e, const struct verb *v)
{
	int code = query_load(&e->query, v);

	e->query.stop = cli_take_signals();
	/* What goes right needs no message beside the events. */
	if (e->query.stop < 0 || !log_open("stderr", LEVEL_WARNING)) {
		cli_error(v, "can't wait for signals");
		return EX_OSERR;
	}
	if (code == EX_OK)
		code = query_connect(&e->query);
	return code == EX_OK ? list_and_follow(e) : code;
}

static int run(struct events *e, const struct verb *v)
{
	const char *values[] = {
		e->filter.task, e->filter.statuses, e->from, e->to,
		e->limit,	e->filter.secrets,  NULL
	};
	int code;

	if (e->follow)
		return follow(e, v);
	code = query_open(&e->query, v);
	if (code == EX_OK)
		code = query_print(&e->query, events_sql, values,
				   ARRAY_SIZE(values), &e->form, NULL);
	return code;
}

int cmd_events(const struct verb *v, int argc, char **argv)
{
	struct events e = { .limit = "100" };
	const char *status = NULL, *since = NULL, *until = NULL;
	const struct cli_option options[] = {
		{ "task", &e.filter.task, NULL, "ID",
		  "list the events of this task (default: of all)" },
		{ "status", &status, NULL, "STATUS,...",
		  "list the events with one of these statuses (default: with any)" },
		{ "secret", &e.filter.secrets, NULL, "NAME,...",
		  "list the events signed with one of these secrets (default: with any)" },
		{ "since", &since, NULL, "TIME",
		  "list what was recorded since this time, or this duration ago, such as 90min or 7d" },
		{ "until", &until, NULL, "TIME",
		  "list what was recorded before this time" },
		{ "limit", &e.limit, NULL, "N",
		  "list the newest N (default: 100)" },
		{ "follow", NULL, &e.follow, NULL,
		  "then print each new event, until interrupted" },
		QUERY_FORM_OPTIONS(e.form),
	};
	char *statuses;
	uint64_t number;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!parse_u64(e.limit, e.follow ? 0 : 1, LIMIT_MAX, &number))
		return cli_usage_error(
			v, "--limit '%s' is not a number from %d to %d",
			e.limit, e.follow ? 0 : 1, LIMIT_MAX);
	if (e.follow && until)
		return cli_usage_error(v, "give --follow or --until, not both");
	statuses = cli_statuses(v, status);
	e.filter.statuses = statuses;
	e.from = cli_time(since);
	e.to = cli_time(until);
	code = run(&e, v);
	query_close(&e.query);
	free(statuses);
	free(e.from);
	free(e.to);
	return code;
}
