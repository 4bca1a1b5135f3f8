/*
 * Owns the form of a table: titles in capitals, columns as wide as their
 * widest cell, two spaces between them. On a terminal it leaves out the last
 * columns where the lines would be too long, so the caller adds the columns
 * that matter first; and cells that tell of something wrong are red. Must not
 * know where the cells come from.
 */
#include "cli/table.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/output.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GAP = 2 };

static void add(struct table *t, char *text, bool wrong)
{
	t->cells = array_grow(t->cells, t->count, sizeof(*t->cells));
	t->cells[t->count++] = (struct cell){ text, wrong };
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
	add(t, title, false);
	t->columns++;
}

void table_add_cell(struct table *t, const char *text)
{
	add(t, escape(text), false);
}

void table_add_wrong(struct table *t, const char *text)
{
	add(t, escape(text), true);
}

/* Widens the columns to their widest cell. */
static void measure(struct table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		size_t *width = &t->widths[i % t->columns];
		size_t length = strlen(t->cells[i].text);

		*width = length > *width ? length : *width;
	}
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
static size_t columns_that_fit(const struct table *t)
{
	size_t width = terminal_width(), used = 0, columns = 0;

	while (columns < t->columns) {
		used += t->widths[columns] + (columns ? GAP : 0);
		if (columns && used > width)
			break;
		columns++;
	}
	return columns;
}

static void format_cell(const struct cell *c, size_t width, struct buf *out)
{
	bool red = c->wrong && output_has_colours();

	buf_printf(out, "%s%s%s", red ? OUTPUT_RED : "", c->text,
		   red ? OUTPUT_PLAIN : "");
	if (width)
		buf_printf(out, "%*s", (int)(width - strlen(c->text) + GAP),
			   "");
}

static void remove_rows(struct table *t)
{
	while (t->count > t->columns)
		free(t->cells[--t->count].text);
}

void table_format(struct table *t, bool wide, struct buf *out)
{
	bool first = !t->widths;
	size_t shown;

	if (first)
		t->widths = xcalloc(t->columns, sizeof(*t->widths));
	measure(t);
	shown = wide ? t->columns : columns_that_fit(t);
	for (size_t i = first ? 0 : t->columns; i < t->count; i++) {
		size_t column = i % t->columns;

		if (column < shown)
			format_cell(&t->cells[i],
				    column == shown - 1 ? 0 : t->widths[column],
				    out);
		if (column == shown - 1)
			buf_add(out, "\n", 1);
	}
	if (first && shown < t->columns)
		buf_printf(out, "(%zu more column%s with --wide)\n",
			   t->columns - shown, PLURAL_S(t->columns - shown));
	remove_rows(t);
}

void table_print(struct table *t, bool wide)
{
	struct buf out = { 0 };

	if (t->count == t->columns && isatty(STDOUT_FILENO)) {
		puts("none");
		return;
	}
	table_format(t, wide, &out);
	fputs(out.data, stdout);
	buf_free(&out);
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t->widths);
	*t = (struct table){ 0 };
}
