/*
 * The answers of HumCLI's API, by the names that its documentation has: a page
 * of the list of tasks, one task, an error. The only files of reconcile that
 * know JSON.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A task as the list has it. */
struct told_task {
	char *task_id;
	char *status;
};

struct page {
	struct told_task *list;
	size_t count;
	uint64_t total; /* of all pages of this question */
};

/*
 * Reads {"data": [{"task_id", "status"}], "pagination": {"total"}}. Returns
 * true if the body is a page; false otherwise, with the reason in reason. The
 * caller frees *p after both.
 */
bool page_parse(const struct buf *body, struct page *p, char *reason,
		size_t size) MUST_CHECK;
void page_free(struct page *p);

struct task_answer;

/*
 * Reads an object with "task_id" and "status", or one whose member "data" is
 * such an object. Returns NULL if the body is no answer about this task, with
 * the reason in reason.
 */
struct task_answer *task_answer_parse(const struct buf *body,
				      const char *task_id, char *reason,
				      size_t size) MUST_CHECK;
void task_answer_free(struct task_answer *t);
const char *task_answer_status(const struct task_answer *t) MUST_CHECK;
/*
 * Reads the time in a field of the task; a dot leads into an object, as in
 * "timestamps.accepted_at". Returns true and sets *us (since 1970); false if
 * there is no such field, or no time in it.
 */
bool task_answer_time(const struct task_answer *t, const char *field,
		      int64_t *us) MUST_CHECK;

/*
 * Returns the text of {"error": "..."}, or "" if there is none. The caller
 * frees it.
 */
char *error_answer_text(const struct buf *body) MUST_CHECK;

#endif
