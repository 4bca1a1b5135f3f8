#include "base/macros.h"
#include "cli/query.h"

int cmd_subscriptions(const struct verb *v, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "json", NULL, &json } };
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	code = query_open(&q, v);
	if (code == EX_OK)
		code = query_print(
			&q,
			"SELECT name, CASE WHEN pool THEN 'pool' "
			"ELSE 'subscription' END AS kind, owner, statuses, "
			"pending, oldest, claimed, dead, last_seen, "
			"needs_rebase FROM humcli.subscription_status "
			"ORDER BY name",
			NULL, 0, json, NULL);
	query_close(&q);
	return code;
}
