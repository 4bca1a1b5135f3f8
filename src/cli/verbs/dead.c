/*
 * dead: lists dead letters, the events of a pool whose attempts are used up, or
 * has the pool try them again.
 */
#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"

#include <stdio.h>

/* The most events of one transaction. */
enum { EVENTS_AT_ONCE = 1000 };

struct dead {
	struct query query;
	const char *pool;
	const char *id;
	struct query_form form;
};

#define DIED_AT ISO_TIME("d.died_at") " AS died_at"

static int list(void *context)
{
	struct dead *d = context;

	return query_print(
		&d->query,
		"SELECT d.subscription AS pool, d.event_id::text AS id, "
		"e.task_id, e.status, d.error, d.attempts, " DIED_AT
		" FROM humcli.dead d "
		"LEFT JOIN humcli.events e ON e.id = d.event_id "
		"WHERE $1::text IS NULL OR d.subscription = $1 "
		"ORDER BY d.subscription, d.event_id",
		&d->pool, 1, &d->form, NULL);
}

/* Tries again at most EVENTS_AT_ONCE events, or the one with this id. */
static int redrive_some(struct query *q, const char *pool, const char *id,
			uint64_t *count)
{
	char max[24];
	const char *values[] = { pool, id, max };

	snprintf(max, sizeof(max), "%d", EVENTS_AT_ONCE);
	return query_count(q, "SELECT humcli.redrive($1, $2, $3)", values, 3,
			   count);
}

static int redrive(void *context)
{
	struct dead *d = context;
	uint64_t count, total = 0;
	int code;

	do {
		code = redrive_some(&d->query, d->pool, d->id, &count);
		total += count;
	} while (code == EX_OK && count == EVENTS_AT_ONCE);
	if (code != EX_OK)
		return code;
	printf("%llu to be tried again\n", (unsigned long long)total);
	return d->id && !total ? EXIT_NEGATIVE : EX_OK;
}

static const struct cli_action actions[] = {
	{ "list", list, 0, "pool json wide" },
	{ "redrive", redrive, 0, "pool id" },
};

int cmd_dead(const struct verb *v, int argc, char **argv)
{
	struct dead d = { .form.wrong = "error" };
	const struct cli_option options[] = {
		{ "pool", &d.pool, NULL, "NAME",
		  "list or redrive the events of this pool (default for list: all pools)" },
		{ "id", &d.id, NULL, "ID",
		  "try this one event again (default: all)" },
		QUERY_FORM_OPTIONS(d.form),
	};
	const struct cli_action *action;
	uint64_t number;
	int code;

	action = cli_choose_action(v, &argc, &argv, options,
				   ARRAY_SIZE(options), actions,
				   ARRAY_SIZE(actions), &code);
	if (!action)
		return code;
	if (!d.pool && action->run == redrive)
		return cli_usage_error(v, "--pool is missing");
	if (d.id && !parse_u64(d.id, 1, INT64_MAX, &number))
		return cli_usage_error(v, "--id '%s' is not an id", d.id);
	code = action->run == redrive ? query_open_primary(&d.query, v)
				      : query_open(&d.query, v);
	if (code == EX_OK)
		code = action->run(&d);
	query_close(&d.query);
	return code;
}
