/*
 * replay: has a subscription deliver events again, before all others.
 */
#include "base/macros.h"
#include "cli/query.h"
#include "cli/statuses.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static const char replay_sql[] =
	"SELECT humcli.replay($1, "
	"pg_catalog.string_to_array($2, ',')::bigint[], "
	"$3, pg_catalog.string_to_array($4, ','), "
	"$5::timestamptz, $6::timestamptz)";

int cmd_replay(const struct verb *v, int argc, char **argv)
{
	const char *name = NULL, *ids = NULL, *task = NULL, *status = NULL,
		   *since = NULL, *until = NULL;
	const struct cli_option options[] = {
		{ "subscription", &name, NULL, "NAME",
		  "have this subscription deliver them again" },
		{ "id", &ids, NULL, "ID,...",
		  "replay the events with these ids" },
		{ "task", &task, NULL, "ID", "replay the events of this task" },
		{ "status", &status, NULL, "STATUS,...",
		  "replay the events with one of these statuses" },
		{ "since", &since, NULL, "TIME",
		  "replay what was recorded then or later: a time, or a duration such as 90min or 7d" },
		{ "until", &until, NULL, "TIME",
		  "replay what was recorded before then" },
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
		return cli_usage_error(v, "say which events to deliver again");
	statuses = cli_statuses(v, status);
	from = cli_time(since);
	to = cli_time(until);
	code = query_open_primary(&q, v);
	if (code == EX_OK) {
		const char *values[] = { name, ids, task, statuses, from, to };

		code = query_count(&q, replay_sql, values, ARRAY_SIZE(values),
				   &count);
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
