/* subscriptions: lists the subscriptions and pools, and how far each is. */
#include "base/macros.h"
#include "cli/query.h"

#define OLDEST ISO_TIME("oldest") " AS oldest"
#define LAST_SEEN ISO_TIME("last_seen") " AS last_seen"

#define AS_ARRAY(column) column
#define AS_TEXT(column) "pg_catalog.array_to_string(" column ", ',') AS " column
#define SUBSCRIPTIONS(list)                                                       \
	"SELECT name, CASE WHEN pool THEN 'pool' ELSE 'subscription' "            \
	"END AS kind, pending, " OLDEST ", " LAST_SEEN                            \
	", claimed, dead, " list("statuses") ", " list(                           \
		"secrets") ", "                                                   \
			   "owner, needs_rebase FROM humcli.subscription_status " \
			   "ORDER BY name"

int cmd_subscriptions(const struct verb *v, int argc, char **argv)
{
	struct query_form form = { .wrong = "dead needs_rebase" };
	const struct cli_option options[] = { QUERY_FORM_OPTIONS(form) };
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	code = query_open(&q, v);
	if (code == EX_OK)
		code = query_print(&q,
				   form.json ? SUBSCRIPTIONS(AS_ARRAY)
					     : SUBSCRIPTIONS(AS_TEXT),
				   NULL, 0, &form, NULL);
	query_close(&q);
	return code;
}
