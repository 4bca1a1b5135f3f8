#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"

#include <stdio.h>
#include <string.h>

/* In one transaction. */
enum { EVENTS_AT_ONCE = 1000 };

static int list(struct query *q, const char *pool, bool json)
{
	return query_print(
		q,
		"SELECT d.subscription AS pool, d.event_id::text AS id, "
		"e.task_id, e.status, d.attempts, d.died_at, d.error "
		"FROM humcli.dead d "
		"LEFT JOIN humcli.events e ON e.id = d.event_id "
		"WHERE $1::text IS NULL OR d.subscription = $1 "
		"ORDER BY d.subscription, d.event_id",
		&pool, 1, json, NULL);
}

/* At most EVENTS_AT_ONCE, or the one with this id. */
static int redrive_some(struct query *q, const char *pool, const char *id,
			uint64_t *count)
{
	char max[24];
	const char *values[] = { pool, id, max };
	struct rows *rows = NULL;
	int code;

	snprintf(max, sizeof(max), "%d", EVENTS_AT_ONCE);
	code = query_run(q, "SELECT humcli.redrive($1, $2, $3)", values, 3,
			 &rows);
	*count = 0;
	if (code == EX_OK &&
	    !parse_u64(rows_get(rows, 0, 0), 0, UINT64_MAX, count)) {
		cli_error(q->verb, "humcli.redrive() gave no number");
		code = EX_CONFIG;
	}
	rows_free(rows);
	return code;
}

static int redrive(struct query *q, const char *pool, const char *id)
{
	uint64_t count, total = 0;
	int code;

	do {
		code = redrive_some(q, pool, id, &count);
		total += count;
	} while (code == EX_OK && count == EVENTS_AT_ONCE);
	if (code != EX_OK)
		return code;
	printf("%llu to be tried again\n", (unsigned long long)total);
	return id && !total ? EXIT_NEGATIVE : EX_OK;
}

int cmd_dead(const struct verb *v, int argc, char **argv)
{
	const char *pool = NULL, *id = NULL;
	bool json = false, listing;
	const struct cli_option options[] = {
		{ "pool", &pool, NULL },
		{ "id", &id, NULL },
		{ "json", NULL, &json },
	};
	struct query q;
	uint64_t number;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (argc == 0)
		return cli_usage_error(v, "what to do is missing");
	listing = strcmp(argv[0], "list") == 0;
	if (!listing && strcmp(argv[0], "redrive") != 0)
		return cli_usage_error(v, "there is no 'dead %s'", argv[0]);
	if (json && !listing)
		return cli_usage_error(v, "--json goes with list");
	if (id && listing)
		return cli_usage_error(v, "--id goes with redrive");
	if (!pool && !listing)
		return cli_usage_error(v, "--pool is missing");
	if (id && !parse_u64(id, 1, INT64_MAX, &number))
		return cli_usage_error(v, "--id '%s' is no id", id);
	code = query_open(&q, v);
	if (code == EX_OK)
		code = listing ? list(&q, pool, json) : redrive(&q, pool, id);
	query_close(&q);
	return code;
}
