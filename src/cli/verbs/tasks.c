/*
 * tasks: lists the tasks and the status of each, the newest first, by the time
 * of their last event.
 */
#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"
#include "cli/statuses.h"

#include <stdlib.h>

enum { LIMIT_MAX = 1000000 };

#define LAST_EVENT ISO_TIME("t.occurred_at") " AS last_event"

/*
 * SQL for the tasks of a condition. The state of the tasks of send and probe is
 * "test", whatever their status.
 */
#define TASKS(where)                                                         \
	"SELECT r.task_id, r.status, r.state, r.last_event, r.meaning, "     \
	"r.previous_status, r.events, r.trigger FROM ("                      \
	"SELECT t.task_id, t.status, CASE "                                  \
	"WHEN pg_catalog.strpos(t.task_id, 'task_test_') = 1 THEN 'test' "   \
	"WHEN t.terminal THEN 'ended' ELSE 'open' END AS state, " LAST_EVENT \
	", t.meaning, t.previous_status, t.events, t.trigger, "              \
	"t.occurred_at FROM humcli.tasks t WHERE " where ") r "              \
	"WHERE $2::text IS NULL OR r.state = $2 "                            \
	"ORDER BY r.occurred_at DESC, r.task_id LIMIT $3::bigint"

/* SQL for the condition to be among the newest tasks of a list. */
#define AMONG_NEWEST(list)                             \
	"$1::text IS NULL AND t.task_id = ANY (ARRAY(" \
	"SELECT n.task_id FROM (" list ") n "          \
	"ORDER BY n.occurred_at DESC, n.task_id LIMIT $3::bigint))"

/*
 * The view reads all rows of the tasks that it is asked for. So the newest tasks
 * are looked up first, by an index alone; those of a status only the view knows.
 */
static const char newest_sql[] = TASKS(
	AMONG_NEWEST("SELECT e.task_id, max(e.occurred_at) AS occurred_at "
		     "FROM humcli.events e GROUP BY e.task_id"));
static const char open_sql[] = TASKS(AMONG_NEWEST(OPEN_TASKS));
static const char status_sql[] =
	TASKS("t.status = ANY (pg_catalog.string_to_array($1, ','))");

int cmd_tasks(const struct verb *v, int argc, char **argv)
{
	const char *status = NULL, *limit = "100";
	bool open = false;
	struct query_form form = { 0 };
	const struct cli_option options[] = {
		{ "open", NULL, &open, NULL,
		  "list the tasks that have not ended, without tests" },
		{ "status", &status, NULL, "STATUS,...",
		  "list the tasks with one of these statuses (default: with any)" },
		{ "limit", &limit, NULL, "N",
		  "list the newest N (default: 100)" },
		QUERY_FORM_OPTIONS(form),
	};
	uint64_t number;
	char *statuses;
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
	code = query_open(&q, v);
	if (code == EX_OK) {
		const char *values[] = { statuses, open ? "open" : NULL,
					 limit };

		code = query_print(&q,
				   statuses ? status_sql
				   : open   ? open_sql
					    : newest_sql,
				   values, ARRAY_SIZE(values), &form, NULL);
	}
	query_close(&q);
	free(statuses);
	return code;
}
