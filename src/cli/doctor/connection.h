/*
 * How the doctor asks the database: connects, asks, reports what goes wrong.
 * For the files of this folder that know libpq.
 */
#ifndef DOCTOR_CONNECTION_H
#define DOCTOR_CONNECTION_H

#include "cli/doctor/doctor.h"

#include "postgres/query.h"

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

/* Connects; NULL if that failed and was reported as topic. */
PGconn *doctor_connect(struct findings *f, const char *topic,
		       const char *conninfo) MUST_CHECK;
/* Asks within 5 s; parameter may be NULL. NULL: no answer. */
PGresult *doctor_query(PGconn *conn, const char *query,
		       const char *parameter) MUST_CHECK;
/* Reports why doctor_query() has no rows. */
void doctor_query_error(struct findings *f, const char *topic, PGconn *conn,
			const PGresult *result);
/* Asks, and reports the answer. */
void doctor_run_check(struct findings *f, PGconn *conn,
		      const struct query_check *q);
/* Reports the schema's version and what the events tell. */
void doctor_events(struct findings *f, PGconn *conn);

#endif
