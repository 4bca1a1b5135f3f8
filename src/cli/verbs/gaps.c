/*
 * gaps: lists where the history of a task misses an event: an event follows
 * on a status that is not the one recorded before it.
 */
#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"

enum { LIMIT_MAX = 1000000 };

#define OCCURRED_AT ISO_TIME("g.occurred_at") " AS occurred_at"
#define BEFORE_AT ISO_TIME("g.occurred_before") " AS occurred_before"

static const char gaps_sql[] =
	"SELECT g.task_id, CASE g.kind WHEN 'read' THEN g.status "
	"ELSE g.previous_status END AS missing, g.status, " OCCURRED_AT
	", g.status_before, " BEFORE_AT ", g.kind, g.id::text AS id "
	"FROM humcli.gaps g WHERE $1::text IS NULL OR g.task_id = $1 "
	"ORDER BY g.occurred_at DESC, g.id DESC LIMIT $2::bigint";

int cmd_gaps(const struct verb *v, int argc, char **argv)
{
	/* The values of $1 and on. */
	const char *values[] = { NULL, "100" };
	struct query_form form = { .wrong = "missing" };
	const struct cli_option options[] = {
		{ "task", &values[0], NULL, "ID",
		  "list the gaps of this task (default: of all)" },
		{ "limit", &values[1], NULL, "N",
		  "list the newest N (default: 100)" },
		QUERY_FORM_OPTIONS(form),
	};
	uint64_t number;
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!parse_u64(values[1], 1, LIMIT_MAX, &number))
		return cli_usage_error(
			v, "--limit '%s' is not a number from 1 to %d",
			values[1], LIMIT_MAX);
	code = query_open(&q, v);
	if (code == EX_OK)
		code = query_print(&q, gaps_sql, values, ARRAY_SIZE(values),
				   &form, NULL);
	query_close(&q);
	return code;
}
