/*
 * A connection of the command line to PostgreSQL: one question at a time,
 * always with parameters, and notifications in between. Only init and doctor
 * know libpq, too, because they explain why a connection fails.
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
 * Prepares a connection and does not make it yet. conninfo is as for
 * connector_new(). primary: a standby is passed over. stop: a descriptor that
 * ends every wait once it is readable (-1: none).
 */
struct session *session_new(const char *conninfo, bool primary,
			    int stop) MUST_CHECK;
void session_free(struct session *s);

/*
 * Connects if there is no connection. Returns true if there is one; false if
 * the attempt failed, with the reason in the log, or if the pause since the
 * last attempt is not over. Pauses grow until session_reset_backoff() is
 * called.
 */
bool session_open(struct session *s) MUST_CHECK;
/*
 * Connects like session_open(), for a session that is idle for long: an
 * idle_session_timeout of the role or database does not end it.
 */
bool session_open_lasting(struct session *s) MUST_CHECK;
bool session_is_open(const struct session *s) MUST_CHECK;
/* Returns when session_open() tries again, ms, monotonic. */
int64_t session_retry_at(const struct session *s) MUST_CHECK;
void session_reset_backoff(struct session *s);
void session_close(struct session *s);
/* Returns true if the descriptor stop is readable. */
bool session_stop_requested(const struct session *s) MUST_CHECK;
/* Returns the socket for poll(); -1 while there is no connection. */
int session_socket(const struct session *s) MUST_CHECK;

enum query_status {
	QUERY_OK,
	QUERY_REFUSED, /* by the server; see session_sqlstate() */
	QUERY_LOST /* no connection, or no answer in time */
};

/*
 * Begins a transaction, which may be idle until the connection is closed: no
 * time limit of a role or database counts in it.
 */
enum query_status session_begin(struct session *s, int64_t limit) MUST_CHECK;

/*
 * Returns a conninfo for the same database as another role, if the server is
 * reached by a unix socket; NULL otherwise. The caller frees it.
 */
char *session_conninfo_as(const char *conninfo, const char *role) MUST_CHECK;

struct rows;

/*
 * Asks in a transaction of its own (pq_query_guarded()), with count values for
 * $1 and on; NULL is NULL. Waits at most limit ms for the answer, and 2 s once
 * stop is readable. rows may be NULL; otherwise the caller frees *rows after
 * QUERY_OK. The reason of a failure is in session_message().
 */
enum query_status session_query(struct session *s, const char *query,
				const char *const *values, size_t count,
				int64_t limit, struct rows **rows) MUST_CHECK;
/* Returns the last error's SQLSTATE; "" if the server gave none. */
const char *session_sqlstate(const struct session *s);
/* Returns the exit code for the last error; EX_OK if asking again may help. */
int session_exit_code(const struct session *s);
/*
 * Records that an answer does not fit this program: a function of the schema
 * is of another version. what names the function. Returns QUERY_REFUSED.
 */
enum query_status session_reject(struct session *s, const char *what);
/* Returns why session_open() failed last, in one line. */
const char *session_connect_failure(const struct session *s);
/* Returns the last error in one line, with what helps if that is known. */
const char *session_message(const struct session *s);

size_t rows_count(const struct rows *r) MUST_CHECK;
size_t rows_columns(const struct rows *r) MUST_CHECK;
const char *rows_title(const struct rows *r, size_t column) MUST_CHECK;
/* Returns true if the column's type is boolean; its values are t and f. */
bool rows_is_boolean(const struct rows *r, size_t column) MUST_CHECK;
/* Returns the text of a cell; NULL for NULL. */
const char *rows_get(const struct rows *r, size_t row,
		     size_t column) MUST_CHECK;
/* Returns the text of a cell; "" for NULL and for a cell that is not there. */
const char *rows_text(const struct rows *r, size_t row,
		      size_t column) MUST_CHECK;
/*
 * Appends the bytes of a bytea. Returns false if the cell is NULL or no bytea.
 */
bool rows_bytes(const struct rows *r, size_t row, size_t column,
		struct buf *bytes) MUST_CHECK;
void rows_free(struct rows *r);

/* Reads what the server has sent. Returns false if the connection is lost. */
bool session_receive(struct session *s) MUST_CHECK;

struct notification {
	char *channel;
	char *payload;
};

/*
 * Returns true and the next notification, which the caller frees; false if
 * there is none.
 */
bool session_notification(struct session *s, struct notification *n) MUST_CHECK;
void notification_free(struct notification *n);

#endif
