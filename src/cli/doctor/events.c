/*
 * Checks what the recorded events tell, on a connection whose role may read
 * them. Tasks of tests, task_test_..., are left out, because they neither end
 * nor have a whole history. No check reads all rows of a table that grows with
 * each event, because a timer runs this every five minutes.
 */
#include "cli/doctor/connection.h"

#include "base/buf.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/program.h"
#include "cli/query.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SQL_LIMIT = 1 << 20 };

static const struct query_check data_checks[] = {
	{ "silence", "tasks",
	  "SELECT CASE WHEN count(*) > 0 AND max(t.occurred_at) < "
	  "now() - interval '24 h' THEN 1 ELSE 0 END, "
	  "format('%s task%s open%s', count(*), "
	  "CASE count(*) WHEN 1 THEN ' is' ELSE 's are' END, "
	  "'; the newest event is from ' || max(t.occurred_at)"
	  "::timestamptz(0)) FROM (" OPEN_TASKS ") t",
	  "humcli-webhook reconcile asks HumCLI for their state; a webhook may "
	  "be lost, or the callback_url wrong" },
	{ "quarantine", "quarantine",
	  "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END, "
	  "format('%s signed %s', count(*), CASE count(*) WHEN 1 "
	  "THEN 'body of the last 7 days is not an event' "
	  "ELSE 'bodies of the last 7 days are not events' END) "
	  "FROM humcli.quarantine q "
	  "WHERE q.received_at > now() - interval '7 d' "
	  "AND position('task_test_'::bytea IN q.body) = 0",
	  "humcli-webhook quarantine list shows them: HumCLI may have changed "
	  "its payload" },
	{ "pending", "subscriptions",
	  "SELECT CASE WHEN min(p.since) < now() - interval '15 min' THEN 1 "
	  "ELSE 0 END, format('%s subscription%s behind%s', count(*), "
	  "CASE count(*) WHEN 1 THEN ' is' ELSE 's are' END, "
	  "'; the oldest event has waited since ' || "
	  "min(p.since)::timestamptz(0) || ', for ' || "
	  "(array_agg(p.name ORDER BY p.since))[1]) FROM ("
	  "SELECT s.name, min(e.recorded_at) AS since "
	  "FROM humcli.subscriptions s JOIN humcli.events e "
	  "ON e.xid >= txid_snapshot_xmin(s.done) "
	  "AND NOT txid_visible_in_snapshot(e.xid, s.done) "
	  "AND (s.statuses IS NULL OR e.status = ANY (s.statuses)) "
	  "WHERE NOT s.pool GROUP BY s.name) p",
	  "start its listener; if nobody needs the subscription: "
	  "humcli-webhook unsubscribe NAME" },
	{ "dead", "dead",
	  "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END, "
	  "format('%s event%s', count(*), CASE count(*) WHEN 1 "
	  "THEN ' is a dead letter' ELSE 's are dead letters' END) "
	  "FROM humcli.dead",
	  "humcli-webhook dead list says why; dead redrive --pool NAME lets "
	  "the workers try again" },
	{ "gaps", "gaps",
	  "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END, "
	  "format('%s gap%s in the tasks of the newest " RECENT_EVENTS
	  " events', count(*), CASE count(*) WHEN 1 THEN '' ELSE 's' END) "
	  "FROM humcli.gaps g WHERE g.task_id = ANY (" RECENT_TASKS ")",
	  "humcli-webhook gaps lists them; humcli-webhook reconcile asks HumCLI "
	  "for the state of these tasks" },
	{ "reconcile", "reconcile_runs",
	  "SELECT CASE WHEN r.runs = 0 THEN 0 WHEN r.fault IS NOT NULL OR "
	  "r.ended_at < now() - interval '1 d' OR r.repaired > 0 THEN 1 ELSE "
	  "0 END, CASE WHEN r.runs = 0 THEN 'it never ran, so a lost last event "
	  "goes unnoticed' ELSE format('ran last at %s%s; recorded %s "
	  "missed event%s in 7 days', r.ended_at::timestamptz(0), coalesce(', "
	  "not whole: ' || r.fault, ''), r.repaired, CASE r.repaired WHEN 1 "
	  "THEN '' ELSE 's' END) END FROM (SELECT "
	  "count(*) AS runs, max(v.ended_at) AS ended_at, "
	  "coalesce(sum(v.repaired) FILTER (WHERE v.ended_at > now() - "
	  "interval '7 d'), 0) AS repaired, (array_agg(v.fault ORDER BY "
	  "v.ended_at DESC))[1] AS fault FROM humcli.reconcile_runs v) r",
	  "see the logs of web server and receiver at the time of a missed "
	  "event; see that the timer runs: systemctl list-timers" },
};

/* Returns true if the role may read this relation of humcli. */
static bool may_read(PGconn *conn, const char *relation)
{
	PGresult *r = doctor_query(
		conn,
		"SELECT 1 FROM pg_class c JOIN pg_namespace n "
		"ON n.oid = c.relnamespace "
		"WHERE n.nspname = 'humcli' AND c.relname = $1::text "
		"AND has_schema_privilege(n.oid, 'USAGE') "
		"AND has_table_privilege(c.oid, 'SELECT')",
		relation);
	bool readable = PQresultStatus(r) == PGRES_TUPLES_OK &&
			PQntuples(r) == 1;

	PQclear(r);
	return readable;
}

/* Returns the version that this program's SQL installs; 0: unknown. */
static uint64_t packaged_version(void)
{
	static const char mark[] = "ours constant int := ";
	char *path = cli_data_path("sql/humcli.sql");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct buf text = { 0 };
	uint64_t version = 0;
	char *at = NULL;

	if (fd >= 0 && read_all(fd, SQL_LIMIT, &text))
		at = strstr(text.data, mark);
	if (at) {
		at += sizeof(mark) - 1;
		at[strspn(at, "0123456789")] = '\0';
		if (!parse_u64(at, 1, 1000000, &version))
			version = 0;
	}
	if (fd >= 0)
		close(fd);
	buf_free(&text);
	free(path);
	return version;
}

static void check_version(struct findings *f, PGconn *conn)
{
	uint64_t ours = packaged_version(), theirs;
	PGresult *r = doctor_query(
		conn, "SELECT max(version) FROM humcli.schema_version", NULL);

	if (PQresultStatus(r) != PGRES_TUPLES_OK ||
	    !parse_u64(PQgetvalue(r, 0, 0), 0, 1000000, &theirs))
		doctor_query_error(f, "version", conn, r);
	else if (ours && theirs != ours)
		report_finding(
			f, FINDING_FAILURE, "version",
			theirs < ours ? "humcli-webhook init, or "
					"sql/install.sql, upgrades it"
				      : "install the humcli-webhook of that "
					"version",
			"the schema has version %d, and this program needs %d",
			(int)theirs, (int)ours);
	else
		report_finding(f, FINDING_OK, "version", NULL,
			       "the schema has version %d", (int)theirs);
	PQclear(r);
}

bool doctor_may_read(PGconn *conn)
{
	return may_read(conn, "events");
}

void doctor_events(struct findings *f, PGconn *conn)
{
	check_version(f, conn);
	for (size_t i = 0; i < ARRAY_SIZE(data_checks); i++) {
		if (may_read(conn, data_checks[i].relation))
			doctor_run_check(f, conn, &data_checks[i]);
	}
}
