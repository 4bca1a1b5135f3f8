/*
 * The requests in flight on one connection, in libpq's pipeline mode. For
 * database.c alone, in the writer's thread.
 */
#ifndef PIPELINE_H
#define PIPELINE_H

#include <stdbool.h>
#include <stddef.h>

#include <libpq-fe.h>

#include "base/macros.h"
#include "store/database.h"
#include "store/parameters.h"

enum { MAX_PENDING = 16 };

/* Whether each transaction has to ask for what it needs. */
enum session {
	SESSION_UNKNOWN, /* it asks */
	SESSION_ASKED, /* it asks; the answer is under way */
	SESSION_OURS, /* no: the session is set */
	SESSION_POOLED /* it asks */
};

/* One transaction in flight, until its last Sync comes back. */
struct pending_request {
	enum database_request request;
	bool is_record_next; /* humcli.record_next(), which may decline */
	bool is_reading; /* only reads the parameters of the failed one */
	bool is_explicit; /* between BEGIN and COMMIT: two Syncs */
	unsigned skip; /* results of BEGIN and set_config */
	unsigned syncs; /* that have not come back */
	bool committed; /* COMMIT came back: no later error undoes it */
	bool failed;
	char sqlstate[6];
	char message[256];
};

/* Starts as { 0 }: no connection. */
struct pipeline {
	PGconn *conn; /* NULL: none */
	bool flush_wanted;
	enum session session;
	struct pending_request pending[MAX_PENDING]; /* oldest first */
	size_t pending_count;
	struct parameters pid; /* of the question whether the session is ours */
};

/*
 * Takes over a connection. Returns false if libpq refuses pipeline mode, with
 * the reason in the connection; then close it.
 */
bool pipeline_open(struct pipeline *p, PGconn *conn) MUST_CHECK;
/* Closes the connection. The outcome of requests in flight stays unknown. */
void pipeline_close(struct pipeline *p);
void pipeline_free(struct pipeline *p);

/*
 * Adds a request and sends what comes before its statement. from_spool: with a
 * shorter time limit. Returns NULL if it can't.
 */
struct pending_request *pipeline_start(struct pipeline *p,
				       enum database_request request,
				       bool from_spool) MUST_CHECK;
/* Sends an unnamed statement with parameters, for binary results. */
bool pipeline_send(struct pipeline *p, const char *query,
		   const struct parameter_list *list) MUST_CHECK;
/* Sends what comes behind the statement. */
bool pipeline_end(struct pipeline *p,
		  const struct pending_request *r) MUST_CHECK;
/* Sends a request that only asks for a round trip. */
bool pipeline_ping(struct pipeline *p) MUST_CHECK;
/* Asks once whether the session is ours; if so, its settings are set. */
bool pipeline_ask_for_session(struct pipeline *p) MUST_CHECK;

/* Returns what database_socket() does. */
int pipeline_socket(const struct pipeline *p, short *events) MUST_CHECK;
/* Sends what database_flush() sends. */
bool pipeline_flush(struct pipeline *p) MUST_CHECK;
/* Receives what database_receive() does. */
bool pipeline_receive(struct pipeline *p) MUST_CHECK;

enum pipeline_status {
	PIPELINE_NOTHING, /* nothing more has come in */
	PIPELINE_ROWS, /* of the oldest request */
	PIPELINE_END, /* of the oldest request: pipeline_pop() */
	PIPELINE_LOST /* the connection: pipeline_close() */
};

/* Reads what has come in. The caller clears *rows after PIPELINE_ROWS. */
enum pipeline_status pipeline_next(struct pipeline *p,
				   PGresult **rows) MUST_CHECK;
/* Keeps the first error of a request, which is the cause of the others. */
void pipeline_fail(struct pending_request *r, const char *sqlstate,
		   const char *message);
/*
 * Returns the message of the error after which the connection was lost, as far
 * as one came: a FATAL of the server or of a pooler; else NULL. It is valid
 * until the next call.
 */
const char *pipeline_last_words(const struct pipeline *p);
/* Removes the oldest request, which has ended. */
struct pending_request pipeline_pop(struct pipeline *p);

#endif
