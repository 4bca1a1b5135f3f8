/*
 * Connects as the responder does, by its connector, and asks. Each fault is
 * reported with the fix for its case, by libpq's words or by the SQLSTATE.
 * Knows nothing of what is asked.
 */
#include "cli/doctor/connection.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/parse.h"
#include "postgres/connector.h"
#include "postgres/conninfo.h"
#include "postgres/query.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 5000 };

PGresult *doctor_query(PGconn *conn, const char *query, const char *parameter)
{
	return pq_query_guarded(conn, false, query, &parameter,
				parameter != NULL, monotonic_ms() + ANSWER_MS,
				-1);
}

/* Returns the fix for a statement that failed with this SQLSTATE. */
static const char *sqlstate_remedy(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		const char *remedy;
	} remedies[] = {
		{ "42501", "GRANT humcli_writer to the role that the receiver "
			   "connects as; --reader names another role to read "
			   "the events" },
		{ "42", "humcli-webhook init, or sql/install.sql, in this "
			"database: the schema is missing or of another "
			"version" },
		{ "3F", "humcli-webhook init, or sql/install.sql, in this "
			"database" },
		{ "57014", "the server canceled it: is it overloaded? See "
			   "pg_stat_activity" },
		{ "53", "the server is short of memory, disk or connections: "
			"PostgreSQL's own log says which" },
		{ "XX", "the server has an internal fault, perhaps a damaged "
			"page: PostgreSQL's own log says which relation" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
		if (strncmp(sqlstate, remedies[i].prefix,
			    strlen(remedies[i].prefix)) == 0)
			return remedies[i].remedy;
	}
	return "PostgreSQL's own log says more";
}

void doctor_query_error(struct findings *f, const char *topic, PGconn *conn,
			const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	char text[256];

	pq_error(conn, result, text, sizeof(text));
	if (!sqlstate)
		report_finding(f, FINDING_FAILURE, topic,
			       "PostgreSQL's own log says more", "%s", text);
	else
		report_finding(f, FINDING_FAILURE, topic,
			       sqlstate_remedy(sqlstate), "%s (SQLSTATE %s)",
			       text, sqlstate);
}

void doctor_run_check(struct findings *f, PGconn *conn,
		      const struct query_check *q)
{
	PGresult *r = doctor_query(conn, q->query, NULL);
	uint64_t severity;

	if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 &&
	    parse_u64(PQgetvalue(r, 0, 0), 0, FINDING_FAILURE, &severity))
		report_finding(f, (enum severity)severity, q->topic, q->remedy,
			       "%s", PQgetvalue(r, 0, 1));
	else
		doctor_query_error(f, q->topic, conn, r);
	PQclear(r);
}

/* Returns the fix for a connection that failed so, in libpq's words. */
static const char *connect_remedy(const char *failure)
{
	static const struct {
		const char *words;
		const char *remedy;
	} remedies[] = {
		{ "Peer authentication failed",
		  "the role must have the name of the system user; or give "
		  "user=, password= and host=localhost in "
		  "HUMCLI_WEBHOOK_DATABASE" },
		{ "Ident authentication failed",
		  "the role must have the name of the system user; or let "
		  "pg_hba.conf ask for a password" },
		{ "password authentication failed",
		  "correct user= and password= in HUMCLI_WEBHOOK_DATABASE; "
		  "ALTER ROLE ... PASSWORD sets a new one" },
		{ "no password supplied",
		  "add password= to HUMCLI_WEBHOOK_DATABASE, or a .pgpass to "
		  "the home of the receiver's user" },
		{ "no pg_hba.conf entry",
		  "add a line for this role, database and address to "
		  "pg_hba.conf, and reload PostgreSQL" },
		{ "role \"",
		  "humcli-webhook init creates the role; or CREATE ROLE ... "
		  "LOGIN, and GRANT humcli_writer" },
		{ "database \"", "humcli-webhook init creates the database; or "
				 "correct dbname=" },
		{ "Connection refused",
		  "start PostgreSQL, or correct host= and port=" },
		{ "No such file or directory",
		  "no server listens on that socket: start PostgreSQL, or "
		  "correct host= (the socket's folder) and port=" },
		{ "Permission denied",
		  "let the receiver's user reach the "
		  "socket's folder, or use host=localhost" },
		{ "look up", "correct host=, or the machine's DNS" },
		{ "translate host name",
		  "correct host=, or the machine's DNS" },
		{ "standby", "give the primary's address in "
			     "HUMCLI_WEBHOOK_DATABASE, or both, separated by a "
			     "comma" },
		{ "read-only",
		  "ALTER ROLE ... SET "
		  "default_transaction_read_only = off, or connect "
		  "to the primary" },
		{ "too many", "raise max_connections, or close idle sessions" },
		{ "connection slots",
		  "raise max_connections, or close idle sessions" },
		{ "SSL", "see sslmode= and sslrootcert= of libpq" },
		{ "certificate", "see sslmode= and sslrootcert= of libpq" },
		{ "in time", "does a firewall drop it? correct host= and "
			     "port=; connect_timeout= gives a distant server "
			     "more time" },
		{ "starting up", "PostgreSQL is starting: try again soon" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
		if (strstr(failure, remedies[i].words))
			return remedies[i].remedy;
	}
	return "does the server run, and are address, role and password in "
	       "HUMCLI_WEBHOOK_DATABASE correct?";
}

PGconn *doctor_connect(struct findings *f, const char *topic,
		       const char *conninfo, enum connect_server server,
		       enum severity severity)
{
	char fault[CONNINFO_FAULT_SIZE];
	struct connector *c;
	PGconn *conn;

	if (!conninfo_check(conninfo, fault)) {
		report_finding(
			f, severity, topic,
			"write it as key=value pairs, a value with a space "
			"between ', or as a URI "
			"postgresql://user@host/database",
			"%s", fault);
		return NULL;
	}
	c = connector_new(conninfo);
	conn = connector_open_quietly(c, server, INT64_MAX);
	if (!conn)
		report_finding(f, severity, topic,
			       connect_remedy(connector_failure(c)), "%s",
			       connector_failure(c));
	connector_free(c);
	return conn;
}
