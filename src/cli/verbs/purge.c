/*
 * purge: deletes old tasks, or those of send and probe, from the database. The
 * spool is the receiver's and the database another role's; so root looks into
 * the spool as its owner, in a child process, and then becomes postgres.
 */
#include "base/macros.h"
#include "base/parse.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "cli/query.h"
#include "store/spool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The most tasks of one transaction, because it holds a lock for each. */
#define TASKS_AT_ONCE "1000"

struct purge {
	struct query query;
	const char *older_than;
	bool tests;
	size_t spooled; /* files in new/ and failed/ */
};

static int count_spooled(struct purge *p, struct spool *s)
{
	static const enum spool_folder folders[] = { SPOOL_NEW, SPOOL_FAILED };
	struct spool_list list;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (!spool_list(s, folders[i], &list)) {
			cli_error(p->query.verb, "can't read the spool: %s",
				  strerror(errno));
			return EX_IOERR;
		}
		p->spooled += list.count;
		spool_list_free(&list);
	}
	return EX_OK;
}

/*
 * Refuses while the spool holds files, because they may belong to a history
 * that purge would delete before it is whole.
 */
static int check_spool_files(void *context)
{
	struct purge *p = context;
	const char *path = p->query.settings.spool;
	struct spool *s = spool_open(path, p->query.settings.spool_max);
	int code;

	if (!spool_is_usable(s)) {
		spool_close(s);
		cli_error(p->query.verb, "nothing was purged: events may wait "
					 "in the spool, which can't be read");
		return EX_NOPERM;
	}
	code = count_spooled(p, s);
	spool_close(s);
	if (code != EX_OK || !p->spooled)
		return code;
	cli_error(p->query.verb,
		  "nothing was purged: %zu event%s still in spool %s; run "
		  "humcli-webhook spool drain first, and see humcli-webhook "
		  "spool list",
		  p->spooled, p->spooled == 1 ? " is" : "s are", path);
	return EX_TEMPFAIL;
}

/* Checks the spool as its owner, because nobody else may look into it. */
static int check_spool(struct purge *p)
{
	const char *path = p->query.settings.spool;
	struct stat st;
	char *owner;
	int code = EX_NOPERM;

	if (!*path || (stat(path, &st) < 0 && errno == ENOENT))
		return EX_OK;
	if (st.st_uid == geteuid())
		return check_spool_files(p);
	owner = cli_owner_name(path);
	if (geteuid() != 0 || !cli_run_as(owner, check_spool_files, p, &code))
		cli_error(p->query.verb,
			  "nothing was purged: the spool %s belongs to %s, and "
			  "events may wait in it; run: sudo %s purge "
			  "--older-than '%s'",
			  path, *owner ? owner : "another user",
			  cli_program_name(), p->older_than);
	free(owner);
	return code;
}

/* Names the subscriptions that still need tasks as old as that. */
static void name_subscriptions(struct query *q, const char *older_than)
{
	static const char sql[] =
		"SELECT name, CASE WHEN pool THEN 'pool' "
		"ELSE 'subscription' END FROM humcli.subscription_status "
		"WHERE oldest < pg_catalog.now() - $1::interval ORDER BY name";
	struct rows *rows = NULL;

	/* A role that may purge need not be one that may read. */
	if (session_query(q->session, sql, &older_than, 1, INT64_MAX, &rows) !=
	    QUERY_OK)
		return;
	for (size_t n = 0; n < rows_count(rows); n++)
		cli_error(q->verb,
			  "%s %s has not read events of that age, so their "
			  "tasks are kept; if nobody needs it: humcli-webhook "
			  "unsubscribe %s",
			  rows_text(rows, n, 1), rows_text(rows, n, 0),
			  rows_text(rows, n, 0));
	rows_free(rows);
}

/*
 * Returns how many tasks are to be purged, for the progress; 0 if nobody would
 * see that, or if this role may not read the events.
 */
static uint64_t count_tasks(struct query *q, const char *sql,
			    const char *const *values, size_t count)
{
	struct rows *rows = NULL;
	uint64_t total = 0;

	if (!progress_is_seen() || session_query(q->session, sql, values, count,
						 INT64_MAX, &rows) != QUERY_OK)
		return 0;
	if (!parse_u64(rows_text(rows, 0, 0), 0, UINT64_MAX, &total))
		total = 0;
	rows_free(rows);
	return total;
}

/* What to purge: a function that purges some tasks at a time. */
struct purge_call {
	const char *sql;
	const char *count_sql; /* how many tasks there are, more or less */
	const char *const *values; /* of both */
	size_t count;
	const char *what;
};

/* Calls the function until it purges nothing. */
static int purge_all(struct query *q, const struct purge_call *c)
{
	struct progress progress;
	uint64_t done, total = 0;
	int code;

	progress_begin(&progress, "tasks",
		       count_tasks(q, c->count_sql, c->values, c->count));
	do {
		code = query_count(q, c->sql, c->values, c->count, &done);
		total += done;
		progress_show(&progress, total);
	} while (done);
	progress_clear(&progress);
	if (code != EX_OK && !total) {
		cli_error(q->verb, "nothing was purged");
		return code;
	}
	printf("%llu %s%s purged\n", (unsigned long long)total, c->what,
	       PLURAL_S(total));
	return code;
}

static int purge_old(struct purge *p)
{
	const struct purge_call old = {
		.sql = "SELECT humcli.purge($1::interval, " TASKS_AT_ONCE ")",
		.count_sql =
			"SELECT count(*) FROM (SELECT FROM humcli.events "
			"GROUP BY task_id HAVING max(greatest(occurred_at, "
			"recorded_at)) < pg_catalog.now() - $1::interval) t",
		.values = &p->older_than,
		.count = 1,
		.what = "task",
	};
	int code = purge_all(&p->query, &old);

	if (code == EX_OK)
		name_subscriptions(&p->query, p->older_than);
	return code;
}

static int purge_tests(struct purge *p)
{
	const struct purge_call tests = {
		.sql = "SELECT humcli.purge_tests(" TASKS_AT_ONCE ")",
		.count_sql = "SELECT count(DISTINCT task_id) "
			     "FROM humcli.events WHERE "
			     "pg_catalog.strpos(task_id, 'task_test_') = 1",
		.what = "test task",
	};

	return purge_all(&p->query, &tests);
}

static int run(struct purge *p)
{
	int code = p->tests ? EX_OK : check_spool(p);

	if (code == EX_OK)
		code = query_connect(&p->query);
	if (code != EX_OK)
		return code;
	return p->tests ? purge_tests(p) : purge_old(p);
}

int cmd_purge(const struct verb *v, int argc, char **argv)
{
	struct purge p = { 0 };
	const struct cli_option options[] = {
		{ "older-than", &p.older_than, NULL, "INTERVAL",
		  "delete the tasks that are older, such as \"90 days\"; at "
		  "least 1 day" },
		{ "tests", NULL, &p.tests, NULL,
		  "delete the tasks of send and probe instead, of any age" },
	};
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!p.older_than && !p.tests)
		return cli_usage_error(v, "--older-than or --tests is missing");
	if (p.older_than && p.tests)
		return cli_usage_error(
			v, "give --older-than or --tests, not both");
	code = query_load(&p.query, v);
	if (code == EX_OK)
		code = run(&p);
	query_close(&p.query);
	return code;
}
