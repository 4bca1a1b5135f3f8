/*
 * Owns the sections that are tables, and the form of tables. Must not know how
 * the rows were found.
 */
#include "cli/report/tables.h"

#include "base/macros.h"
#include "cli/report/html.h"
#include "cli/report/page.h"

#include <string.h>

void report_section(struct buf *b, const char *id, const char *title,
		    const char *note)
{
	buf_printf(b,
		   "<section class=\"box\" id=\"%s\">\n<header><h2>%s</h2>"
		   "<p>%s</p></header>\n",
		   id, title, note);
}

void report_section_end(struct buf *b)
{
	buf_printf(b, "</section>\n");
}

void report_table(struct buf *b, const char *const *titles, size_t count)
{
	buf_printf(b, "<table>\n<thead><tr>");
	for (size_t i = 0; i < count; i++) {
		bool number = *titles[i] == '#';

		buf_printf(b, "<th scope=\"col\"%s>%s</th>",
			   number ? " class=\"n\"" : "", titles[i] + number);
	}
	buf_printf(b, "</tr></thead>\n<tbody>\n");
}

void report_table_end(struct buf *b)
{
	buf_printf(b, "</tbody>\n</table>\n");
}

void report_cell(struct buf *b, const char *title, const char *text)
{
	buf_printf(b, "<td data-label=\"%s\"><bdi>", title);
	html_put(b, *text ? text : "–");
	buf_printf(b, "</bdi></td>");
}

void report_code_cell(struct buf *b, const char *title, const char *text)
{
	buf_printf(b, "<td data-label=\"%s\"><code><bdi>", title);
	html_put(b, text);
	buf_printf(b, "</bdi></code></td>");
}

void report_number_cell(struct buf *b, const char *title, uint64_t number)
{
	buf_printf(b, "<td class=\"n\" data-label=\"%s\"><span>", title);
	html_put_number(b, number);
	buf_printf(b, "</span></td>");
}

void report_time_cell(struct buf *b, const char *title, const char *time,
		      uint64_t age)
{
	if (!*time) {
		report_cell(b, title, "");
		return;
	}
	buf_printf(b, "<td data-label=\"%s\"><span><time>", title);
	html_put(b, time);
	buf_printf(b, "</time> <span class=\"soft small\">(");
	html_put_duration(b, (int64_t)age);
	buf_printf(b, ")</span></span></td>");
}

static void put_status_cell(struct buf *b, const char *title,
			    const char *status)
{
	buf_printf(b, "<td data-label=\"%s\"><span>", title);
	report_put_status(b, status);
	buf_printf(b, "</span></td>");
}

void report_put_open(struct buf *b, const struct report *r)
{
	static const char *const titles[] = { "Task", "Status", "In it since",
					      "First event", "Secret" };
	const struct rows *rows = r->answers.rows[ASK_OPEN];
	uint64_t count = report_number(rows, 0, OPEN_COUNT);
	struct buf note = { 0 };

	buf_printf(&note, "Tasks that have not ended, without tests");
	if (count > rows_count(rows))
		buf_printf(&note, "; the %zu that have waited longest, of %llu",
			   rows_count(rows), (unsigned long long)count);
	report_section(b, "open", "Open tasks", note.data);
	buf_free(&note);
	if (!rows_count(rows))
		buf_printf(b, "<p class=\"none\">No task is open.</p>\n");
	else
		report_table(b, titles, ARRAY_SIZE(titles));
	for (size_t n = 0; n < rows_count(rows); n++) {
		buf_printf(b, "<tr>");
		report_code_cell(b, "Task", rows_text(rows, n, OPEN_TASK));
		put_status_cell(b, "Status", rows_text(rows, n, OPEN_STATUS));
		report_time_cell(b, "In it since",
				 rows_text(rows, n, OPEN_SINCE),
				 report_number(rows, n, OPEN_AGE));
		report_time_cell(b, "First event",
				 rows_text(rows, n, OPEN_FIRST),
				 report_number(rows, n, OPEN_FIRST_AGE));
		report_cell(b, "Secret", rows_text(rows, n, OPEN_SECRET));
		buf_printf(b, "</tr>\n");
	}
	if (rows_count(rows))
		report_table_end(b);
	report_section_end(b);
}

void report_put_gaps(struct buf *b, const struct report *r)
{
	static const char *const titles[] = { "Task", "Missing", "Before it",
					      "After it", "At" };
	const struct rows *rows = r->answers.rows[ASK_GAPS];
	uint64_t count = report_number(rows, 0, GAP_COUNT);
	struct buf note = { 0 };

	buf_printf(&note, "Among the tasks of the newest 10,000 events");
	if (count > rows_count(rows))
		buf_printf(&note, "; the newest %zu of %llu", rows_count(rows),
			   (unsigned long long)count);
	report_section(b, "gaps", "Gaps", note.data);
	buf_free(&note);
	if (!rows_count(rows))
		buf_printf(b, "<p class=\"none\">No history misses an event."
			      "</p>\n");
	else
		report_table(b, titles, ARRAY_SIZE(titles));
	for (size_t n = 0; n < rows_count(rows); n++) {
		buf_printf(b, "<tr>");
		report_code_cell(b, "Task", rows_text(rows, n, GAP_TASK));
		put_status_cell(b, "Missing", rows_text(rows, n, GAP_MISSING));
		put_status_cell(b, "Before it", rows_text(rows, n, GAP_BEFORE));
		put_status_cell(b, "After it", rows_text(rows, n, GAP_STATUS));
		report_cell(b, "At", rows_text(rows, n, GAP_AT));
		buf_printf(b, "</tr>\n");
	}
	if (rows_count(rows))
		report_table_end(b);
	report_section_end(b);
}

/* Appends which events a subscription is for. */
static void put_filter(struct buf *b, const char *statuses, const char *secrets)
{
	buf_printf(b, "<td data-label=\"Events\"><bdi>");
	html_put(b, *statuses ? statuses : "all");
	if (*secrets) {
		buf_printf(b, " of ");
		html_put(b, secrets);
	}
	buf_printf(b, "</bdi></td>");
}

static void put_subscription(struct buf *b, const struct rows *rows, size_t n)
{
	uint64_t pending = report_number(rows, n, SUB_PENDING);

	buf_printf(b, "<tr>");
	report_code_cell(b, "Name", rows_text(rows, n, SUB_NAME));
	report_cell(b, "Kind",
		    strcmp(rows_text(rows, n, SUB_REBASE), "t") == 0
			    ? "restored; needs rebase()"
		    : strcmp(rows_text(rows, n, SUB_POOL), "t") == 0
			    ? "pool"
			    : "subscription");
	put_filter(b, rows_text(rows, n, SUB_STATUSES),
		   rows_text(rows, n, SUB_SECRETS));
	if (pending > 10000)
		buf_printf(b, "<td class=\"n\" data-label=\"Pending\"><span>"
			      "over 10,000</span></td>");
	else
		report_number_cell(b, "Pending", pending);
	report_time_cell(b, "Oldest", rows_text(rows, n, SUB_OLDEST),
			 report_number(rows, n, SUB_OLDEST_AGE));
	report_number_cell(b, "Claimed", report_number(rows, n, SUB_CLAIMED));
	report_number_cell(b, "Dead", report_number(rows, n, SUB_DEAD));
	report_time_cell(b, "Last seen", rows_text(rows, n, SUB_SEEN),
			 report_number(rows, n, SUB_SEEN_AGE));
	buf_printf(b, "</tr>\n");
}

void report_put_subscriptions(struct buf *b, const struct report *r)
{
	static const char *const titles[] = { "Name",	"Kind",
					      "Events", "#Pending",
					      "Oldest", "#Claimed",
					      "#Dead",	"Last seen" };
	const struct rows *rows = r->answers.rows[ASK_SUBSCRIPTIONS];

	report_section(b, "subscriptions", "Subscriptions and pools",
		       "Who listens, and how far each is");
	if (!rows_count(rows))
		buf_printf(b, "<p class=\"none\">There is none.</p>\n");
	else
		report_table(b, titles, ARRAY_SIZE(titles));
	for (size_t n = 0; n < rows_count(rows); n++)
		put_subscription(b, rows, n);
	if (rows_count(rows))
		report_table_end(b);
	report_section_end(b);
}

void report_put_quarantine(struct buf *b, const struct report *r)
{
	static const char *const titles[] = { "Reason", "#Bodies",
					      "#Deliveries", "Secrets",
					      "Newest" };
	const struct rows *rows = r->answers.rows[ASK_QUARANTINE];

	report_section(b, "quarantine", "Quarantine",
		       "Signed bodies that are not events, by reason");
	if (!rows_count(rows))
		buf_printf(b, "<p class=\"none\">It is empty.</p>\n");
	else
		report_table(b, titles, ARRAY_SIZE(titles));
	for (size_t n = 0; n < rows_count(rows); n++) {
		buf_printf(b, "<tr>");
		report_cell(b, "Reason", rows_text(rows, n, QUARANTINE_REASON));
		report_number_cell(b, "Bodies",
				   report_number(rows, n, QUARANTINE_BODIES));
		report_number_cell(b, "Deliveries",
				   report_number(rows, n,
						 QUARANTINE_DELIVERIES));
		report_cell(b, "Secrets",
			    rows_text(rows, n, QUARANTINE_SECRETS));
		report_cell(b, "Newest", rows_text(rows, n, QUARANTINE_NEWEST));
		buf_printf(b, "</tr>\n");
	}
	if (rows_count(rows))
		report_table_end(b);
	report_section_end(b);
}

static void put_folder(struct buf *b, const struct report *r, const char *name,
		       const char *meaning, const struct spool_folder_sums *f)
{
	int64_t age = f->oldest ? (r->now - f->oldest) / 1000 : 0;

	buf_printf(b, "<tr>");
	report_code_cell(b, "Folder", name);
	report_cell(b, "Holds", meaning);
	report_number_cell(b, "Files", f->files);
	buf_printf(b, "<td class=\"n\" data-label=\"Size\"><span>");
	html_put_size(b, f->bytes);
	buf_printf(b, "</span></td><td data-label=\"Oldest\"><span>");
	if (f->files)
		html_put_duration(b, age);
	else
		buf_printf(b, "–");
	buf_printf(b, "</span></td></tr>\n");
}

void report_put_spool(struct buf *b, const struct report *r)
{
	static const char *const titles[] = { "Folder", "Holds", "#Files",
					      "#Size", "Oldest" };

	report_section(b, "spool", "Spool",
		       "Events that wait on disk for the database");
	if (!r->settings || !*r->settings->spool) {
		buf_printf(b, "<p class=\"none\">None is set up.</p>\n");
	} else if (!r->spool_counted) {
		buf_printf(b, "<p class=\"none\">This user can't look into "
			      "<code>");
		html_put(b, r->settings->spool);
		buf_printf(b, "</code>, or it does not exist yet.</p>\n");
	} else {
		report_table(b, titles, ARRAY_SIZE(titles));
		put_folder(b, r, "new", "waits for the database",
			   &r->spool.new);
		put_folder(b, r, "failed", "can't be recorded",
			   &r->spool.failed);
		report_table_end(b);
	}
	report_section_end(b);
}

static void put_finding(struct buf *b, const struct finding_fields *f)
{
	static const struct {
		const char *severity, *class, *word;
	} kinds[] = { { "failure", "bad", "fails" },
		      { "warning", "warn", "warning" },
		      { "ok", "ok", "fine" },
		      { "skipped", "plain", "skipped" } };
	size_t k = 0;

	while (k < ARRAY_SIZE(kinds) - 1 &&
	       strcmp(f->severity, kinds[k].severity) != 0)
		k++;
	buf_printf(b,
		   "<tr><td class=\"key\" data-label=\"Result\"><span>"
		   "<span class=\"label %s\">%s</span></span></td>",
		   kinds[k].class, kinds[k].word);
	buf_printf(b, "<td class=\"key\" data-label=\"Check\">");
	html_put(b, f->check);
	buf_printf(b, "</td>");
	buf_printf(b, "<td data-label=\"Finding\"><span><bdi>");
	html_put_some(b, f->text, 1000);
	buf_printf(b, "</bdi>");
	if (*f->fix) {
		buf_printf(b, "<br><span class=\"soft\">→ ");
		html_put_some(b, f->fix, 1000);
		buf_printf(b, "</span>");
	}
	buf_printf(b, "</span></td></tr>\n");
}

void report_put_checks(struct buf *b, const struct report *r)
{
	static const char *const order[] = { "failure", "warning", "skipped",
					     "ok" };
	static const char *const titles[] = { "Result", "Check", "Finding" };

	report_section(b, "doctor", "Doctor",
		       "What humcli-webhook doctor finds in the set-up");
	if (!r->checks.count)
		buf_printf(b, "<p class=\"none\">It could not be run.</p>\n");
	else
		report_table(b, titles, ARRAY_SIZE(titles));
	for (size_t k = 0; k < ARRAY_SIZE(order); k++) {
		for (size_t i = 0; i < r->checks.count; i++) {
			if (strcmp(r->checks.list[i].severity, order[k]) == 0)
				put_finding(b, &r->checks.list[i]);
		}
	}
	if (r->checks.count)
		report_table_end(b);
	report_section_end(b);
}
