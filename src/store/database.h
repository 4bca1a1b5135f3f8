/*
 * The connection to PostgreSQL, and what the writer asks for on it: each
 * request is a transaction of its own, sent without waiting for the one before.
 * Not safe for several threads.
 */
#ifndef DATABASE_H
#define DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"
#include "event/delivery.h"
#include "store/text_list.h"

struct database;

/*
 * Returns a database without a connection. conninfo is as connector_new()
 * accepts it.
 */
struct database *database_new(const char *conninfo) MUST_CHECK;
void database_free(struct database *db);

/*
 * Connects to the first server that accepts writes, as connector_try() does,
 * by the deadline (ms, monotonic). Call it again to go on.
 */
bool database_connect(struct database *db, int64_t deadline) MUST_CHECK;
bool database_connected(const struct database *db) MUST_CHECK;
/* Closes the connection. The outcome of requests in flight stays unknown. */
void database_disconnect(struct database *db);

/*
 * Returns true if libpq accepts conninfo, which connects to nothing; false with
 * the reason in fault, which quotes no password.
 */
enum { DATABASE_FAULT_SIZE = 256 };
bool database_check_conninfo(const char *conninfo,
			     char fault[DATABASE_FAULT_SIZE]) MUST_CHECK;

/*
 * Appends where conninfo leads, as libpq takes it together: host, port, database
 * and user, but no password; nothing if libpq refuses it.
 */
void database_describe(const char *conninfo, struct buf *text);

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

struct record_options {
	int64_t window_us; /* the redelivery window */
	bool notify; /* in the same transaction */
	bool from_spool; /* with a shorter time limit: no request waits */
};

/*
 * Records deliveries in one transaction: humcli.record_batch() for events,
 * humcli.quarantine_add() for deliveries with a reason. An empty batch (a
 * probe) still calls that, which writes to the WAL, and so waits for all that a
 * commit waits for. With options.notify a single event tries
 * humcli.record_next() first. Returns false if the connection is gone.
 */
bool database_send_record(struct database *db, struct delivery *const *batch,
			  size_t count,
			  const struct record_options *options) MUST_CHECK;
/*
 * Sends notifications: of events and of gaps. Without any, sends the empty one
 * (a resync). Returns false if the connection is gone.
 */
bool database_send_notify(struct database *db, struct text_list *events,
			  struct text_list *gaps) MUST_CHECK;
/* Asks for a round trip. Returns false if the connection is gone. */
bool database_send_ping(struct database *db) MUST_CHECK;
/* Returns the number of requests in flight. */
size_t database_pending(const struct database *db) MUST_CHECK;

enum row_outcome {
	ROW_RECORDED,
	ROW_DUPLICATE,
	ROW_REPEAT,
	ROW_BUSY, /* its task was locked for too long */
	ROW_PROMOTED, /* an earlier repeat, because of this delivery */
	ROW_GAP /* a gap that this delivery opened */
};

struct database_row {
	size_t index; /* in the batch that was sent */
	enum row_outcome outcome;
	const char *notification; /* "" if there is none to send */
};

struct database_result {
	enum database_request request;
	bool committed;
	char sqlstate[6]; /* "" if committed, or if there is none */
	char message[256];
	bool unreadable; /* the data of the one event is the cause */
	const struct database_row *rows; /* until the next call */
	size_t count;
};

/*
 * Sets the message of a result to what a lost connection said last. Call it
 * before database_disconnect().
 */
void database_explain_loss(const struct database *db,
			   struct database_result *result);

enum database_status { DATABASE_NOTHING, DATABASE_RESULT, DATABASE_LOST };

/* Returns the descriptor to poll, and for what; -1 if not connected. */
int database_socket(const struct database *db, short *events) MUST_CHECK;
/*
 * Writes what was sent to the socket, as far as that goes without waiting.
 * Returns false if the connection is gone.
 */
bool database_flush(struct database *db) MUST_CHECK;
/*
 * Reads from the socket, and writes the rest of what was sent. Call this when
 * poll() reports the descriptor. Returns false if the connection is gone.
 */
bool database_receive(struct database *db) MUST_CHECK;
/*
 * Returns the next result that has come in. After DATABASE_LOST the caller
 * disconnects.
 */
enum database_status database_next(struct database *db,
				   struct database_result *result) MUST_CHECK;

#endif
