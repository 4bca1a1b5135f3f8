/*
 * Checks the way to the database, the set-up of the database, and that a
 * notification arrives. The checks of the set-up are a table of queries, each
 * of which gives its own verdict and text; any server from 10 on answers them.
 */
#include "cli/doctor/connection.h"

#include "base/clock.h"
#include "base/macros.h"
#include "base/random.h"
#include "postgres/conninfo.h"
#include "postgres/query.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { HEARD_MS = 3000 };

static const struct query_check setup_checks[] = {
	{ "server", NULL,
	  "SELECT CASE WHEN current_setting('server_version_num')::int < "
	  "110000 THEN 2 ELSE 0 END, format('PostgreSQL %s', "
	  "current_setting('server_version'))",
	  "PostgreSQL 11 or newer is needed" },
	{ "encoding", NULL,
	  "SELECT CASE current_setting('server_encoding') WHEN 'UTF8' THEN 0 "
	  "WHEN 'SQL_ASCII' THEN 1 ELSE 2 END, "
	  "current_setting('server_encoding')",
	  "create the database again: CREATE DATABASE ... ENCODING 'UTF8' "
	  "TEMPLATE template0" },
	{ "durability", NULL,
	  "SELECT CASE WHEN current_setting('fsync') = 'off' THEN 2 "
	  "WHEN current_setting('full_page_writes') = 'off' THEN 1 ELSE 0 END, "
	  "format('fsync %s, full_page_writes %s, synchronous_commit %s%s', "
	  "current_setting('fsync'), current_setting('full_page_writes'), "
	  "current_setting('synchronous_commit'), "
	  "CASE current_setting('synchronous_commit') WHEN 'off' "
	  "THEN ' (each recording raises it to on)' ELSE '' END)",
	  "switch it on in postgresql.conf: a crash would lose acknowledged "
	  "events" },
	{ "tables", NULL,
	  "SELECT CASE WHEN count(*) > 0 THEN 2 ELSE 0 END, "
	  "CASE WHEN count(*) > 0 THEN format('not logged: %s', "
	  "string_agg(c.relname::text, ', ' ORDER BY c.relname)) "
	  "ELSE 'all survive a crash of PostgreSQL' END "
	  "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
	  "WHERE n.nspname = 'humcli' AND c.relkind = 'r' "
	  "AND c.relpersistence <> 'p'",
	  "ALTER TABLE humcli.TABLE SET LOGGED: a crash would empty the table, "
	  "and lose acknowledged events" },
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
	  "CASE WHEN n.oid IS NULL THEN 'humcli does not exist' "
	  "WHEN NOT has_schema_privilege(n.oid, 'USAGE') "
	  "THEN format('%s may not use humcli', current_user) "
	  "ELSE 'humcli exists' END FROM (SELECT 1) x "
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
	  "WHERE n.nspname = 'humcli' AND "
	  "p.proargtypes[0] <> 'bigint[]'::regtype AND "
	  "p.proname IN ('record_batch', 'notify', 'quarantine_add')",
	  "GRANT humcli_writer to this role; where a function is missing, run "
	  "humcli-webhook init" },
};

/* For each role that may call identities_behind(): to record or to read. */
static const struct query_check sequences_check = {
	"sequences", NULL,
	"SELECT CASE WHEN pg_catalog.cardinality(b.columns) > 0 THEN 1 "
	"ELSE 0 END, CASE WHEN pg_catalog.cardinality(b.columns) > 0 "
	"THEN pg_catalog.format('behind their tables: %s', "
	"pg_catalog.array_to_string(b.columns, ', ')) "
	"ELSE 'none is behind its table' END "
	"FROM humcli.identities_behind() b (columns)",
	"the next row repairs the sequence; for all of them now: SELECT "
	"setval(pg_get_serial_sequence('humcli.TABLE', 'COLUMN'), "
	"max(COLUMN)) FROM humcli.TABLE"
};

/*
 * Checks the sequences of identity columns. An older schema may lack the
 * function; the checks before this one say so.
 */
static void check_sequences(struct findings *f, PGconn *conn)
{
	PGresult *r = doctor_query(
		conn,
		"SELECT 1 FROM pg_proc p "
		"JOIN pg_namespace n ON n.oid = p.pronamespace "
		"WHERE n.nspname = 'humcli' AND p.proname = $1::text "
		"AND has_schema_privilege(n.oid, 'USAGE') "
		"AND has_function_privilege(p.oid, 'EXECUTE')",
		"identities_behind");
	bool can_ask = PQresultStatus(r) == PGRES_TUPLES_OK &&
		       PQntuples(r) == 1;

	PQclear(r);
	if (can_ask)
		doctor_run_check(f, conn, &sequences_check);
}

/* Returns true if a notification on channel arrives in time. */
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

/* Sends a notification by one connection and waits for it on another. */
static void check_notify(struct findings *f, PGconn *conn, const char *conninfo)
{
	PGconn *other = doctor_connect(f, "notify", conninfo, CONNECT_WRITABLE,
				       FINDING_FAILURE);
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
		report_finding(f, FINDING_OK, "notify", NULL,
			       "a notification from a second connection "
			       "arrives");
	else
		report_finding(f, FINDING_WARNING, "notify",
			       "a pooler in transaction mode is in between: "
			       "recording works, but listeners need "
			       "PostgreSQL's own address",
			       "a notification from a second connection does "
			       "not arrive");
	PQclear(r);
	PQclear(s);
	PQclear(doctor_query(conn, "UNLISTEN *", NULL));
out:
	PQfinish(other);
}

/*
 * Leaves the events to the superuser of a server on this machine, if root
 * started the doctor. Returns false if that is not possible.
 */
static bool leave_to_superuser(struct findings *f, PGconn *conn)
{
	const char *host = PQhost(conn);
	struct buf conninfo = { 0 };
	bool fits;

	if (!f->by_root || (host && *host && *host != '/'))
		return false;
	conninfo_add(&conninfo, "user", "postgres");
	conninfo_add(&conninfo, "host", host);
	conninfo_add(&conninfo, "port", PQport(conn));
	conninfo_add(&conninfo, "dbname", PQdb(conn));
	fits = conninfo.length < sizeof(f->shared->reader);
	if (fits)
		memcpy(f->shared->reader, conninfo.data, conninfo.length + 1);
	buf_free(&conninfo);
	return fits;
}

void doctor_recorded(struct findings *f, const char *conninfo, bool optional)
{
	PGconn *conn = doctor_connect(
		f, optional ? "events" : "reader", conninfo, CONNECT_ANY,
		optional ? FINDING_SKIPPED : FINDING_FAILURE);

	if (conn && !doctor_may_read(conn))
		report_finding(f, optional ? FINDING_SKIPPED : FINDING_FAILURE,
			       "events",
			       "give --reader CONNINFO of a role that may read "
			       "them: GRANT humcli_reader TO ...",
			       "%s may not read them", PQuser(conn));
	else if (conn)
		doctor_events(f, conn);
	PQfinish(conn);
}

/* Reports the connection: where it leads, and how long it took. */
static void report_connection(struct findings *f, PGconn *conn, int64_t ms)
{
	const char *host = PQhost(conn), *address = PQhostaddr(conn);

	report_finding(f, FINDING_OK, "database", NULL,
		       "%s as %s at %s%s%s%s, port %s, in %lld ms", PQdb(conn),
		       PQuser(conn), host ? host : "",
		       address && *address ? " (" : "",
		       address && *address ? address : "",
		       address && *address ? ")" : "", PQport(conn),
		       (long long)ms);
}

void doctor_database(struct findings *f, const char *conninfo,
		     const char *reader)
{
	int64_t start = monotonic_ms();
	PGconn *conn = doctor_connect(f, "database", conninfo, CONNECT_WRITABLE,
				      FINDING_FAILURE);

	if (!conn) {
		if (reader && !f->no_events)
			doctor_recorded(f, reader, false);
		return;
	}
	report_connection(f, conn, monotonic_ms() - start);
	for (size_t i = 0; i < ARRAY_SIZE(setup_checks); i++)
		doctor_run_check(f, conn, &setup_checks[i]);
	check_sequences(f, conn);
	check_notify(f, conn, conninfo);
	if (f->no_events) {
		PQfinish(conn);
		return;
	}
	if (reader)
		doctor_recorded(f, reader, false);
	else if (doctor_may_read(conn))
		doctor_events(f, conn);
	else if (!leave_to_superuser(f, conn))
		report_finding(f, FINDING_SKIPPED, "events",
			       f->by_root ? "give --reader CONNINFO of a role "
					    "that may read them"
					  : "doctor, run as root, reads "
					    "them; or give --reader CONNINFO "
					    "of a role that may",
			       "%s may only record", PQuser(conn));
	PQfinish(conn);
}
