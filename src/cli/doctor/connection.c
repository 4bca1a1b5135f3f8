/*
 * Connects as the responder does, by its connector, and asks. Each fault is
 * reported with the fix for its case, by libpq's words or by the SQLSTATE.
 * Knows nothing of what is asked.
 */
#include "cli/doctor/connection.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/parse.h"
#include "cli/remedies.h"
#include "postgres/connector.h"
#include "postgres/conninfo.h"
#include "postgres/query.h"

#include <string.h>

enum { ANSWER_MS = 5000 };

PGresult *doctor_query(PGconn *conn, const char *query, const char *parameter)
{
	return pq_query_guarded(conn, false, query, &parameter,
				parameter != NULL, monotonic_ms() + ANSWER_MS,
				-1);
}

/* Returns the fix for the role that the receiver connects as. */
static const char *fix(const char *sqlstate)
{
	const char *remedy;

	if (strcmp(sqlstate, "42501") == 0)
		return "GRANT humcli_writer to the role that the receiver "
		       "connects as; --reader names another role to read the "
		       "events";
	remedy = remedy_for_sqlstate(sqlstate);
	return remedy ? remedy : "PostgreSQL's own log says more";
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
		report_finding(f, FINDING_FAILURE, topic, fix(sqlstate),
			       "%s (SQLSTATE %s)", text, sqlstate);
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

PGconn *doctor_connect(struct findings *f, const char *topic,
		       const char *conninfo, enum connect_server server,
		       enum severity severity)
{
	char fault[CONNINFO_FAULT_SIZE];
	struct connector *c;
	PGconn *conn;

	if (!conninfo_check(conninfo, fault)) {
		report_finding(f, severity, topic, remedy_for_conninfo, "%s",
			       fault);
		return NULL;
	}
	c = connector_new(conninfo);
	conn = connector_open_quietly(c, server, INT64_MAX);
	if (!conn)
		report_finding(f, severity, topic,
			       remedy_for_connection(connector_failure(c)),
			       "%s", connector_failure(c));
	connector_free(c);
	return conn;
}
