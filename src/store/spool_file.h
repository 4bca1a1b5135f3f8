/*
 * The text of a file in the spool: of a delivery, and of the note beside a
 * delivery that the database refused.
 */
#ifndef SPOOL_FILE_H
#define SPOOL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/buf.h"
#include "base/hmac.h"
#include "base/macros.h"

/* A delivery as the spool keeps it; the caller owns the texts. */
struct spool_entry {
	const char *signature; /* 64 lowercase hex digits */
	const char *secret_name;
	const char *body;
	size_t length;
	int64_t received_at; /* us since 1970 */
};

/* A parsed file; the strings of the entry point into text. */
struct spool_file {
	struct buf text;
	struct spool_entry entry;
};

/* The note of a delivery that the database refused. */
struct spool_refusal {
	unsigned attempts;
	int64_t retry_at; /* us since 1970; not in the text, but its mtime */
	char *reason; /* SQLSTATE and message; the reader frees it */
};

/*
 * Appends the text of a file to text. A time of receipt before 1970 or after
 * 9999, of a wrong clock, becomes the first or last one that can be read.
 */
void spool_file_render(const struct spool_entry *e, struct buf *text);
/*
 * Parses f->text, which it changes, into f->entry. Returns true if the text
 * has this form and version; false otherwise.
 */
bool spool_file_parse(struct spool_file *f) MUST_CHECK;
void spool_file_free(struct spool_file *file);

/* Appends the text of a note to text. */
void spool_refusal_render(const struct spool_refusal *r, struct buf *text);
/*
 * Parses the text of a note, which it changes. Returns true with attempts and
 * a new reason; false if the text has another form.
 */
bool spool_refusal_parse(char *text, struct spool_refusal *r) MUST_CHECK;

/* Returns a time of a file system as us since 1970, within 1970 and 9999. */
int64_t spool_time(const struct timespec *t) MUST_CHECK;

#endif
