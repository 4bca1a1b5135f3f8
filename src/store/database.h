/*
 * The connection to PostgreSQL and the few things the writer asks of it,
 * as a pipeline: each request is a transaction of its own, and its result
 * counts once its Sync came back. Not safe for several threads. With
 * connect.c the only file of the responder with libpq; SQL text does not
 * leave it.
 */
#ifndef DATABASE_H
#define DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "event/delivery.h"

struct database;

/* conninfo as connector_new() takes it. */
struct database *database_new(const char *conninfo) MUST_CHECK;
void database_free(struct database *db);

/*
 * Connects to the first server that accepts writes, as connector_try() does,
 * by the deadline (ms, monotonic). Call it again to go on.
 */
bool database_connect(struct database *db, int64_t deadline) MUST_CHECK;
bool database_connected(const struct database *db) MUST_CHECK;
/* What was on the way is lost, its outcome unknown. */
void database_disconnect(struct database *db);

/*
 * Returns true if libpq accepts conninfo, which connects to nothing; false with
 * the reason in fault, which quotes no password.
 */
enum { DATABASE_FAULT_SIZE = 256 };
bool database_check_conninfo(const char *conninfo,
			     char fault[DATABASE_FAULT_SIZE]) MUST_CHECK;

/*
 * Makes a connection of its own, to the first server that accepts writes, and
 * closes it. Returns true if one was there by the deadline (ms, monotonic).
 * Safe from any thread.
 */
bool database_answers(const char *conninfo, int64_t deadline) MUST_CHECK;

enum database_request {
	DATABASE_RECORD,
	DATABASE_NOTIFY,
	DATABASE_PING,
	DATABASE_SETTINGS /* its own, without a result */
};

/*
 * Records deliveries in one transaction: humcli.record() for events,
 * humcli.quarantine_add() for those with a reason. None at all still writes
 * something, and so tries the whole way. notify: wake the listeners in the
 * same transaction; one event alone then tries humcli.record_next() first.
 * False: the connection is gone.
 */
bool database_send_record(struct database *db, struct delivery *const *batch,
			  size_t count, int64_t window_us,
			  bool notify) MUST_CHECK;
/* Wakes the listeners of these events; with none, one empty wake-up. */
bool database_send_notify(struct database *db, const int64_t *ids,
			  size_t count) MUST_CHECK;
bool database_send_ping(struct database *db) MUST_CHECK;
/* How many of these have not had their result yet. */
size_t database_pending(const struct database *db) MUST_CHECK;

enum row_outcome {
	ROW_RECORDED,
	ROW_DUPLICATE,
	ROW_REPEAT,
	ROW_BUSY, /* its task was locked for too long */
	ROW_PROMOTED /* an earlier repeat, by the delivery at its place */
};

struct database_row {
	size_t index; /* index in the batch sent */
	enum row_outcome outcome;
	int64_t id; /* humcli.events.id; 0 where busy */
};

struct database_result {
	enum database_request request;
	bool committed;
	char sqlstate[6]; /* where not committed; "" if there was none */
	char message[256];
	const struct database_row *rows; /* until the next call */
	size_t count;
};

enum database_status { DATABASE_NOTHING, DATABASE_RESULT, DATABASE_LOST };

/* What to poll() for; -1 while not connected. */
int database_socket(const struct database *db, short *events) MUST_CHECK;
/*
 * Puts on the wire what was sent, as far as that goes without waiting; the
 * rest goes in database_receive(), to be called when poll() says so. False:
 * the connection is gone.
 */
bool database_flush(struct database *db) MUST_CHECK;
bool database_receive(struct database *db) MUST_CHECK;
/* The next result that has come; DATABASE_LOST: disconnect. */
enum database_status database_next(struct database *db,
				   struct database_result *result) MUST_CHECK;

#endif
