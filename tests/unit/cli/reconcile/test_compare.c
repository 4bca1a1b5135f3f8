/* Which tasks are candidates: a table of cases. */
#include "cli/reconcile/compare.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 4 };

/* A case: what is recorded, what HumCLI lists, and whom to ask for. */
struct compare_case {
	const char *name;
	struct {
		const char *task_id, *status, *agent;
		bool is_ended;
	} own[MOST];
	struct {
		const char *task_id, *status;
	} told[MOST];
	const char *partial; /* the agent whose lists are not whole */
	const char *candidates; /* ids with spaces between */
};

static const struct compare_case cases[] = {
	{ .name = "nothing at all", .candidates = "" },
	{ .name = "the same status",
	  .own = { { "a", "SUBMITTED", "main", false } },
	  .told = { { "a", "SUBMITTED" } },
	  .candidates = "" },
	{ .name = "another status",
	  .own = { { "a", "SUBMITTED", "main", false } },
	  .told = { { "a", "VERIFIED" } },
	  .candidates = "a" },
	{ .name = "recorded as ended, but open at HumCLI",
	  .own = { { "a", "COMPLETED", "main", true } },
	  .told = { { "a", "DISPUTED" } },
	  .candidates = "a" },
	{ .name = "open here, and in no list",
	  .own = { { "a", "VERIFIED", "main", false } },
	  .candidates = "a" },
	{ .name = "ended here, and in no list",
	  .own = { { "a", "COMPLETED", "main", true } },
	  .candidates = "" },
	{ .name = "never heard of",
	  .told = { { "a", "ACCEPTED" } },
	  .candidates = "a" },
	{ .name = "never heard of, at its beginning",
	  .told = { { "a", "PENDING" } },
	  .candidates = "" },
	{ .name = "twice, one of them as recorded",
	  .own = { { "a", "SUBMITTED", "main", false } },
	  .told = { { "a", "VERIFIED" }, { "a", "SUBMITTED" } },
	  .candidates = "" },
	{ .name = "twice, once is enough",
	  .own = { { "a", "ACCEPTED", "main", false } },
	  .told = { { "a", "VERIFIED" },
		    { "b", "PENDING" },
		    { "a", "VERIFIED" } },
	  .candidates = "a" },
	{ .name = "an unknown status",
	  .own = { { "a", "ON_HOLD", "main", false } },
	  .told = { { "a", "ON_ICE" } },
	  .candidates = "a" },
	{ .name = "case counts",
	  .own = { { "a", "SUBMITTED", "main", false } },
	  .told = { { "a", "submitted" } },
	  .candidates = "a" },
	{ .name = "the listed ones come first",
	  .own = { { "a", "VERIFIED", "main", false },
		   { "b", "ACCEPTED", "main", false },
		   { "c", "VERIFIED", "main", false } },
	  .told = { { "b", "IN_PROGRESS" } },
	  .candidates = "b a c" },
	{ .name = "tests are left out",
	  .own = { { "task_test_1", "VERIFIED", "main", false } },
	  .told = { { "task_test_2", "VERIFIED" } },
	  .candidates = "" },
	{ .name = "lists that are not whole prove nothing",
	  .own = { { "a", "VERIFIED", "main", false },
		   { "b", "VERIFIED", "other", false } },
	  .partial = "main",
	  .candidates = "b" },
	{ .name = "but tell of a difference",
	  .own = { { "a", "VERIFIED", "main", false } },
	  .told = { { "a", "MANUAL_REVIEW" } },
	  .partial = "main",
	  .candidates = "a" },
	{ .name = "an agent that is unknown",
	  .own = { { "a", "VERIFIED", NULL, false } },
	  .candidates = "a" },
};

static bool is_whole(void *context, const char *agent)
{
	const char *const *to = context;
	const char *partial = *to;

	return !partial || !agent || strcmp(partial, agent) != 0;
}

static void run_case(const struct compare_case *c)
{
	struct own_task own[MOST] = { 0 };
	struct told_task list[MOST] = { 0 };
	const char *partial = c->partial;
	struct told told = { .list = list,
			     .is_whole = is_whole,
			     .context = &partial };
	struct candidates candidates;
	struct buf found = { 0 };
	size_t count = 0;

	for (; count < MOST && c->own[count].task_id; count++)
		own[count] = (struct own_task){
			.task_id = xstrdup(c->own[count].task_id),
			.status = xstrdup(c->own[count].status),
			.agent = c->own[count].agent
					 ? xstrdup(c->own[count].agent)
					 : NULL,
			.is_open = !c->own[count].is_ended
		};
	for (; told.count < MOST && c->told[told.count].task_id; told.count++)
		list[told.count] = (struct told_task){
			xstrdup(c->told[told.count].task_id),
			xstrdup(c->told[told.count].status)
		};
	compare(own, count, &told, &candidates);
	for (size_t i = 0; i < candidates.count; i++)
		buf_printf(&found, "%s%s", i ? " " : "",
			   candidates.list[i].task_id);
	if (strcmp(found.data ? found.data : "", c->candidates) != 0)
		fail_msg("%s: %s", c->name, found.data);
	buf_free(&found);
	free(candidates.list);
	for (size_t i = 0; i < MOST; i++) {
		free(own[i].task_id);
		free(own[i].status);
		free(own[i].agent);
		free(list[i].task_id);
		free(list[i].status);
	}
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(&cases[i]);
}

static void test_differs(void **state)
{
	(void)state;
	assert_false(status_differs(NULL, "PENDING"));
	assert_true(status_differs(NULL, "ACCEPTED"));
	assert_true(status_differs("ACCEPTED", "PENDING"));
	assert_false(status_differs("ACCEPTED", "ACCEPTED"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_differs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
