/*
 * Owns the page as a whole: its head, the verdict, the figures at the top, and
 * the order of the sections. Must not know SQL. The page is one file without a
 * script or anything to load, and its policy forbids both to the browser.
 */
#include "config.h"

#include "cli/report/page.h"

#include "base/clock.h"
#include "base/macros.h"
#include "cli/report/html.h"

#include <stdio.h>
#include <string.h>

enum { QUARTER_HOUR_MS = 15 * 60 * 1000, DAY_MS = 24 * 3600 * 1000 };

/* What the verdict and the figures go by. */
struct figures {
	bool known; /* the database was asked */
	uint64_t open, newest_open_age, gaps, pending, oldest_age, dead,
		quarantined, quarantined_week, repeats;
	uint64_t last_age;
	bool has_events;
	int64_t spool_age; /* ms, of the oldest file; 0: there is none */
	size_t failures, warnings;
};

static struct figures figures(const struct report *r)
{
	const struct rows *totals = r->answers.rows[ASK_TOTALS];
	const struct rows *subscriptions = r->answers.rows[ASK_SUBSCRIPTIONS];
	struct figures f = {
		.known = !r->fault,
		.failures = checks_count(&r->checks, "failure"),
		.warnings = checks_count(&r->checks, "warning"),
	};

	if (r->spool.new.files)
		f.spool_age = (r->now - r->spool.new.oldest) / 1000;
	if (!f.known)
		return f;
	f.open = report_number(r->answers.rows[ASK_OPEN], 0, OPEN_COUNT);
	f.newest_open_age =
		report_number(r->answers.rows[ASK_OPEN], 0, OPEN_NEWEST_AGE);
	f.gaps = report_number(r->answers.rows[ASK_GAPS], 0, GAP_COUNT);
	f.dead = report_number(totals, 0, TOTAL_DEAD);
	f.quarantined = report_number(totals, 0, TOTAL_QUARANTINED);
	f.quarantined_week = report_number(totals, 0, TOTAL_QUARANTINED_WEEK);
	f.repeats = report_number(totals, 0, TOTAL_REPEATS);
	f.has_events = *rows_text(totals, 0, TOTAL_LAST_AT) != '\0';
	f.last_age = report_number(totals, 0, TOTAL_LAST_AGE);
	for (size_t n = 0; n < rows_count(subscriptions); n++) {
		uint64_t age = report_number(subscriptions, n, SUB_OLDEST_AGE);

		f.pending += report_number(subscriptions, n, SUB_PENDING);
		f.oldest_age = age > f.oldest_age ? age : f.oldest_age;
	}
	return f;
}

static void put_head(struct buf *b, const struct report *r)
{
	char now[TIME_TEXT_SIZE];

	format_time(r->now, now);
	buf_printf(b,
		   "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
		   "<meta charset=\"utf-8\">\n"
		   "<meta http-equiv=\"Content-Security-Policy\" content=\""
		   "default-src 'none'; style-src 'unsafe-inline'; "
		   "img-src 'self'; base-uri 'none'; form-action 'none'\">\n"
		   "<meta name=\"viewport\" content=\"width=device-width, "
		   "initial-scale=1\">\n"
		   "<meta name=\"color-scheme\" content=\"light dark\">\n"
		   "<meta name=\"robots\" content=\"noindex\">\n"
		   "<meta name=\"referrer\" content=\"no-referrer\">\n"
		   "<title>HumCLI webhook report</title>\n<style>\n%s</style>\n"
		   "</head>\n<body>\n<header><h1>HumCLI webhook report</h1>"
		   "<p class=\"soft\">%.10s %.8s UTC</p></header>\n<main>\n",
		   report_style, now, now + 11);
}

/* Appends a line of the verdict, which leads to a section. */
static void put_matter(struct buf *b, uint64_t count, const char *id,
		       const char *one, const char *several)
{
	if (!count)
		return;
	buf_printf(b, "<li><a href=\"#%s\">", id);
	if (count == 1) {
		buf_printf(b, "%s", one);
	} else {
		html_put_number(b, count);
		buf_printf(b, " %s", several);
	}
	buf_printf(b, "</a></li>\n");
}

/* Appends what is wrong, or will be, in the order of the page. */
static void put_matters(struct buf *b, const struct report *r,
			const struct figures *f)
{
	put_matter(b, r->fault != NULL, "doctor", "The database is not shown",
		   "");
	put_matter(b, f->open && f->newest_open_age > DAY_MS, "open",
		   "Tasks are open, and none of them has had an event for a "
		   "day: a webhook may have been lost",
		   "");
	put_matter(b, f->gaps, "gaps", "A task's history misses an event",
		   "events are missing in the histories of tasks");
	put_matter(b, f->oldest_age > QUARTER_HOUR_MS, "subscriptions",
		   "A subscription or pool has not read its events for 15 "
		   "minutes or more",
		   "");
	put_matter(b, f->dead, "subscriptions", "An event is a dead letter",
		   "events are dead letters");
	put_matter(b, f->quarantined_week, "quarantine",
		   "A signed body of the last 7 days is no event",
		   "signed bodies of the last 7 days are not events");
	put_matter(b, f->spool_age > QUARTER_HOUR_MS, "spool",
		   "Events have waited in the spool for 15 minutes or more",
		   "");
	put_matter(b, r->spool.failed.files, "spool",
		   "A file of the spool can't be recorded",
		   "files of the spool can't be recorded");
	put_matter(b, f->failures, "doctor", "A check of doctor fails",
		   "checks of doctor fail");
	put_matter(b, f->warnings, "doctor", "Doctor warns of something",
		   "warnings of doctor");
}

static void put_verdict(struct buf *b, const struct report *r,
			const struct figures *f)
{
	struct buf matters = { 0 };
	bool bad = r->fault || f->failures || f->gaps || f->dead ||
		   r->spool.failed.files;

	put_matters(&matters, r, f);
	buf_printf(b, "<section class=\"box verdict %s\"><h2>%s</h2>\n",
		   bad		    ? "bad"
		   : matters.length ? "warn"
				    : "fine",
		   bad		    ? "Something needs you"
		   : matters.length ? "Look at this when you have time"
				    : "All is well");
	if (r->fault)
		buf_printf(b, "<p>%s</p>\n", r->fault);
	if (matters.length)
		buf_printf(b, "<ul>\n%s</ul>\n", matters.data);
	else
		buf_printf(b, "<p class=\"soft\">No gap, no dead letter, "
			      "nothing that waits too long, and doctor is "
			      "content.</p>\n");
	buf_printf(b, "</section>\n");
	buf_free(&matters);
}

static void put_tile(struct buf *b, const char *class, uint64_t number,
		     const char *name)
{
	buf_printf(b, "<li class=\"%s\"><b>", class);
	if (number > 10000 && strcmp(name, "open tasks") != 0)
		buf_printf(b, "&gt;10,000");
	else
		html_put_number(b, number);
	buf_printf(b, "</b><span>%s</span></li>\n", name);
}

static void put_tiles(struct buf *b, const struct report *r,
		      const struct figures *f)
{
	const size_t spooled = r->spool.new.files + r->spool.failed.files;

	buf_printf(b, "<ul class=\"tiles\">\n");
	if (f->known) {
		put_tile(b, "", f->open, "open tasks");
		buf_printf(b, "<li class=\"%s\"><b>",
			   f->open && f->newest_open_age > DAY_MS ? "warn"
								  : "");
		if (f->has_events)
			html_put_rough_duration(b, (int64_t)f->last_age);
		else
			buf_printf(b, "never");
		buf_printf(b, "</b><span>since the last event</span></li>\n");
		put_tile(b, f->gaps ? "bad" : "", f->gaps, "gaps");
		put_tile(b, f->oldest_age > QUARTER_HOUR_MS ? "warn" : "",
			 f->pending, "pending for listeners");
		put_tile(b, f->dead ? "bad" : "", f->dead, "dead letters");
		put_tile(b, f->quarantined_week ? "warn" : "", f->quarantined,
			 "in quarantine");
		put_tile(b, "", f->repeats, "repeats");
	}
	if (r->spool_counted)
		put_tile(b,
			 r->spool.failed.files ? "bad"
			 : spooled	       ? "warn"
					       : "",
			 spooled, "in the spool");
	buf_printf(b, "</ul>\n");
}

void report_put_page(struct buf *b, const struct report *r)
{
	const struct figures f = figures(r);

	put_head(b, r);
	put_verdict(b, r, &f);
	put_tiles(b, r, &f);
	if (f.known) {
		report_put_open(b, r);
		report_put_tasks(b, r);
		report_put_plots(b, r);
		report_put_gaps(b, r);
		report_put_subscriptions(b, r);
		report_put_quarantine(b, r);
	}
	report_put_spool(b, r);
	report_put_checks(b, r);
	buf_printf(b,
		   "</main>\n<footer>Made by humcli-webhook %s. Times are UTC; "
		   "ages are in brackets.</footer>\n</body>\n</html>\n",
		   PACKAGE_VERSION);
}
