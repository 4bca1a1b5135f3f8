/* Aligned tables on stdout. */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table {
	char **cells; /* the titles, then the rows, line by line */
	size_t count;
	size_t columns;
};

/* Adds a column; "task_id" is headed TASK ID. Call before table_add_cell(). */
void table_add_column(struct table *t, const char *name);
/*
 * Adds the next cell, line by line, escaped as cli_escape() does. NULL and ""
 * are shown as "-".
 */
void table_add_cell(struct table *t, const char *text);
/*
 * Prints the titles and the rows. On a terminal it prints "none" if there are
 * no rows, and, unless wide, only the columns that fit.
 */
void table_print(const struct table *t, bool wide);
void table_free(struct table *t);

#endif
