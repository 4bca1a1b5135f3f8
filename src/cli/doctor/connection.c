#include "cli/doctor/connection.h"

#include "base/clock.h"
#include "base/parse.h"
#include "postgres/query.h"

enum { ANSWER_MS = 5000 };

/* One question after the other, all within a time; NULL: no answer. */
PGresult *doctor_query(PGconn *conn, const char *query, const char *parameter)
{
	return pq_query_guarded(conn, false, query, &parameter,
				parameter != NULL, monotonic_ms() + ANSWER_MS,
				-1);
}

void doctor_query_error(struct findings *f, const char *topic, PGconn *conn,
			const PGresult *result)
{
	char text[256];

	pq_one_line(text, sizeof(text),
		    result		    ? PQresultErrorMessage(result)
		    : *PQerrorMessage(conn) ? PQerrorMessage(conn)
					    : "no answer within 5 s");
	report_finding(f, FINDING_FAILURE, topic,
		       "PostgreSQL's own log says more", "%s", text);
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

/* Blocking, as the doctor has nothing else to do. NULL: it was said. */
PGconn *doctor_connect(struct findings *f, const char *topic,
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
