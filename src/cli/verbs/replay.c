/*
 * replay: has a subscription deliver events again, before all others. On a
 * terminal, many events are replayed some at a time, with a progress.
 */
#include "base/macros.h"
#include "base/parse.h"
#include "cli/progress.h"
#include "cli/query.h"
#include "cli/statuses.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* How many are replayed in one transaction, where a progress is seen. */
#define EVENTS_AT_ONCE "10000"

static const char replay_sql[] =
	"SELECT humcli.replay($1, "
	"pg_catalog.string_to_array($2, ',')::bigint[], "
	"$3, pg_catalog.string_to_array($4, ','), "
	"$5::timestamptz, $6::timestamptz)";

/* The values of the conditions, as in replay_sql. */
enum { NAME, IDS, TASK, STATUSES, SINCE, UNTIL, VALUES };

/* The ids that meet the conditions, in lists of EVENTS_AT_ONCE. */
static const char lists_sql[] =
	"SELECT pg_catalog.string_agg(l.id::text, ',' ORDER BY l.id), "
	"count(*) FROM (SELECT e.id, (pg_catalog.row_number() "
	"OVER (ORDER BY e.id) - 1) / " EVENTS_AT_ONCE " AS list "
	"FROM humcli.events e WHERE ($1::text IS NULL OR true) "
	"AND ($2::text IS NULL OR e.id = "
	"ANY (pg_catalog.string_to_array($2, ',')::bigint[])) "
	"AND ($3::text IS NULL OR e.task_id = $3) "
	"AND ($4::text IS NULL OR e.status = "
	"ANY (pg_catalog.string_to_array($4, ','))) "
	"AND ($5::timestamptz IS NULL OR e.recorded_at >= $5) "
	"AND ($6::timestamptz IS NULL OR e.recorded_at < $6)) l "
	"GROUP BY l.list ORDER BY l.list";

/*
 * Returns the lists of the events to replay; NULL if nobody would see a
 * progress, if there are few, or if this role may not read the events.
 */
static struct rows *read_lists(struct query *q, const char *const *values)
{
	struct rows *rows = NULL;

	if (!progress_is_seen() ||
	    session_query(q->session, lists_sql, values, VALUES, INT64_MAX,
			  &rows) != QUERY_OK)
		return NULL;
	if (rows_count(rows) > 1)
		return rows;
	rows_free(rows);
	return NULL;
}

/* Replays the lists, one after the other. */
static int replay_lists(struct query *q, const char *name,
			const struct rows *lists, uint64_t *count)
{
	struct progress progress;
	uint64_t size, total = 0, done = 0;
	int code = EX_OK;

	for (size_t i = 0; i < rows_count(lists); i++)
		total += parse_u64(rows_text(lists, i, 1), 0, UINT64_MAX, &size)
				 ? size
				 : 0;
	progress_begin(&progress, "events", total);
	for (size_t i = 0; code == EX_OK && i < rows_count(lists); i++) {
		const char *values[VALUES] = { name, rows_text(lists, i, 0) };
		uint64_t some;

		code = query_count(q, replay_sql, values, VALUES, &some);
		*count += some;
		if (parse_u64(rows_text(lists, i, 1), 0, UINT64_MAX, &size))
			done += size;
		progress_show(&progress, done);
	}
	progress_clear(&progress);
	return code;
}

static int replay(struct query *q, const char *const *values, uint64_t *count)
{
	struct rows *lists = read_lists(q, values);
	int code = lists ? replay_lists(q, values[NAME], lists, count)
			 : query_count(q, replay_sql, values, VALUES, count);

	rows_free(lists);
	return code;
}

int cmd_replay(const struct verb *v, int argc, char **argv)
{
	const char *name = NULL, *ids = NULL, *task = NULL, *status = NULL,
		   *since = NULL, *until = NULL;
	const struct cli_option options[] = {
		{ "subscription", &name, NULL, "NAME",
		  "deliver the events again to this subscription" },
		{ "id", &ids, NULL, "ID,...",
		  "replay the events with these ids" },
		{ "task", &task, NULL, "ID", "replay the events of this task" },
		{ "status", &status, NULL, "STATUS,...",
		  "replay the events with one of these statuses" },
		{ "since", &since, NULL, "TIME",
		  "replay what was recorded since this time, or this duration ago, such as 90min or 7d" },
		{ "until", &until, NULL, "TIME",
		  "replay what was recorded before this time" },
	};
	char *statuses, *from, *to;
	uint64_t count = 0;
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!name)
		return cli_usage_error(v, "--subscription is missing");
	if (!ids && !task && !status && !since && !until)
		return cli_usage_error(
			v,
			"--id, --task, --status, --since or --until is missing");
	statuses = cli_statuses(v, status);
	from = cli_time(since);
	to = cli_time(until);
	code = query_open_primary(&q, v);
	if (code == EX_OK) {
		const char *values[] = { name, ids, task, statuses, from, to };

		code = replay(&q, values, &count);
	}
	query_close(&q);
	if (code == EX_OK)
		printf("%llu to be delivered again\n",
		       (unsigned long long)count);
	free(statuses);
	free(from);
	free(to);
	return code;
}
