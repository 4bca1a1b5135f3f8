/*
 * The doctor's connection to the database: connects, asks, and reports faults.
 * For the files of this folder that know libpq.
 */
#ifndef DOCTOR_CONNECTION_H
#define DOCTOR_CONNECTION_H

#include "cli/doctor/doctor.h"

#include "postgres/connector.h"
#include "postgres/query.h"

/* A check by one query, which returns one row: an enum severity, and a text. */
struct query_check {
	const char *topic;
	/* Of humcli, which the role must be able to read; NULL: none. */
	const char *relation;
	const char *query;
	const char *remedy;
};

/*
 * Connects as the responder does. NULL: the fault was reported as topic, with
 * this severity.
 */
PGconn *doctor_connect(struct findings *f, const char *topic,
		       const char *conninfo, enum connect_server server,
		       enum severity severity) MUST_CHECK;
/* Asks within 5 s; parameter may be NULL. NULL: no answer. */
PGresult *doctor_query(PGconn *conn, const char *query,
		       const char *parameter) MUST_CHECK;
/* Reports why doctor_query() has no rows. */
void doctor_query_error(struct findings *f, const char *topic, PGconn *conn,
			const PGresult *result);
/* Asks, and reports the answer. */
void doctor_run_check(struct findings *f, PGconn *conn,
		      const struct query_check *q);
/* Returns true if the role may read the events. */
bool doctor_may_read(PGconn *conn) MUST_CHECK;
/* Reports the schema's version and what the events tell. */
void doctor_events(struct findings *f, PGconn *conn);

#endif
