/* Cells and sections of the page. */
#ifndef REPORT_TABLES_H
#define REPORT_TABLES_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

/* Appends the start and the end of a section; note is markup, or "". */
void report_section(struct buf *b, const char *id, const char *title,
		    const char *note);
void report_section_end(struct buf *b);

/* Appends the start of a table with these titles; "#" in front: of numbers. */
void report_table(struct buf *b, const char *const *titles, size_t count);
void report_table_end(struct buf *b);

/* Appends a cell, whose title stands beside it on a telephone. */
void report_cell(struct buf *b, const char *title, const char *text);
void report_code_cell(struct buf *b, const char *title, const char *text);
void report_number_cell(struct buf *b, const char *title, uint64_t number);
/* Appends a time and, in brackets, how long ago that is (ms). */
void report_time_cell(struct buf *b, const char *title, const char *time,
		      uint64_t age);

#endif
