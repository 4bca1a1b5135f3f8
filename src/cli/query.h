/*
 * What the verbs that ask the database share: a connection by the settings,
 * and rows as an aligned table or as lines of JSON.
 */
#ifndef QUERY_H
#define QUERY_H

#include "base/macros.h"
#include "cli/cli.h"
#include "cli/session.h"
#include "config/settings.h"

#include <stdbool.h>
#include <stddef.h>

struct query {
	const struct verb *verb;
	struct settings settings;
	struct session *session;
};

/*
 * Loads the settings and connects, to a standby too; times are in UTC both
 * ways. Run by root it becomes the user postgres, where the settings are those
 * of the whole system and the database is on this machine. Returns EX_OK, or
 * the exit code of an error that was reported.
 */
int query_open(struct query *q, const struct verb *v) MUST_CHECK;
/* The same for a verb that writes: a standby will not do. */
int query_open_primary(struct query *q, const struct verb *v) MUST_CHECK;
/* The two halves of query_open_primary(), for a verb with work in between. */
int query_load(struct query *q, const struct verb *v) MUST_CHECK;
int query_connect(struct query *q) MUST_CHECK;
/* Also after that failed. */
void query_close(struct query *q);

/* As session_query(), without a limit; EX_OK, or as query_open(). */
int query_run(struct query *q, const char *sql, const char *const *values,
	      size_t count, struct rows **rows) MUST_CHECK;

/*
 * Calls a function that returns how many it has changed. EX_OK; EX_CONFIG if
 * it returned no number, because it is of another version; or as query_run().
 */
int query_count(struct query *q, const char *sql, const char *const *values,
		size_t count, uint64_t *changed) MUST_CHECK;

/* A timestamptz as all output has it: ISO 8601, ms, Z. */
#define ISO_TIME(column)                                    \
	"pg_catalog.to_char(" column " AT TIME ZONE 'UTC'," \
	" 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

/* How rows are printed: the values of --json and --wide. */
struct query_form {
	bool json;
	bool wide;
};
#define QUERY_FORM_OPTIONS(form)           \
	{ "json", NULL, &(form).json },    \
	{                                  \
		"wide", NULL, &(form).wide \
	}

/*
 * Prints what a SELECT gives, count of them in *printed (which may be NULL):
 * a table as table_print() has it, or with json an object a line, whose keys
 * are the columns. A column named payload or body is for JSON alone.
 */
int query_print(struct query *q, const char *sql, const char *const *values,
		size_t count, const struct query_form *form, size_t *printed);

#endif
