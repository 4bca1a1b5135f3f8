#include "cli/doctor/connection.h"

#include "base/clock.h"
#include "base/macros.h"
#include "base/random.h"
#include "postgres/query.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { HEARD_MS = 3000 };

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
	PGconn *other = doctor_connect(f, "notify", conninfo);
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
	r = doctor_query(conn, listen, NULL);
	if (PQresultStatus(r) == PGRES_COMMAND_OK)
		s = doctor_query(other, notify, NULL);
	if (PQresultStatus(s) != PGRES_COMMAND_OK)
		doctor_query_error(f, "notify", s ? other : conn, s ? s : r);
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
	PQclear(doctor_query(conn, "UNLISTEN *", NULL));
out:
	PQfinish(other);
}

void doctor_database(struct findings *f, const char *conninfo,
		     const char *reader)
{
	PGconn *conn = doctor_connect(f, "database", conninfo), *second = NULL;

	if (!conn)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(setup_checks); i++)
		doctor_run_check(f, conn, &setup_checks[i]);
	check_notify(f, conn, conninfo);
	if (reader)
		second = doctor_connect(f, "reader", reader);
	if (second || !reader)
		doctor_events(f, second ? second : conn);
	PQfinish(second);
	PQfinish(conn);
}
