#include "cli/doctor/doctor.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/parse.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/program.h"
#include "postgres/connector.h"
#include "postgres/query.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 5000, HEARD_MS = 3000, SQL_LIMIT = 1 << 20 };

/*
 * A question to the database: its query gives one row, 0 to 2 as enum
 * severity has it, and a text.
 */
struct query_check {
	const char *topic;
	const char *relation; /* of humcli, which the role must be able to
				 read; NULL: none */
	const char *query;
	const char *remedy;
};

/* All are asked of every server from 10 on. */
static const struct query_check setup_checks[] = {
	{ "database", NULL,
	  "SELECT CASE WHEN current_setting('server_version_num')::int < "
	  "100000 OR pg_is_in_recovery() THEN 2 ELSE 0 END, "
	  "format('%s as %s, PostgreSQL %s%s', current_database(), "
	  "current_user, current_setting('server_version'), "
	  "CASE WHEN pg_is_in_recovery() THEN ', a standby' ELSE '' END)",
	  "PostgreSQL 10 or newer is needed, and the primary: give its "
	  "address in HUMCLI_WEBHOOK_DATABASE, or both, separated by a comma" },
	{ "writable", NULL,
	  "SELECT CASE current_setting('transaction_read_only') WHEN 'off' "
	  "THEN 0 ELSE 2 END, format('transaction_read_only is %s', "
	  "current_setting('transaction_read_only'))",
	  "ALTER ROLE ... SET default_transaction_read_only = off, or connect "
	  "to the primary" },
	{ "encoding", NULL,
	  "SELECT CASE current_setting('server_encoding') WHEN 'UTF8' THEN 0 "
	  "WHEN 'SQL_ASCII' THEN 1 ELSE 2 END, "
	  "current_setting('server_encoding')",
	  "make the database anew: CREATE DATABASE ... ENCODING 'UTF8' "
	  "TEMPLATE template0" },
	{ "durability", NULL,
	  "SELECT CASE WHEN current_setting('fsync') = 'off' THEN 2 "
	  "WHEN current_setting('full_page_writes') = 'off' THEN 1 ELSE 0 END, "
	  "format('fsync %s, full_page_writes %s, synchronous_commit %s%s', "
	  "current_setting('fsync'), current_setting('full_page_writes'), "
	  "current_setting('synchronous_commit'), "
	  "CASE current_setting('synchronous_commit') WHEN 'off' "
	  "THEN ' (each recording raises it to on)' ELSE '' END)",
	  "switch it on in postgresql.conf: a crash would lose what was "
	  "acknowledged" },
	{ "connections", NULL,
	  "SELECT CASE WHEN used > 0.9 * most THEN 1 ELSE 0 END, "
	  "format('%s of %s are in use', used, most) FROM ("
	  "SELECT count(*) AS used, "
	  "current_setting('max_connections')::int AS most "
	  "FROM pg_stat_activity WHERE backend_type = 'client backend') s",
	  "raise max_connections, or close what is idle" },
	{ "schema", NULL,
	  "SELECT CASE WHEN n.oid IS NULL OR "
	  "NOT has_schema_privilege(n.oid, 'USAGE') THEN 2 ELSE 0 END, "
	  "CASE WHEN n.oid IS NULL THEN 'humcli is not there' "
	  "WHEN NOT has_schema_privilege(n.oid, 'USAGE') "
	  "THEN format('%s may not use humcli', current_user) "
	  "ELSE 'humcli is there' END FROM (SELECT 1) x "
	  "LEFT JOIN pg_namespace n ON n.nspname = 'humcli'",
	  "humcli-webhook init, or sql/install.sql; then GRANT humcli_writer "
	  "to the role that the receiver connects as" },
	{ "grants", NULL,
	  "SELECT CASE WHEN count(*) FILTER (WHERE "
	  "has_function_privilege(p.oid, 'EXECUTE')) = 3 THEN 0 ELSE 2 END, "
	  "format('%s may call %s of the 3 recording functions', "
	  "current_user, count(*) FILTER (WHERE "
	  "has_function_privilege(p.oid, 'EXECUTE'))) FROM pg_proc p "
	  "JOIN pg_namespace n ON n.oid = p.pronamespace "
	  "WHERE n.nspname = 'humcli' AND p.proname IN ('record', 'notify', "
	  "'quarantine_add')",
	  "GRANT humcli_writer to this role; where a function is missing, run "
	  "humcli-webhook init" },
};

/* What the events tell those who may read them. */
static const struct query_check data_checks[] = {
	{ "sequences", "events",
	  "SELECT CASE WHEN pg_catalog.cardinality(b.columns) > 0 THEN 1 "
	  "ELSE 0 END, CASE WHEN pg_catalog.cardinality(b.columns) > 0 "
	  "THEN pg_catalog.format('behind their tables: %s', "
	  "pg_catalog.array_to_string(b.columns, ', ')) "
	  "ELSE 'none is behind its table' END "
	  "FROM humcli.identities_behind() b (columns)",
	  "the next row repairs the sequence; for all of them now: SELECT "
	  "setval(pg_get_serial_sequence('humcli.TABLE', 'COLUMN'), "
	  "max(COLUMN)) FROM humcli.TABLE" },
	{ "silence", "tasks",
	  "SELECT CASE WHEN count(*) > 0 AND max(t.occurred_at) < "
	  "now() - interval '24 h' THEN 1 ELSE 0 END, "
	  "CASE count(*) WHEN 0 THEN 'no task is open' ELSE "
	  "format('%s tasks are open, the newest event of one is from %s', "
	  "count(*), max(t.occurred_at)::timestamptz(0)) END "
	  "FROM humcli.tasks t WHERE t.terminal IS NOT TRUE",
	  "ask HumCLI's API how they stand: a webhook may have been lost on "
	  "its way, or the callback_url be wrong" },
	{ "quarantine", "quarantine",
	  "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END, "
	  "format('%s signed bodies of the last 7 days are no events', "
	  "count(*)) FROM humcli.quarantine q "
	  "WHERE q.received_at > now() - interval '7 d'",
	  "SELECT received_at, reason FROM humcli.quarantine: HumCLI may have "
	  "changed its payload" },
	{ "pending", "subscriptions",
	  "SELECT CASE WHEN min(p.since) < now() - interval '15 min' THEN 1 "
	  "ELSE 0 END, CASE count(*) WHEN 0 THEN 'no subscription is behind' "
	  "ELSE format('%s subscriptions are behind; the oldest event waits "
	  "since %s, for %s', count(*), min(p.since)::timestamptz(0), "
	  "(array_agg(p.name ORDER BY p.since))[1]) END FROM ("
	  "SELECT s.name, min(e.recorded_at) AS since "
	  "FROM humcli.subscriptions s JOIN humcli.events e "
	  "ON e.xid >= txid_snapshot_xmin(s.done) "
	  "AND NOT txid_visible_in_snapshot(e.xid, s.done) "
	  "AND (s.statuses IS NULL OR e.status = ANY (s.statuses)) "
	  "WHERE NOT s.pool GROUP BY s.name) p",
	  "is its listener running? If nobody needs it any more: SELECT "
	  "humcli.unsubscribe(...)" },
	{ "dead", "dead",
	  "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END, "
	  "format('%s events were given up by their workers', count(*)) "
	  "FROM humcli.dead",
	  "humcli-webhook dead list says why; dead redrive --pool NAME lets "
	  "the workers try again" },
	{ "gaps", "gaps",
	  "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END, "
	  "format('%s holes in the histories of tasks', count(*)) "
	  "FROM humcli.gaps",
	  "SELECT * FROM humcli.gaps, and ask HumCLI's API how these tasks "
	  "stand" },
};

/* One question after the other, all within a time; NULL: no answer. */
static PGresult *query(PGconn *conn, const char *query, const char *parameter)
{
	return pq_query_guarded(conn, false, query, &parameter,
				parameter != NULL, monotonic_ms() + ANSWER_MS,
				-1);
}

static void report_query_error(struct findings *f, const char *topic,
			       PGconn *conn, const PGresult *result)
{
	char text[256];

	pq_one_line(text, sizeof(text),
		    result		    ? PQresultErrorMessage(result)
		    : *PQerrorMessage(conn) ? PQerrorMessage(conn)
					    : "no answer within 5 s");
	report_finding(f, FINDING_FAILURE, topic,
		       "PostgreSQL's own log says more", "%s", text);
}

static void run_query_check(struct findings *f, PGconn *conn,
			    const struct query_check *q)
{
	PGresult *r = query(conn, q->query, NULL);
	uint64_t severity;

	if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 &&
	    parse_u64(PQgetvalue(r, 0, 0), 0, FINDING_FAILURE, &severity))
		report_finding(f, (enum severity)severity, q->topic, q->remedy,
			       "%s", PQgetvalue(r, 0, 1));
	else
		report_query_error(f, q->topic, conn, r);
	PQclear(r);
}

static bool may_read(PGconn *conn, const char *relation)
{
	PGresult *r =
		query(conn,
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

/* What this program's own SQL would install; 0: it is not at hand. */
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
	PGresult *r = query(
		conn, "SELECT max(version) FROM humcli.schema_version", NULL);

	if (PQresultStatus(r) != PGRES_TUPLES_OK ||
	    !parse_u64(PQgetvalue(r, 0, 0), 0, 1000000, &theirs))
		report_query_error(f, "version", conn, r);
	else if (ours && theirs != ours)
		report_finding(
			f, FINDING_FAILURE, "version",
			theirs < ours ? "humcli-webhook init, or "
					"sql/install.sql, brings it up to date"
				      : "install the humcli-webhook that goes "
					"with it",
			"the schema has version %d, this program goes with %d",
			(int)theirs, (int)ours);
	else
		report_finding(f, FINDING_OK, "version", NULL,
			       "the schema has version %d", (int)theirs);
	PQclear(r);
}

/* Blocking, as the doctor has nothing else to do. NULL: it was said. */
static PGconn *connect_to(struct findings *f, const char *topic,
			  const char *conninfo)
{
	const char *keywords[] = { "connect_timeout",
				   "fallback_application_name",
				   "client_encoding", "dbname", NULL };
	const char *values[] = { "5", "humcli-webhook doctor", "UTF8", conninfo,
				 NULL };
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	PGconn *conn = NULL;
	char text[256];

	if (!parsed) {
		/* libpq's message can quote what may be a password. */
		report_finding(
			f, FINDING_FAILURE, topic,
			"write it as key=value pairs, a value with a space "
			"between ', or as a URI "
			"postgresql://user@host/database",
			"the connection string can't be parsed");
		return NULL;
	}
	PQconninfoFree(parsed);
	conn = PQconnectdbParams(keywords, values, 1);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	pq_one_line(text, sizeof(text), PQerrorMessage(conn));
	report_finding(
		f, FINDING_FAILURE, topic,
		"does the server run, and do address, role and password in "
		"HUMCLI_WEBHOOK_DATABASE fit? \"Peer\": the role must have the "
		"name of the system user",
		"%s", text);
	PQfinish(conn);
	return NULL;
}

/* Whether a notification on channel comes in time. */
static bool wait_for_notification(PGconn *conn, const char *channel)
{
	int64_t deadline = monotonic_ms() + HEARD_MS;
	PGnotify *n;

	for (;;) {
		while ((n = PQnotifies(conn))) {
			bool ours = strcmp(n->relname, channel) == 0;

			PQfreemem(n);
			if (ours)
				return true;
		}
		if (!pq_wait(PQsocket(conn), POLLIN, deadline, -1) ||
		    !PQconsumeInput(conn))
			return false;
	}
}

/* A pooler in transaction mode takes LISTEN and gives nothing. */
static void check_notify(struct findings *f, PGconn *conn, const char *conninfo)
{
	PGconn *other = connect_to(f, "notify", conninfo);
	char channel[40], listen[64], notify[64];
	PGresult *r = NULL, *s = NULL;
	uint64_t drawn;

	if (!other)
		return;
	if (!random_bytes(&drawn, sizeof(drawn))) {
		report_finding(f, FINDING_FAILURE, "notify", NULL,
			       "can't draw random bytes: %s", strerror(errno));
		goto out;
	}
	snprintf(channel, sizeof(channel), "humcli_doctor_%016llx",
		 (unsigned long long)drawn);
	snprintf(listen, sizeof(listen), "LISTEN %s", channel);
	snprintf(notify, sizeof(notify), "NOTIFY %s", channel);
	r = query(conn, listen, NULL);
	if (PQresultStatus(r) == PGRES_COMMAND_OK)
		s = query(other, notify, NULL);
	if (PQresultStatus(s) != PGRES_COMMAND_OK)
		report_query_error(f, "notify", s ? other : conn, s ? s : r);
	else if (wait_for_notification(conn, channel))
		report_finding(
			f, FINDING_OK, "notify", NULL,
			"a notification from a second connection is heard");
	else
		report_finding(
			f, FINDING_WARNING, "notify",
			"a pooler in transaction mode is in between: recording "
			"works, but who LISTENs needs PostgreSQL's own address",
			"a notification from a second connection is not heard");
	PQclear(r);
	PQclear(s);
	PQclear(query(conn, "UNLISTEN *", NULL));
out:
	PQfinish(other);
}

static void check_data(struct findings *f, PGconn *conn)
{
	if (!may_read(conn, "events")) {
		report_finding(f, FINDING_OK, "events", NULL,
			       "not looked at: this role may only record; give "
			       "--reader CONNINFO of one that may read");
		return;
	}
	check_version(f, conn);
	for (size_t i = 0; i < ARRAY_SIZE(data_checks); i++) {
		if (may_read(conn, data_checks[i].relation))
			run_query_check(f, conn, &data_checks[i]);
	}
}

void doctor_database(struct findings *f, const char *conninfo,
		     const char *reader)
{
	PGconn *conn = connect_to(f, "database", conninfo), *second = NULL;

	if (!conn)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(setup_checks); i++)
		run_query_check(f, conn, &setup_checks[i]);
	check_notify(f, conn, conninfo);
	if (reader)
		second = connect_to(f, "reader", reader);
	if (second || !reader)
		check_data(f, second ? second : conn);
	PQfinish(second);
	PQfinish(conn);
}
