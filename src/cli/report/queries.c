/*
 * Owns the SQL of the report. Must not know how the answers are shown. Each
 * question looks at the newest events by an index, or reads an index alone, so
 * that a million events take less than a second. Whatever is left out that way
 * is said on the page.
 */
#include "cli/report/queries.h"

#include "base/macros.h"
#include "base/parse.h"
#include "cli/progress.h"

const int64_t report_buckets[] = { 1,	 3,    10,    30,    100,    300,
				   1000, 3000, 10000, 60000, 3600000 };
#define BUCKETS                               \
	"ARRAY[1, 3, 10, 30, 100, 300, 1000," \
	" 3000, 10000, 60000, 3600000]::float8[]"
_Static_assert(ARRAY_SIZE(report_buckets) + 1 == REPORT_BUCKETS,
	       "the last bucket has no upper end");

enum { BEGIN_MS = 5000 };

#define MINUTE(column)                                      \
	"pg_catalog.to_char(" column " AT TIME ZONE 'UTC'," \
	" 'YYYY-MM-DD HH24:MI')"
#define SECOND(column)                                      \
	"pg_catalog.to_char(" column " AT TIME ZONE 'UTC'," \
	" 'YYYY-MM-DD HH24:MI:SS')"
#define MS(interval) "(date_part('epoch', " interval ") * 1000)"
#define AGE(column) MS("now() - " column) "::bigint"
#define PERCENTILE(share, column) \
	"(percentile_cont(" share \
	") WITHIN GROUP (ORDER BY " MS(column) "))::bigint"
#define TO_RECORD "n.recorded_at - n.received_at"
#define TO_RECEIVE "n.received_at - n.occurred_at"

/* It would break lines in the middle of the macros' arguments. */
/* clang-format off */

static const char totals_sql[] =
	"SELECT (SELECT " SECOND("e.recorded_at") " FROM humcli.events e "
	"ORDER BY e.id DESC LIMIT 1), "
	"(SELECT " AGE("e.recorded_at") " FROM humcli.events e "
	"ORDER BY e.id DESC LIMIT 1), "
	"(SELECT count(*) FROM humcli.dead), "
	"(SELECT count(*) FROM (SELECT FROM humcli.quarantine LIMIT 10001) q), "
	"(SELECT count(*) FROM (SELECT z.received_at FROM humcli.quarantine z "
	"ORDER BY z.id DESC LIMIT 10001) q "
	"WHERE q.received_at > now() - interval '7 days'), "
	"(SELECT count(*) FROM (SELECT FROM humcli.repeats LIMIT 10001) p), "
	PERCENTILE("0.5", TO_RECORD) ", " PERCENTILE("0.95", TO_RECORD) ", "
	"max(" MS(TO_RECORD) ")::bigint, "
	PERCENTILE("0.5", TO_RECEIVE) ", " PERCENTILE("0.95", TO_RECEIVE) " "
	"FROM (SELECT e.occurred_at, e.received_at, e.recorded_at "
	"FROM humcli.events e ORDER BY e.id DESC LIMIT " REPORT_SAMPLED ") n";

/* The view of the tasks has the last word on the tasks that are shown. */
static const char open_sql[] =
	"WITH o AS (" OPEN_TASKS "), "
	"shown AS (SELECT o.task_id FROM o ORDER BY o.occurred_at, o.task_id "
	"LIMIT " REPORT_OPEN_SHOWN ") "
	"SELECT (SELECT count(*) FROM o), t.task_id, t.status, t.meaning, "
	"t.secret_name, " MINUTE("t.occurred_at") ", " AGE("t.occurred_at") ", "
	MINUTE("f.first") ", " AGE("f.first") ", "
	"(SELECT " AGE("max(o.occurred_at)") " FROM o) "
	"FROM humcli.tasks t CROSS JOIN LATERAL (SELECT min(e.occurred_at) "
	"AS first FROM humcli.events e WHERE e.task_id = t.task_id) f "
	"WHERE t.task_id = ANY (ARRAY(SELECT z.task_id FROM shown z)) "
	"ORDER BY t.occurred_at, t.task_id";

/* Conditions with ANY reach the index through the views; joins do not. */
static const char steps_sql[] =
	"WITH recent AS (SELECT x.task_id, max(x.id) AS id FROM ("
	"SELECT e.id, e.task_id FROM humcli.events e ORDER BY e.id DESC "
	"LIMIT 5000) x GROUP BY x.task_id ORDER BY max(x.id) DESC "
	"LIMIT " REPORT_TASKS_SHOWN "), "
	"gaps AS (SELECT g.id, g.previous_status FROM humcli.gaps g "
	"WHERE g.kind <> 'read' "
	"AND g.task_id = ANY (ARRAY(SELECT r.task_id FROM recent r))), "
	"steps AS (SELECT l.task_id, 'event' AS kind, l.status, "
	"CASE l.event WHEN 'api.status_read' THEN "
	"coalesce(l.meaning || '; ', '') || 'read from HumCLI by reconcile, "
	"not received' ELSE l.meaning END AS meaning, "
	"l.occurred_at, l.received_at, l.recorded_at, l.terminal, "
	"l.secret_name, l.place, l.id FROM humcli.timeline l "
	"WHERE l.task_id = ANY (ARRAY(SELECT r.task_id FROM recent r)) "
	"UNION ALL SELECT p.task_id, 'repeat', p.status, s.event, "
	"p.occurred_at, p.received_at, p.recorded_at, s.terminal, "
	"p.secret_name, NULL, NULL FROM humcli.repeats p "
	"LEFT JOIN humcli.statuses s ON s.status = p.status "
	"WHERE p.task_id = ANY (ARRAY(SELECT r.task_id FROM recent r))), "
	"counted AS (SELECT s.*, row_number() OVER (PARTITION BY s.task_id "
	"ORDER BY s.occurred_at DESC, s.place DESC) AS back, "
	"count(*) OVER (PARTITION BY s.task_id) AS steps FROM steps s) "
	"SELECT c.task_id, c.kind, c.status, c.meaning, "
	"(date_part('epoch', c.occurred_at) * 1000)::bigint, "
	SECOND("c.occurred_at") ", " SECOND("c.received_at") ", "
	MS("c.recorded_at - c.received_at") "::bigint, g.previous_status, "
	"c.terminal, c.secret_name, "
	"greatest(c.steps - " REPORT_STEPS_SHOWN ", 0), "
	"(date_part('epoch', now()) * 1000)::bigint "
	"FROM counted c JOIN recent r ON r.task_id = c.task_id "
	"LEFT JOIN gaps g ON g.id = c.id "
	"WHERE c.back <= " REPORT_STEPS_SHOWN " "
	"ORDER BY r.id DESC, c.occurred_at, c.place NULLS LAST";

static const char hours_sql[] =
	"SELECT h.ago, h.bucket, h.events, "
	"floor(date_part('epoch', now()))::bigint, "
	"h.counted = " REPORT_PLOTTED " AND "
	"h.oldest > now() - interval '14 days' "
	"FROM (SELECT g.ago, g.bucket, g.events, "
	"sum(g.events) OVER () AS counted, min(g.oldest) OVER () AS oldest "
	"FROM (SELECT (floor(date_part('epoch', now()) / 3600) "
	"- floor(date_part('epoch', n.received_at) / 3600))::int AS ago, "
	"width_bucket(" MS(TO_RECORD) ", " BUCKETS ") "
	"AS bucket, count(*) AS events, min(n.received_at) AS oldest "
	"FROM (SELECT e.received_at, e.recorded_at FROM humcli.events e "
	"ORDER BY e.id DESC LIMIT " REPORT_PLOTTED ") n GROUP BY 1, 2) g) h "
	"WHERE h.ago BETWEEN 0 AND 14 * 24 - 1 ORDER BY h.ago DESC, h.bucket";

static const char gaps_sql[] =
	"SELECT count(*) OVER (), g.task_id, "
	"CASE g.kind WHEN 'read' THEN g.status ELSE g.previous_status END, "
	"g.status_before, g.status, " MINUTE("g.occurred_at") " "
	"FROM humcli.gaps g WHERE g.task_id = ANY (" RECENT_TASKS ") "
	"ORDER BY g.occurred_at DESC, g.id DESC LIMIT " REPORT_ROWS;

static const char subscriptions_sql[] =
	"SELECT s.name, s.pool, s.pending, " MINUTE("s.oldest") ", "
	AGE("s.oldest") ", s.claimed, s.dead, " MINUTE("s.last_seen") ", "
	AGE("s.last_seen") ", array_to_string(s.statuses, ', '), "
	"array_to_string(s.secrets, ', '), s.needs_rebase "
	"FROM humcli.subscription_status s ORDER BY s.name";

static const char quarantine_sql[] =
	"SELECT q.reason, count(*), sum(q.seen), "
	"string_agg(DISTINCT q.secret_name, ', '), "
	MINUTE("max(q.received_at)") " FROM (SELECT z.reason, z.seen, "
	"z.secret_name, z.received_at FROM humcli.quarantine z "
	"ORDER BY z.id DESC LIMIT " REPORT_QUARANTINED ") q "
	"GROUP BY q.reason ORDER BY max(q.received_at) DESC "
	"LIMIT " REPORT_ROWS;

/* clang-format on */

/*
 * Begins the transaction of all questions. Compiling the queries would take
 * longer than running them. Names are found in pg_catalog, whatever the role's
 * settings say.
 */
static int begin(struct query *q)
{
	static const char settings[] =
		"SELECT pg_catalog.set_config('search_path', "
		"'pg_catalog, pg_temp', true), "
		"pg_catalog.set_config('jit', 'off', true), "
		"pg_catalog.set_config('work_mem', '32MB', true), "
		"pg_catalog.set_config('statement_timeout', '60s', true)";

	if (session_begin(q->session, BEGIN_MS) != QUERY_OK) {
		cli_error(q->verb, "%s", session_message(q->session));
		return EX_UNAVAILABLE;
	}
	return query_run(q, settings, NULL, 0, NULL);
}

int report_ask(struct query *q, struct answers *a)
{
	static const char *const questions[QUESTION_COUNT] = {
		[ASK_TOTALS] = totals_sql,
		[ASK_OPEN] = open_sql,
		[ASK_STEPS] = steps_sql,
		[ASK_HOURS] = hours_sql,
		[ASK_GAPS] = gaps_sql,
		[ASK_SUBSCRIPTIONS] = subscriptions_sql,
		[ASK_QUARANTINE] = quarantine_sql,
	};
	struct progress progress;
	int code = begin(q);

	progress_begin(&progress, "questions", QUESTION_COUNT);
	for (size_t i = 0; i < QUESTION_COUNT && code == EX_OK; i++) {
		code = query_run(q, questions[i], NULL, 0, &a->rows[i]);
		progress_show(&progress, i + 1);
	}
	progress_clear(&progress);
	return code;
}

void report_free(struct answers *a)
{
	for (size_t i = 0; i < QUESTION_COUNT; i++)
		rows_free(a->rows[i]);
	*a = (struct answers){ 0 };
}

uint64_t report_number(const struct rows *r, size_t row, size_t column)
{
	uint64_t number;

	return r && parse_u64(rows_text(r, row, column), 0, UINT64_MAX, &number)
		       ? number
		       : 0;
}
