/*
 * Owns the form of a table: titles in capitals, columns as wide as their
 * widest cell, two spaces between them. On a terminal it leaves out the last
 * columns where the lines would be too long, so the caller adds the columns
 * that matter first. Must not know where the cells come from.
 */
#include "cli/table.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "cli/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GAP = 2 };

static void add(struct table *t, char *cell)
{
	t->cells = array_grow(t->cells, t->count, sizeof(*t->cells));
	t->cells[t->count++] = cell;
}

static char *escape(const char *text)
{
	struct buf plain = { 0 };

	cli_escape(&plain, text && *text ? text : "-");
	return plain.data;
}

void table_add_column(struct table *t, const char *name)
{
	char *title = escape(name);

	for (char *p = title; *p; p++)
		*p = (char)(*p == '_' ? ' ' : toupper((unsigned char)*p));
	add(t, title);
	t->columns++;
}

void table_add_cell(struct table *t, const char *text)
{
	add(t, escape(text));
}

/* Returns the width of each column; the caller frees them. */
static size_t *measure(const struct table *t)
{
	size_t *widths = xcalloc(t->columns, sizeof(*widths));

	for (size_t i = 0; i < t->count; i++) {
		size_t *width = &widths[i % t->columns];
		size_t length = strlen(t->cells[i]);

		*width = length > *width ? length : *width;
	}
	return widths;
}

/* Returns the width of the terminal; SIZE_MAX if stdout is none. */
static size_t terminal_width(void)
{
	struct winsize size = { 0 };

	if (!isatty(STDOUT_FILENO))
		return SIZE_MAX;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col
		       ? size.ws_col
		       : 80;
}

/* Returns how many columns fit; the first always does. */
static size_t columns_that_fit(const struct table *t, const size_t *widths)
{
	size_t width = terminal_width(), used = 0, columns = 0;

	while (columns < t->columns) {
		used += widths[columns] + (columns ? GAP : 0);
		if (columns && used > width)
			break;
		columns++;
	}
	return columns;
}

void table_print(const struct table *t, bool wide)
{
	size_t *widths = measure(t);
	size_t shown = wide ? t->columns : columns_that_fit(t, widths);

	if (t->count == t->columns && isatty(STDOUT_FILENO)) {
		puts("none");
		free(widths);
		return;
	}
	for (size_t i = 0; i < t->count; i++) {
		size_t column = i % t->columns;

		if (column == shown - 1)
			puts(t->cells[i]);
		else if (column < shown)
			printf("%-*s%*s", (int)widths[column], t->cells[i], GAP,
			       "");
	}
	if (shown < t->columns)
		printf("(%zu more columns with --wide)\n", t->columns - shown);
	free(widths);
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){ 0 };
}
