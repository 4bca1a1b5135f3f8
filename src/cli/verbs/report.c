/*
 * report: prints one HTML page of what is recorded, what waits and what is
 * wrong. doctor runs beside the questions. The spool is counted first, because
 * root becomes postgres to ask. A page is made without a database, too, and
 * says so.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "cli/query.h"
#include "cli/replace_file.h"
#include "cli/report/page.h"
#include "cli/spool_sums.h"

#include <stdio.h>

/* Asks the database. Returns the exit code; then r->fault says why in general. */
static int ask(struct query *q, struct report *r)
{
	int code = query_connect(q);

	if (code != EX_OK) {
		r->fault = "The database does not answer, or refuses the "
			   "connection. Doctor's findings, below, say why.";
		return code;
	}
	code = report_ask(q, &r->answers);
	if (code != EX_OK)
		r->fault = code == EX_CONFIG
				   ? "The schema humcli is not in this "
				     "database, or an older one: "
				     "humcli-webhook init installs it."
				   : "The database did not answer all "
				     "questions: see what the command printed.";
	return code;
}

static int print_report(const struct verb *v)
{
	struct report r = { .now = wall_clock_us() };
	struct buf page = { 0 };
	struct query q;
	int code;

	checks_start(&r.checks);
	code = query_load(&q, v);
	if (code == EX_OK) {
		r.settings = &q.settings;
		r.spool_counted = cli_spool_sums(&q.settings, &r.spool);
		code = ask(&q, &r);
	} else {
		r.fault = "The settings are invalid. Doctor's findings, below, "
			  "say where.";
	}
	checks_finish(&r.checks);
	report_put_page(&page, &r);
	fwrite(page.data, 1, page.length, stdout);
	buf_free(&page);
	report_free(&r.answers);
	checks_free(&r.checks);
	query_close(&q);
	return code;
}

int cmd_report(const struct verb *v, int argc, char **argv)
{
	const char *output = NULL;
	const struct cli_option options[] = {
		{ "output", &output, NULL, "FILE",
		  "replace this file, with mode 0640, instead of printing "
		  "(default: print)" },
	};
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	return output ? cli_replace_file(v, output, 0640, print_report)
		      : print_report(v);
}
