#include "base/macros.h"
#include "cli/query.h"

#include <stdio.h>

int cmd_replay(const struct verb *v, int argc, char **argv)
{
	/* In the order of humcli.replay(). */
	const char *values[6] = { NULL };
	const struct cli_option options[] = {
		{ "subscription", &values[0], NULL },
		{ "id", &values[1], NULL },
		{ "task", &values[2], NULL },
		{ "status", &values[3], NULL },
		{ "since", &values[4], NULL },
		{ "until", &values[5], NULL },
	};
	struct query q;
	uint64_t count;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!values[0])
		return cli_usage_error(v, "--subscription is missing");
	if (!values[1] && !values[2] && !values[3] && !values[4] && !values[5])
		return cli_usage_error(v, "say what to hand out again");
	code = query_open_primary(&q, v);
	if (code == EX_OK)
		code = query_count(
			&q,
			"SELECT humcli.replay($1, "
			"pg_catalog.string_to_array($2, ',')::bigint[], "
			"$3, pg_catalog.string_to_array($4, ','), "
			"$5::timestamptz, $6::timestamptz)",
			values, ARRAY_SIZE(values), &count);
	if (code == EX_OK)
		printf("%llu to be delivered again\n",
		       (unsigned long long)count);
	query_close(&q);
	return code;
}
