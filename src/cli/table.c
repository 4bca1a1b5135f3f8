/*
 * Owns the form of a table: titles in capitals, columns as wide as their
 * widest cell, two spaces between them. Must not know where the cells come
 * from.
 */
#include "cli/table.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "cli/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct table *t, char *cell)
{
	t->cells = xrealloc(t->cells, (t->count + 1) * sizeof(*t->cells));
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

void table_print(const struct table *t)
{
	size_t *widths = measure(t);

	for (size_t i = 0; i < t->count; i++) {
		size_t column = i % t->columns;

		if (column == t->columns - 1)
			puts(t->cells[i]);
		else
			printf("%-*s  ", (int)widths[column], t->cells[i]);
	}
	free(widths);
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){ 0 };
}
