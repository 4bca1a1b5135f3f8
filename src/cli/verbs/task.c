#include "base/macros.h"
#include "cli/query.h"

/*
 * What is known of a task, in order: its events; before an event, the status
 * it says it follows on and that is not recorded (a gap); further deliveries
 * of an event (repeats); and what purge has left, or came too late for it.
 */
static const char task_sql[] =
	"SELECT t.kind, t.occurred_at, t.status, "
	"coalesce(t.previous_status, '') AS previous_status, "
	"s.event AS meaning, s.trigger, t.received_at, t.id::text AS id "
	"FROM ("
	"SELECT 'purged' AS kind, 0 AS place, 0 AS turn, r.occurred_at, "
	"r.status, r.previous_status, NULL::timestamptz AS received_at, "
	"r.event_id AS id FROM humcli.retired r WHERE r.task_id = $1 "
	"UNION ALL "
	"SELECT 'late', 0, 1, a.occurred_at, a.status, a.previous_status, "
	"a.received_at, NULL FROM humcli.late a WHERE a.task_id = $1 "
	"UNION ALL "
	"SELECT 'gap', g.place, 2, NULL, g.previous_status, g.status_before, "
	"NULL, NULL FROM humcli.gaps g WHERE g.task_id = $1 "
	"UNION ALL "
	"SELECT 'event', l.place, 3, l.occurred_at, l.status, "
	"l.previous_status, l.received_at, l.id "
	"FROM humcli.timeline l WHERE l.task_id = $1 "
	"UNION ALL "
	"SELECT 'repeat', (SELECT coalesce(max(l.place), 0) "
	"FROM humcli.timeline l WHERE l.task_id = $1 "
	"AND l.occurred_at <= p.occurred_at), 4, p.occurred_at, p.status, "
	"p.previous_status, p.received_at, NULL "
	"FROM humcli.repeats p WHERE p.task_id = $1"
	") t LEFT JOIN humcli.statuses s ON s.status = t.status "
	"ORDER BY t.place, t.turn, t.occurred_at, t.id";

int cmd_task(const struct verb *v, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "json", NULL, &json } };
	struct query q;
	size_t printed = 0;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (argc < 1)
		return cli_usage_error(v, "the task's id is missing");
	code = query_open(&q, v);
	if (code == EX_OK)
		code = query_print(&q, task_sql,
				   (const char *const[]){ argv[0] }, 1, json,
				   &printed);
	if (code == EX_OK && !printed) {
		cli_error(v, "nothing is recorded of this task");
		code = EXIT_NEGATIVE;
	}
	query_close(&q);
	return code;
}
