/*
 * The SQL of reconcile: reads the recorded history of tasks, and adds readings
 * and events. Knows nothing of HTTP.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "base/buf.h"
#include "base/macros.h"
#include "cli/query.h"
#include "cli/reconcile/compare.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A row of humcli.statuses. */
struct known_status {
	char *status;
	char *timestamp_field; /* NULL: no field of the API is known */
	bool is_terminal;
};

struct known_statuses {
	struct known_status *list;
	size_t count;
};

/* All functions return EX_OK, or the exit code of a reported error. */

int history_statuses(struct query *q, struct known_statuses *s) MUST_CHECK;
void known_statuses_free(struct known_statuses *s);
/* Returns the API's field with the time of a status; NULL if there is none. */
const char *known_statuses_field(const struct known_statuses *s,
				 const char *status) MUST_CHECK;

struct own_tasks {
	struct own_task *list;
	size_t count;
};

/*
 * Reads the open tasks and the tasks of told. The open ones come in the order
 * in which HumCLI was asked for them, the longest ago first. An open task that
 * no key may read is left out for a day.
 */
int history_tasks(struct query *q, const struct page *told,
		  struct own_tasks *tasks) MUST_CHECK;
void own_tasks_free(struct own_tasks *tasks);

/* The end of a task's timeline. */
struct last_event {
	char *status; /* NULL: nothing is recorded */
	char *id; /* NULL: nothing is recorded */
	char *agent; /* NULL: unknown */
};

int history_last(struct query *q, const char *task_id,
		 struct last_event *last) MUST_CHECK;
void last_event_free(struct last_event *last);

/* An answer about one task. */
struct reading {
	const char *task_id;
	const char *key; /* its name */
	long http_status;
	int64_t read_at; /* us since 1970 */
	int64_t told_at; /* the same moment by HumCLI's clock */
	const struct buf *body;
	/* Of the answer 200: */
	const char *status;
	int64_t occurred_at; /* us since 1970, by the API; 0: none */
	bool has_time; /* occurred_at is set */
};

int history_add_reading(struct query *q, const struct reading *r) MUST_CHECK;

enum record_outcome {
	STATUS_RECORDED,
	STATUS_CURRENT, /* a webhook was faster */
	STATUS_CHANGED, /* another webhook was: compare in the next run */
	STATUS_BUSY
};

/* Records a status that was read. *id is of the event; the caller frees it. */
int history_record(struct query *q, const struct reading *r,
		   const struct last_event *last, enum record_outcome *outcome,
		   char **id) MUST_CHECK;

struct run_result {
	int64_t started_at; /* us since 1970 */
	unsigned requests, tasks, repaired, denied;
	const char *fault; /* NULL: the run is whole */
};

int history_add_run(struct query *q, const struct run_result *r) MUST_CHECK;

#endif
