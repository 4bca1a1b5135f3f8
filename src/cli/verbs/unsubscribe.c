/*
 * unsubscribe: removes a subscription or pool. One that nobody reads keeps its
 * tasks from being purged for ever.
 */
#include "base/macros.h"
#include "cli/query.h"

#include <stdio.h>

int cmd_unsubscribe(const struct verb *v, int argc, char **argv)
{
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, NULL, 0, 1, &code))
		return code;
	if (argc < 1)
		return cli_usage_error(v, "the name is missing");
	code = query_open_primary(&q, v);
	if (code == EX_OK)
		code = query_run(&q, "SELECT humcli.unsubscribe($1)",
				 (const char *const[]){ argv[0] }, 1, NULL);
	query_close(&q);
	if (code == EX_OK)
		puts("removed");
	return code;
}
