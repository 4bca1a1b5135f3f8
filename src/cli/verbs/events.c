#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"

enum { LIMIT_MAX = 1000000 };

/* The newest of those wanted, in the order of recording. */
static const char events_sql[] =
	"SELECT e.id::text AS id, e.occurred_at, e.received_at, e.recorded_at, "
	"e.task_id, e.status, e.previous_status, e.event, e.secret_name, "
	"e.payload "
	"FROM (SELECT v.* FROM humcli.events v "
	"WHERE ($1::text IS NULL OR v.task_id = $1) "
	"AND ($2::text IS NULL "
	"OR v.status = ANY (pg_catalog.string_to_array($2, ','))) "
	"AND ($3::timestamptz IS NULL OR v.recorded_at >= $3) "
	"AND ($4::timestamptz IS NULL OR v.recorded_at < $4) "
	"ORDER BY v.id DESC LIMIT $5::bigint) e "
	"ORDER BY e.id";

int cmd_events(const struct verb *v, int argc, char **argv)
{
	/* In the order of the query's $1 and on. */
	const char *values[] = { NULL, NULL, NULL, NULL, "100" };
	bool json = false;
	const struct cli_option options[] = {
		{ "task", &values[0], NULL },  { "status", &values[1], NULL },
		{ "since", &values[2], NULL }, { "until", &values[3], NULL },
		{ "limit", &values[4], NULL }, { "json", NULL, &json },
	};
	uint64_t limit;
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!parse_u64(values[4], 1, LIMIT_MAX, &limit))
		return cli_usage_error(
			v, "--limit '%s' is not a number from 1 to %d",
			values[4], LIMIT_MAX);
	code = query_open(&q, v);
	if (code == EX_OK)
		code = query_print(&q, events_sql, values, ARRAY_SIZE(values),
				   json, NULL);
	query_close(&q);
	return code;
}
