/*
 * events: lists what is recorded, the newest of those wanted, in the order of
 * recording.
 */
#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"
#include "cli/statuses.h"

#include <stdlib.h>

enum { LIMIT_MAX = 1000000 };

#define OCCURRED_AT ISO_TIME("e.occurred_at") " AS occurred_at"
#define RECEIVED_AT ISO_TIME("e.received_at") " AS received_at"
#define RECORDED_AT ISO_TIME("e.recorded_at") " AS recorded_at"

static const char events_sql[] =
	"SELECT e.id::text AS id, " OCCURRED_AT ", e.task_id, e.status, "
	"nullif(e.previous_status, '') AS previous_status, e.secret_name, "
	"e.event, " RECEIVED_AT ", " RECORDED_AT ", e.payload "
	"FROM (SELECT v.* FROM humcli.events v "
	"WHERE ($1::text IS NULL OR v.task_id = $1) "
	"AND ($2::text IS NULL "
	"OR v.status = ANY (pg_catalog.string_to_array($2, ','))) "
	"AND ($3::timestamptz IS NULL OR v.recorded_at >= $3) "
	"AND ($4::timestamptz IS NULL OR v.recorded_at < $4) "
	"AND ($6::text IS NULL "
	"OR coalesce(v.secret_name, v.key_name) = ANY (pg_catalog.string_to_array($6, ','))) "
	"ORDER BY v.id DESC LIMIT $5::bigint) e "
	"ORDER BY e.id";

int cmd_events(const struct verb *v, int argc, char **argv)
{
	const char *task = NULL, *status = NULL, *since = NULL, *until = NULL,
		   *limit = "100", *secrets = NULL;
	struct query_form form = { 0 };
	const struct cli_option options[] = {
		{ "task", &task, NULL, "ID",
		  "list the events of this task (default: of all)" },
		{ "status", &status, NULL, "STATUS,...",
		  "list the events with one of these statuses (default: with any)" },
		{ "secret", &secrets, NULL, "NAME,...",
		  "list the events signed with one of these secrets (default: with any)" },
		{ "since", &since, NULL, "TIME",
		  "list what was recorded then or later: a time, or a duration such as 90min or 7d" },
		{ "until", &until, NULL, "TIME",
		  "list what was recorded before then" },
		{ "limit", &limit, NULL, "N",
		  "list the newest N (default: 100)" },
		QUERY_FORM_OPTIONS(form),
	};
	char *statuses, *from, *to;
	uint64_t number;
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!parse_u64(limit, 1, LIMIT_MAX, &number))
		return cli_usage_error(
			v, "--limit '%s' is not a number from 1 to %d", limit,
			LIMIT_MAX);
	statuses = cli_statuses(v, status);
	from = cli_time(since);
	to = cli_time(until);
	code = query_open(&q, v);
	if (code == EX_OK) {
		const char *values[] = { task, statuses, from,
					 to,   limit,	 secrets };

		code = query_print(&q, events_sql, values, ARRAY_SIZE(values),
				   &form, NULL);
	}
	query_close(&q);
	free(statuses);
	free(from);
	free(to);
	return code;
}
