/*
 * Owns the order of a run. The first look reads the lists of the statuses that
 * are not terminal, by each key, and compare() finds the candidates. After a
 * pause, because a webhook may be on its way, the second look asks for each
 * candidate by its id. A status that still differs is recorded, unless a webhook
 * is faster: record_status_read() judges that under the task's lock. A fault of
 * one key or task is reported and does not end the run.
 */
#include "cli/reconcile/run.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/random.h"
#include "cli/reconcile/compare.h"
#include "cli/reconcile/history.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUSY_ATTEMPTS = 5, MOST_FAILURES = 3 };

static const int64_t second_us = 1000000;

struct run {
	const struct reconcile *r;
	struct known_statuses statuses;
	struct page told; /* all lists of all keys */
	bool *is_whole; /* by key: its lists were read whole */
	struct run_result result;
	size_t missing; /* events that are missing, recorded or not */
	unsigned failures; /* questions in a row that HumCLI did not answer */
	char *fault; /* the first one, for result.fault */
	int code; /* EX_OK until a fault */
};

static const struct verb *verb(const struct run *x)
{
	return x->r->query->verb;
}

/* Reports a fault and keeps the first one, and its exit code. */
static void add_fault(struct run *x, int code, const char *text)
{
	struct buf shown = { 0 };

	cli_escape(&shown, text);
	cli_error(verb(x), "%s", shown.data ? shown.data : "");
	if (!x->fault) {
		x->fault = xstrdup(shown.data ? shown.data : "");
		x->code = code;
	}
	buf_free(&shown);
}

/*
 * Returns true if this run asks no more: its time or its requests are used, or
 * HumCLI does not answer.
 */
static bool is_over(const struct run *x)
{
	return x->failures >= MOST_FAILURES || api_is_exhausted(x->r->api);
}

static int code_of(enum api_result result)
{
	return result == API_REFUSED ? EX_NOPERM : EX_UNAVAILABLE;
}

/*
 * Reads a key's lists, up to the first fault, because the others would be
 * answered in the same way. Returns true if they are whole.
 */
static bool read_lists(struct run *x, const struct secret *key)
{
	for (size_t i = 0; i < x->statuses.count; i++) {
		enum api_result result;
		char *reason;

		if (x->statuses.list[i].is_terminal)
			continue;
		result = api_list(x->r->api, key, x->statuses.list[i].status,
				  &x->told, &reason);
		x->failures = result == API_FAILED ? x->failures + 1 : 0;
		if (result != API_ANSWERED) {
			add_fault(x, code_of(result), reason);
			free(reason);
			return false;
		}
	}
	return true;
}

/*
 * Reads the lists of all keys. Begins with another key each time, so that no
 * key is always the one for which no time is left.
 */
static void read_all_lists(struct run *x)
{
	const struct secret_set *keys = x->r->keys;
	uint64_t start = 0;

	if (!random_bytes(&start, sizeof(start)))
		start = (uint64_t)wall_clock_us();
	for (size_t n = 0; n < keys->count; n++) {
		size_t i = (size_t)((start + n) % keys->count);

		if (api_is_exhausted(x->r->api)) {
			add_fault(
				x, EX_TEMPFAIL,
				"the lists of some keys are left for the next "
				"run, because this one has used its time or "
				"its requests");
			return;
		}
		x->is_whole[i] = read_lists(x, &keys->list[i]);
	}
}

/*
 * Returns true if the lists of the agent's key were read whole; for an agent
 * without a key, if those of all keys were.
 */
static bool is_whole(void *context, const char *agent)
{
	const struct run *x = context;
	bool all = true;

	for (size_t i = 0; i < x->r->keys->count; i++) {
		if (agent && strcmp(x->r->keys->list[i].name, agent) == 0)
			return x->is_whole[i];
		all = all && x->is_whole[i];
	}
	return all;
}

/*
 * Returns the time of reading by HumCLI's clock, because the event is placed
 * among HumCLI's: that of the header Date, if it is more than its second away
 * from ours.
 */
static int64_t reading_time(const struct http_answer *answer)
{
	int64_t ours = wall_clock_us() - answer->ms * 1000;
	int64_t theirs = answer->date * second_us;

	if (!answer->date ||
	    (ours - theirs < 2 * second_us && theirs - ours < second_us))
		return ours;
	return theirs;
}

/* A question about one task, to one key after the other. */
struct question {
	const char *task_id;
	struct http_answer answer;
	struct task_answer *task; /* of the answer 200; NULL otherwise */
	struct reading reading;
};

/* Asks by one key. Returns true if no other key has to be asked. */
static bool ask_key(struct run *x, struct question *n, const struct secret *key,
		    char **reason)
{
	enum api_result result;
	char fault[128];

	http_answer_free(&n->answer);
	free(*reason);
	result = api_task(x->r->api, key, n->task_id, &n->answer, reason);
	x->failures = result == API_FAILED ? x->failures + 1 : 0;
	n->reading = (struct reading){ .task_id = n->task_id,
				       .key = key->name,
				       .http_status = n->answer.status,
				       .read_at = wall_clock_us(),
				       .told_at = reading_time(&n->answer),
				       .body = &n->answer.body };
	if (result == API_FAILED) {
		char *text = xasprintf("task %s: %s", n->task_id, *reason);

		add_fault(x, EX_UNAVAILABLE, text);
		free(text);
		return true;
	}
	if (result == API_REFUSED)
		return false;
	n->task = task_answer_parse(&n->answer.body, n->task_id, fault,
				    sizeof(fault));
	if (!n->task) {
		char *text = xasprintf("task %s, key %s: %s", n->task_id,
				       key->name, fault);

		add_fault(x, EX_UNAVAILABLE, text);
		free(text);
	}
	return true;
}

/*
 * Asks for a task: by the key of its agent first, then by the others. After
 * 404 by one key another may own the task. Returns the exit code of a fault of
 * the database.
 */
static int ask_task(struct run *x, struct question *n, const char *agent)
{
	const struct secret_set *keys = x->r->keys;
	char *reason = NULL;
	bool done = false;
	int code = EX_OK;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < keys->count && !done; i++) {
			bool own = agent &&
				   strcmp(keys->list[i].name, agent) == 0;

			if (own == (pass == 0))
				done = ask_key(x, n, &keys->list[i], &reason);
		}
	}
	if (!done) {
		char *text = xasprintf("task %s: no key may read it; put its "
				       "agent's key into "
				       "HUMCLI_WEBHOOK_KEY_DIR; %s",
				       n->task_id, reason);

		x->result.denied++;
		cli_error(verb(x), "%s", text);
		free(text);
	}
	/* A reading also of a failure, so that the task is asked for last. */
	if (n->answer.status && !x->r->dry_run)
		code = history_add_reading(x->r->query, &n->reading);
	free(reason);
	return code;
}

static void question_free(struct question *n)
{
	http_answer_free(&n->answer);
	task_answer_free(n->task);
	*n = (struct question){ 0 };
}

/* Prints what is missing, and what became of it. */
static void print_missing(struct run *x, const struct question *n,
			  const struct last_event *last, const char *text)
{
	struct buf line = { 0 };

	cli_escape(&line, n->task_id);
	buf_printf(&line, ": ");
	cli_escape(&line, last->status ? last->status : "nothing recorded");
	buf_printf(&line, " -> ");
	cli_escape(&line, n->reading.status);
	printf("%s; %s\n", line.data, text);
	fflush(stdout);
	buf_free(&line);
	x->missing++;
}

/* Records the status of an answer, unless a webhook was faster. */
static int record(struct run *x, struct question *n,
		  const struct last_event *last)
{
	enum record_outcome outcome = STATUS_BUSY;
	char *id = NULL, *text;
	int code = EX_OK;

	for (int i = 0; i < BUSY_ATTEMPTS && outcome == STATUS_BUSY; i++) {
		free(id);
		code = history_record(x->r->query, &n->reading, last, &outcome,
				      &id);
		if (code != EX_OK)
			break;
	}
	if (code == EX_OK && outcome == STATUS_RECORDED) {
		text = xasprintf("recorded as event %s", id);
		print_missing(x, n, last, text);
		x->result.repaired++;
		free(text);
	}
	if (code == EX_OK && outcome == STATUS_BUSY) {
		text = xasprintf("task %s is locked; the next run tries again",
				 n->task_id);
		add_fault(x, EX_TEMPFAIL, text);
		free(text);
	}
	free(id);
	return code;
}

/*
 * Looks at a task by its id. Reads first what is recorded, because
 * record_status_read() refuses if that has changed since. record_it: a status
 * that differs is recorded; otherwise *differs is set.
 */
static int look(struct run *x, const char *task_id, const char *agent,
		bool record_it, bool *differs)
{
	struct question n = { .task_id = task_id };
	struct last_event last;
	const char *field;
	int code = history_last(x->r->query, task_id, &last);

	*differs = false;
	if (code == EX_OK)
		code = ask_task(x, &n, agent ? agent : last.agent);
	if (code != EX_OK || !n.task)
		goto out;
	n.reading.status = task_answer_status(n.task);
	*differs = status_differs(last.status, n.reading.status);
	if (!*differs || !record_it)
		goto out;
	field = known_statuses_field(&x->statuses, n.reading.status);
	n.reading.has_time = field && task_answer_time(n.task, field,
						       &n.reading.occurred_at);
	if (x->r->dry_run)
		print_missing(x, &n, &last, "missing; nothing was recorded");
	else
		code = record(x, &n, &last);
out:
	last_event_free(&last);
	question_free(&n);
	return code;
}

/* Waits for webhooks that are on their way. */
static void wait_for_webhooks(const struct run *x)
{
	(void)poll(NULL, 0, (int)x->r->wait);
}

static int second_looks(struct run *x, const struct candidates *s)
{
	int code = EX_OK;
	bool differs;

	if (s->count)
		wait_for_webhooks(x);
	for (size_t i = 0; i < s->count && code == EX_OK; i++) {
		if (is_over(x)) {
			char *text =
				xasprintf("%zu task%s left for the "
					  "next run",
					  s->count - i,
					  s->count - i == 1 ? " is" : "s are");

			add_fault(x, EX_TEMPFAIL, text);
			free(text);
			break;
		}
		code = look(x, s->list[i].task_id, s->list[i].agent, true,
			    &differs);
	}
	return code;
}

/* Compares all tasks. */
static int reconcile_all(struct run *x)
{
	struct own_tasks own = { 0 };
	struct candidates candidates = { 0 };
	struct told told;
	int code;

	x->is_whole = xcalloc(x->r->keys->count, sizeof(*x->is_whole));
	read_all_lists(x);
	code = history_tasks(x->r->query, &x->told, &own);
	if (code == EX_OK) {
		told = (struct told){ .list = x->told.list,
				      .count = x->told.count,
				      .is_whole = is_whole,
				      .context = x };
		compare(own.list, own.count, &told, &candidates);
		x->result.tasks = (unsigned)(own.count);
		code = second_looks(x, &candidates);
	}
	free(candidates.list);
	own_tasks_free(&own);
	free(x->is_whole);
	return code;
}

/* Compares one task, by its id both times. */
static int reconcile_one(struct run *x)
{
	bool differs;
	int code = look(x, x->r->task, NULL, false, &differs);

	x->result.tasks = 1;
	if (code == EX_OK && differs) {
		wait_for_webhooks(x);
		code = look(x, x->r->task, NULL, true, &differs);
	}
	return code;
}

static void print_sum(const struct run *x)
{
	const struct run_result *s = &x->result;

	if (x->missing || isatty(STDOUT_FILENO))
		printf("%u task%s compared by %u request%s; %zu event%s "
		       "missing%s\n",
		       s->tasks, PLURAL_S(s->tasks), s->requests,
		       PLURAL_S(s->requests), x->missing,
		       x->missing == 1 ? " was" : "s were",
		       x->r->dry_run ? ", none was recorded" : "");
}

int reconcile_run(const struct reconcile *r)
{
	struct run x = { .r = r, .result.started_at = wall_clock_us() };
	int code = history_statuses(r->query, &x.statuses);

	if (code == EX_OK)
		code = r->task ? reconcile_one(&x) : reconcile_all(&x);
	x.result.requests = api_requests(r->api);
	x.result.fault = x.fault;
	if (code == EX_OK && !r->dry_run && !r->task)
		code = history_add_run(r->query, &x.result);
	if (code == EX_OK) {
		print_sum(&x);
		code = x.code;
	}
	if (code == EX_OK && r->dry_run && x.missing)
		code = EXIT_NEGATIVE;
	if (code == EX_OK && r->task && x.result.denied)
		code = EXIT_NEGATIVE;
	free(x.fault);
	page_free(&x.told);
	known_statuses_free(&x.statuses);
	return code;
}
