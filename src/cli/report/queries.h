/* The report's questions to the database. */
#ifndef REPORT_QUERIES_H
#define REPORT_QUERIES_H

#include "base/macros.h"
#include "cli/query.h"

/* Limits of what is looked at, so that the time does not grow with the events. */
#define REPORT_OPEN_SHOWN "25" /* open tasks in the table */
#define REPORT_TASKS_SHOWN "20" /* tasks with a picture */
#define REPORT_STEPS_SHOWN "60" /* of a task */
#define REPORT_PLOTTED "100000" /* newest events in the plots */
#define REPORT_SAMPLED "20000" /* newest events for the percentiles */
#define REPORT_QUARANTINED "10000" /* newest signed bodies that are counted */
#define REPORT_ROWS "50" /* of any other table */

enum { REPORT_DAYS = 14, REPORT_HOURS = REPORT_DAYS * 24 };

/* A question; its rows have the columns of the enum of the same name. */
enum report_question {
	ASK_TOTALS,
	ASK_OPEN,
	ASK_STEPS,
	ASK_HOURS,
	ASK_GAPS,
	ASK_SUBSCRIPTIONS,
	ASK_QUARANTINE,
	QUESTION_COUNT
};

/*
 * One row. The times are ms; "" where there are no events. Half and 95 of 100
 * of the sampled events: from receipt to record, from its own time to receipt.
 */
enum totals_column {
	TOTAL_LAST_AT,
	TOTAL_LAST_AGE,
	TOTAL_DEAD,
	TOTAL_QUARANTINED,
	TOTAL_QUARANTINED_WEEK,
	TOTAL_REPEATS,
	TOTAL_RECORD_HALF,
	TOTAL_RECORD_95,
	TOTAL_RECORD_MAX,
	TOTAL_DELIVERY_HALF,
	TOTAL_DELIVERY_95
};

/* Open tasks, those first whose status has lasted longest. Ages are ms. */
enum open_column {
	OPEN_COUNT,
	OPEN_TASK,
	OPEN_STATUS,
	OPEN_MEANING,
	OPEN_SECRET,
	OPEN_SINCE,
	OPEN_AGE,
	OPEN_FIRST,
	OPEN_FIRST_AGE,
	OPEN_NEWEST_AGE
};

/* Events and repeats of the last tasks, by task, in order. Times are ms. */
enum step_column {
	STEP_TASK,
	STEP_KIND, /* "event" or "repeat" */
	STEP_STATUS,
	STEP_MEANING,
	STEP_OCCURRED,
	STEP_OCCURRED_AT,
	STEP_RECEIVED_AT,
	STEP_RECORD_MS, /* from receipt to record */
	STEP_MISSING, /* the status that it follows on, if not recorded */
	STEP_TERMINAL, /* t, f or NULL */
	STEP_SECRET,
	STEP_OMITTED, /* how many steps before these are not shown */
	STEP_NOW
};

/* Numbers of events by hour and by how long recording took. */
enum hours_column {
	HOUR_AGO,
	HOUR_BUCKET,
	HOUR_COUNT,
	HOUR_NOW, /* s since 1970 */
	HOUR_LIMITED /* t if older events of these days are left out */
};

/* Upper ends of the buckets, in ms; a last bucket has all that took longer. */
extern const int64_t report_buckets[];
enum { REPORT_BUCKETS = 12 };

enum gap_column {
	GAP_COUNT,
	GAP_TASK,
	GAP_MISSING,
	GAP_BEFORE,
	GAP_STATUS,
	GAP_AT
};

enum subscription_column {
	SUB_NAME,
	SUB_POOL,
	SUB_PENDING,
	SUB_OLDEST,
	SUB_OLDEST_AGE,
	SUB_CLAIMED,
	SUB_DEAD,
	SUB_SEEN,
	SUB_SEEN_AGE,
	SUB_STATUSES,
	SUB_SECRETS,
	SUB_REBASE
};

enum quarantine_column {
	QUARANTINE_REASON,
	QUARANTINE_BODIES,
	QUARANTINE_DELIVERIES,
	QUARANTINE_SECRETS,
	QUARANTINE_NEWEST
};

struct answers {
	struct rows *rows[QUESTION_COUNT]; /* NULL: not asked, or failed */
};

/* Asks all. Returns EX_OK, or the exit code of an error that was reported. */
int report_ask(struct query *q, struct answers *a) MUST_CHECK;
void report_free(struct answers *a);

/* Returns a cell as a number; 0 if it is none, or negative. */
uint64_t report_number(const struct rows *r, size_t row,
		       size_t column) MUST_CHECK;

#endif
