/* Aligned tables on stdout. */
#ifndef TABLE_H
#define TABLE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

struct table {
	/* The titles, then the rows, line by line. */
	struct cell {
		char *text;
		bool wrong; /* in red, where stdout has colours */
	} * cells;
	size_t count;
	size_t columns;
	size_t *widths; /* of the columns that were printed; NULL: none yet */
};

/* Adds a column; "task_id" is headed TASK ID. Call before table_add_cell(). */
void table_add_column(struct table *t, const char *name);
/*
 * Adds the next cell, line by line, escaped as cli_escape() does. NULL and ""
 * are shown as "-".
 */
void table_add_cell(struct table *t, const char *text);
/* Adds a cell that tells of something wrong. */
void table_add_wrong(struct table *t, const char *text);
/*
 * Appends the titles and the rows to out, and takes the rows out of the table.
 * Called again, it appends only the rows that were added since. On a terminal
 * only the columns that fit are there, unless wide.
 */
void table_format(struct table *t, bool wide, struct buf *out);
/*
 * Prints the titles and the rows. On a terminal it prints "none" if there are
 * no rows.
 */
void table_print(struct table *t, bool wide);
void table_free(struct table *t);

#endif
