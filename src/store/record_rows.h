/* The rows of humcli.record_batch(), decoded. For the database alone. */
#ifndef RECORD_ROWS_H
#define RECORD_ROWS_H

#include "base/buf.h"
#include "store/database.h"

#include <libpq-fe.h>

/* Zeroes are an empty one. The memory is kept and used again. */
struct record_rows {
	struct database_row *list;
	size_t count;
	size_t capacity;
	struct buf texts; /* the notifications, each with a NUL */
};

void record_rows_free(struct record_rows *rows);

/*
 * Reads the rows of humcli.record_batch(). indexes has, for each of the `count`
 * events that were sent, its index in the batch. Returns false if the rows have
 * another form.
 */
bool record_rows_read(struct record_rows *rows, const PGresult *result,
		      const size_t *indexes, size_t count) MUST_CHECK;
/*
 * Reads the result of humcli.record_next(), which notifies itself: the id of
 * the one event, or NULL, which gives no row, if it declines.
 */
bool record_rows_read_next(struct record_rows *rows, const PGresult *result,
			   size_t index) MUST_CHECK;

#endif
