/*
 * A connection of the command line to PostgreSQL: one question at a time,
 * always with parameters, and notifications in between. The verbs know no
 * libpq, but for init and doctor, which are after why a connection fails.
 */
#ifndef SESSION_H
#define SESSION_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

/*
 * conninfo as connector_new() takes it. primary: a standby will not do.
 * stop: a descriptor that, once readable, ends every wait (-1: none).
 */
struct session *session_new(const char *conninfo, bool primary,
			    int stop) MUST_CHECK;
void session_free(struct session *s);

/*
 * Makes the connection where there is none. The time between two attempts
 * grows until session_reset_backoff() says that one was good; before it is over,
 * session_open() returns false at once. Other reasons are in the log.
 */
bool session_open(struct session *s) MUST_CHECK;
/*
 * Does the same for a session that is idle for long: an idle_session_timeout
 * of the role or database does not end it.
 */
bool session_open_lasting(struct session *s) MUST_CHECK;
bool session_is_open(const struct session *s) MUST_CHECK;
/* When session_open() would try again, by monotonic_ms(). */
int64_t session_retry_at(const struct session *s) MUST_CHECK;
void session_reset_backoff(struct session *s);
void session_close(struct session *s);
/* Whether it was told to stop. */
bool session_stop_requested(const struct session *s) MUST_CHECK;
/* For poll(); -1 while there is no connection. */
int session_socket(const struct session *s) MUST_CHECK;

enum query_status {
	QUERY_OK,
	QUERY_REFUSED, /* by the server: session_sqlstate() */
	QUERY_LOST /* no connection, or no answer in time */
};

/*
 * Begins a transaction, which may be idle until the connection is closed,
 * whatever idle_in_transaction_session_timeout says.
 */
enum query_status session_begin(struct session *s, int64_t limit) MUST_CHECK;

/*
 * The same database as another role, where conninfo leads to a server of this
 * machine by a unix socket; NULL otherwise. The caller frees it.
 */
char *session_conninfo_as(const char *conninfo, const char *role) MUST_CHECK;

struct rows;

/*
 * Asks, in a transaction of its own (pq_query_guarded()), with count values for $1 and on (NULL is NULL), and waits for the
 * answer: limit ms, or once told to stop 2 s more. rows may be NULL; else
 * the caller frees them. What went wrong is in session_message().
 */
enum query_status session_query(struct session *s, const char *query,
				const char *const *values, size_t count,
				int64_t limit, struct rows **rows) MUST_CHECK;
/* Five characters, "" where the server gave none. */
const char *session_sqlstate(const struct session *s);
/* Its exit code; EX_OK where asking again may help. */
int session_exit_code(const struct session *s);
/*
 * Records that an answer does not fit this program: a function of the schema
 * is of another version. what names the function. Returns QUERY_REFUSED.
 */
enum query_status session_reject(struct session *s, const char *what);
/* One line. */
const char *session_message(const struct session *s);

size_t rows_count(const struct rows *r) MUST_CHECK;
size_t rows_columns(const struct rows *r) MUST_CHECK;
const char *rows_title(const struct rows *r, size_t column) MUST_CHECK;
/* NULL for NULL. */
const char *rows_get(const struct rows *r, size_t row,
		     size_t column) MUST_CHECK;
/* The same, but "" for NULL and for a row that is not there. */
const char *rows_text(const struct rows *r, size_t row,
		      size_t column) MUST_CHECK;
/*
 * Appends the bytes of a bytea, which is not NULL. False: the server sent
 * something else.
 */
bool rows_bytes(const struct rows *r, size_t row, size_t column,
		struct buf *bytes) MUST_CHECK;
void rows_free(struct rows *r);

/* Takes in what has come. False: the connection is gone. */
bool session_receive(struct session *s) MUST_CHECK;

struct notification {
	char *channel;
	char *payload;
};

/* The next one that was received; to be freed. False: there is none. */
bool session_notification(struct session *s, struct notification *n) MUST_CHECK;
void notification_free(struct notification *n);

#endif
