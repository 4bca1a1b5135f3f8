/*
 * Compares the statuses that HumCLI tells with those that are recorded. Pure:
 * it knows neither the network nor the database.
 */
#ifndef COMPARE_H
#define COMPARE_H

#include "base/macros.h"
#include "cli/reconcile/answer.h"

#include <stdbool.h>
#include <stddef.h>

/* A task as it is recorded. */
struct own_task {
	char *task_id;
	char *status;
	char *agent; /* the name of its secret; NULL if unknown */
	bool is_open; /* its status is not terminal, and it is not purged */
};

/* The tasks that HumCLI told, and their number. */
struct told {
	struct told_task *list; /* in any order; a task may be in it twice */
	size_t count;
	/*
	 * Returns true if the lists that hold the open tasks of this agent were
	 * read whole; agent may be NULL.
	 */
	bool (*is_whole)(void *context, const char *agent);
	void *context;
};

/* A task to ask for by its id. Both point into the inputs. */
struct candidate {
	const char *task_id;
	const char *agent; /* NULL if unknown */
};

struct candidates {
	struct candidate *list;
	size_t count;
};

/*
 * Returns true if HumCLI's status tells of an event that is not recorded. own
 * is NULL if nothing is recorded of the task: then PENDING is none, because
 * tasks begin there.
 */
bool status_differs(const char *own, const char *told) MUST_CHECK;

/*
 * Fills s with the tasks that HumCLI lists with another status, and then with
 * the open ones that no list has, in the order of own. A task that is listed
 * twice, with its recorded status among them, is none of them. Sorts
 * told->list. The caller frees s->list.
 */
void compare(const struct own_task *own, size_t count, struct told *told,
	     struct candidates *s);

#endif
