/*
 * quarantine: lists the signed bodies that are no events, or tries to record
 * them again. A retry goes through the writer like any delivery, one row after
 * the other; a row that is recorded is deleted from the quarantine.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/hmac.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/progress.h"
#include "cli/query.h"
#include "store/writer.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SUBMIT_MS = 10000, END_MS = 5000 };

struct quarantine {
	struct query query;
	struct buf ids; /* an array for PostgreSQL; empty: all rows */
	struct query_form form;
};

#define RECEIVED_AT ISO_TIME("received_at") " AS received_at"

static int list(void *context)
{
	struct quarantine *q = context;
	const char *values[] = { q->ids.data };

	return query_print(
		&q->query,
		"SELECT id::text AS id, " RECEIVED_AT ", reason, secret_name, "
		"seen, pg_catalog.octet_length(body) AS bytes, signature, "
		"pg_catalog.encode(body, 'escape') AS body "
		"FROM humcli.quarantine "
		"WHERE $1::bigint[] IS NULL OR id = ANY ($1) ORDER BY id",
		values, 1, &q->form, NULL);
}

struct retry {
	struct query *query;
	struct queue *queue;
	struct progress progress;
	size_t recorded;
	size_t left;
};

/* Returns a row as a delivery, with d->reason set if it still is no event. */
static struct delivery *read_delivery(const struct rows *r, size_t row)
{
	struct delivery *d = delivery_new();
	struct buf body = { 0 }; /* its text becomes the delivery's */
	uint64_t received_at = 0;

	d->secret_name = xstrdup(rows_text(r, row, 1));
	snprintf(d->signature, sizeof(d->signature), "%s",
		 rows_text(r, row, 2));
	if (parse_u64(rows_text(r, row, 3), 0, INT64_MAX, &received_at))
		d->received_at = (int64_t)received_at;
	buf_add(&body, "", 0);
	if (!rows_bytes(r, row, 4, &body))
		d->reason = xstrdup("its body can't be read");
	else if (delivery_parse(d, body.data, body.length) == EVENT_OK &&
		 received_at == 0)
		d->reason = xstrdup("it was received before 1970");
	return d;
}

static int forget(struct query *q, const char *id)
{
	return query_run(q, "DELETE FROM humcli.quarantine WHERE id = $1", &id,
			 1, NULL);
}

/*
 * Records a delivery. If its task is locked, it is retried once, like any
 * event.
 */
static enum outcome record(struct retry *t, struct delivery *d)
{
	enum outcome outcome = OUTCOME_UNAVAILABLE;
	bool answers = true;

	for (int i = 0; i < 2 && answers && outcome == OUTCOME_UNAVAILABLE;
	     i++) {
		struct delivery *same = delivery_ref(d);

		answers = queue_submit_and_wait(t->queue, &same, 1,
						monotonic_ms() + SUBMIT_MS,
						&outcome);
	}
	return outcome;
}

/*
 * Reports why a row is not recorded. Returns EX_OK, so that the retry goes on.
 */
static int leave(struct retry *t, const char *id, const char *reason)
{
	progress_clear(&t->progress);
	cli_error(t->query->verb, "%s: %s", id, reason);
	t->left++;
	return EX_OK;
}

static int judge(struct retry *t, const char *id, const struct delivery *d,
		 enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_RECORDED:
	case OUTCOME_DUPLICATE:
		t->recorded++;
		return forget(t->query, id);
	case OUTCOME_SPOOLED:
	case OUTCOME_UNAVAILABLE:
	case OUTCOME_UNANSWERED:
		progress_clear(&t->progress);
		cli_error(t->query->verb,
			  "the database records no events now: try again "
			  "later, and see humcli-webhook doctor");
		return EX_UNAVAILABLE;
	case OUTCOME_REFUSED:
		return leave(t, id,
			     d->refusal ? d->refusal : "PostgreSQL refuses it");
	case OUTCOME_QUARANTINED:
	case OUTCOME_MALFORMED:
	case OUTCOME_INVALID:
		break;
	}
	return leave(t, id, "PostgreSQL still can't hold it");
}

static int retry_row(struct retry *t, const struct rows *r, size_t row)
{
	const char *id = rows_text(r, row, 0);
	struct delivery *d = read_delivery(r, row);
	int code;

	if (d->reason)
		code = leave(t, id, d->reason);
	else
		code = judge(t, id, d, record(t, d));
	delivery_unref(d);
	return code;
}

static int retry_all(struct retry *t, const char *ids)
{
	struct rows *rows = NULL;
	int code = query_run(
		t->query,
		"SELECT id, secret_name, signature, "
		"(extract(epoch FROM received_at) * 1000000)::bigint, body "
		"FROM humcli.quarantine "
		"WHERE $1::bigint[] IS NULL OR id = ANY ($1) ORDER BY id",
		&ids, 1, &rows);

	progress_begin(&t->progress, "bodies",
		       code == EX_OK ? rows_count(rows) : 0);
	for (size_t i = 0; code == EX_OK && i < rows_count(rows); i++) {
		code = retry_row(t, rows, i);
		progress_show(&t->progress, i + 1);
	}
	progress_clear(&t->progress);
	rows_free(rows);
	if (code == EX_OK || code == EX_UNAVAILABLE)
		printf("%zu recorded, %zu left\n", t->recorded, t->left);
	return code == EX_OK && t->left ? EXIT_NEGATIVE : code;
}

static int retry(void *context)
{
	static const struct writer_options options;
	struct quarantine *q = context;
	struct retry t = { .query = &q->query };
	struct writer *writer;
	int code;

	t.queue = queue_new(false, 0);
	writer = writer_start(&q->query.settings, t.queue, &options);
	code = writer ? retry_all(&t, q->ids.data) : EX_OSERR;
	if (writer && !writer_stop(writer, monotonic_ms() + END_MS)) {
		/* The writer is stuck and still uses what would be freed. */
		fflush(stdout);
		_exit(code);
	}
	queue_free(t.queue);
	return code;
}

/*
 * Reads the operands as an array for PostgreSQL. Returns false if one is no id.
 */
static bool read_ids(const struct verb *v, char **argv, struct buf *ids)
{
	uint64_t id;

	for (; *argv; argv++) {
		if (!parse_u64(*argv, 1, INT64_MAX, &id)) {
			(void)cli_usage_error(v, "'%s' is not an id", *argv);
			return false;
		}
		buf_printf(ids, "%s%llu", ids->length ? "," : "{",
			   (unsigned long long)id);
	}
	if (ids->length)
		buf_add(ids, "}", 1);
	return true;
}

static const struct cli_action actions[] = {
	{ "list", list, INT_MAX, "json wide" },
	{ "retry", retry, INT_MAX, "" },
};

int cmd_quarantine(const struct verb *v, int argc, char **argv)
{
	struct quarantine q = { .form.wrong = "reason" };
	const struct cli_option options[] = { QUERY_FORM_OPTIONS(q.form) };
	const struct cli_action *action;
	int code;

	action = cli_choose_action(v, &argc, &argv, options,
				   ARRAY_SIZE(options), actions,
				   ARRAY_SIZE(actions), &code);
	if (!action)
		return code;
	code = EX_USAGE;
	if (read_ids(v, argv, &q.ids)) {
		code = action->run == retry ? query_open_primary(&q.query, v)
					    : query_open(&q.query, v);
		if (code == EX_OK)
			code = action->run(&q);
		query_close(&q.query);
	}
	buf_free(&q.ids);
	return code;
}
