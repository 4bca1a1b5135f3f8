/*
 * Owns the rule by which a task becomes a candidate: HumCLI may know an event of
 * it that is not recorded. Sorts both sides by the task's id, and looks each
 * task up.
 */
#include "cli/reconcile/compare.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* Returns true for a task of send or probe, which HumCLI does not know. */
static bool is_test(const char *task_id)
{
	return strncmp(task_id, "task_test_", 10) == 0;
}

static int order_told(const void *a, const void *b)
{
	const struct told_task *x = a, *y = b;

	return strcmp(x->task_id, y->task_id);
}

static int order_own(const void *a, const void *b)
{
	const struct own_task *const *x = a, *const *y = b;

	return strcmp((*x)->task_id, (*y)->task_id);
}

static void add(struct candidates *s, const char *task_id, const char *agent)
{
	s->list = array_grow(s->list, s->count, sizeof(*s->list));
	s->list[s->count++] = (struct candidate){ task_id, agent };
}

bool status_differs(const char *own, const char *told)
{
	return strcmp(own ? own : "PENDING", told) != 0;
}

/* Compares an id with an element of either side, for bsearch(). */
static int order_id_own(const void *id, const void *element)
{
	const struct own_task *const *task = element;

	return strcmp(id, (*task)->task_id);
}

static int order_id_told(const void *id, const void *element)
{
	const struct told_task *task = element;

	return strcmp(id, task->task_id);
}

/* Returns the recorded task; NULL if there is none. */
static const struct own_task *find_own(const struct own_task *const *sorted,
				       size_t count, const char *task_id)
{
	const struct own_task *const *found =
		count ? bsearch(task_id, sorted, count, sizeof(*sorted),
				order_id_own)
		      : NULL;

	return found ? *found : NULL;
}

/* Judges the tasks of the list; equal ids stand side by side. */
static void compare_told(const struct own_task *const *sorted, size_t count,
			 const struct told *told, struct candidates *s)
{
	size_t end;

	for (size_t i = 0; i < told->count; i = end) {
		const char *task_id = told->list[i].task_id;
		const struct own_task *own = find_own(sorted, count, task_id);
		bool differs = true;

		for (end = i; end < told->count &&
			      strcmp(told->list[end].task_id, task_id) == 0;
		     end++) {
			if (!status_differs(own ? own->status : NULL,
					    told->list[end].status))
				differs = false;
		}
		if (differs && !is_test(task_id))
			add(s, task_id, own ? own->agent : NULL);
	}
}

static bool is_told(const struct told *told, const char *task_id)
{
	return told->count && bsearch(task_id, told->list, told->count,
				      sizeof(*told->list), order_id_told);
}

void compare(const struct own_task *own, size_t count, struct told *told,
	     struct candidates *s)
{
	const struct own_task **sorted = xcalloc(count + 1, sizeof(*sorted));

	*s = (struct candidates){ 0 };
	for (size_t i = 0; i < count; i++)
		sorted[i] = &own[i];
	qsort(sorted, count, sizeof(struct own_task *), order_own);
	if (told->count)
		qsort(told->list, told->count, sizeof(*told->list), order_told);
	compare_told(sorted, count, told, s);
	for (size_t i = 0; i < count; i++) {
		if (own[i].is_open && !is_test(own[i].task_id) &&
		    !is_told(told, own[i].task_id) &&
		    told->is_whole(told->context, own[i].agent))
			add(s, own[i].task_id, own[i].agent);
	}
	free(sorted);
}
