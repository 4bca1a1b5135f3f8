/* The page of the report: a file for each kind of section. */
#ifndef REPORT_PAGE_H
#define REPORT_PAGE_H

#include "base/buf.h"
#include "base/macros.h"
#include "cli/report/checks.h"
#include "cli/report/queries.h"
#include "cli/spool_sums.h"

#include <stdbool.h>
#include <stdint.h>

/* All that the page shows. */
struct report {
	int64_t now; /* us since 1970 */
	const char *fault; /* why the database is not shown; NULL: it is */
	struct answers answers;
	struct checks checks;
	const struct settings *settings;
	bool spool_counted;
	struct spool_sums spool;
};

/* Appends the whole page. */
void report_put_page(struct buf *b, const struct report *r);

/*
 * Appends a section; they follow in the order of the page. The sections of the
 * database need answers.
 */
void report_put_open(struct buf *b, const struct report *r);
void report_put_tasks(struct buf *b, const struct report *r);
void report_put_plots(struct buf *b, const struct report *r);
void report_put_gaps(struct buf *b, const struct report *r);
void report_put_subscriptions(struct buf *b, const struct report *r);
void report_put_quarantine(struct buf *b, const struct report *r);
void report_put_spool(struct buf *b, const struct report *r);
void report_put_checks(struct buf *b, const struct report *r);

/* Returns the class of a status, which gives its color. */
const char *report_status_class(const char *status) MUST_CHECK;
/* Appends a status as a colored label. */
void report_put_status(struct buf *b, const char *status);

/* The style sheet. */
extern const char report_style[];

#endif
