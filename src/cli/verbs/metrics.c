/*
 * metrics: prints what monitoring wants to know, for the textfile collector of
 * node_exporter. The text is valid as Prometheus text and as OpenMetrics, whose
 * units and end the former reads as comments. One query gives all rows of the
 * database; the spool is counted first, because root becomes postgres for the
 * query.
 */
#include "config.h"

#include "base/macros.h"
#include "cli/query.h"
#include "cli/replace_file.h"
#include "cli/spool_sums.h"

#include <stdio.h>
#include <string.h>

/* Every family of metrics; all are gauges, because purge deletes rows. */
static const struct family {
	const char *name;
	const char *unit; /* the last word of the name; NULL: there is none */
	const char *help;
} families[] = {
	{ "humcli_build_info", NULL, "The version of humcli-webhook." },
	{ "humcli_up", NULL, "1 if the database answers, else 0." },
	{ "humcli_spool_files", NULL, "Files in the spool, by folder." },
	{ "humcli_spool_bytes", "bytes", "Bytes of the files in the spool." },
	{ "humcli_events", NULL, "Recorded events, by status." },
	{ "humcli_repeats", NULL,
	  "Deliveries recorded as repeats of an event." },
	{ "humcli_quarantined", NULL, "Signed bodies that are not events." },
	{ "humcli_gaps", NULL,
	  "Events whose previous status is not recorded, in the tasks of the "
	  "newest 10000 events." },
	{ "humcli_open_tasks", NULL,
	  "Tasks that have not ended, without tests." },
	{ "humcli_last_event_timestamp_seconds", "seconds",
	  "When the newest event was recorded." },
	{ "humcli_subscription_pending", NULL,
	  "Events that a subscription or pool has not read; 10001 is more." },
	{ "humcli_subscription_oldest_timestamp_seconds", "seconds",
	  "When the oldest pending event was recorded." },
	{ "humcli_dead_letters", NULL,
	  "Events of a pool whose attempts are used up." },
	{ "humcli_reconcile_last_run_timestamp_seconds", "seconds",
	  "When reconcile ended last." },
	{ "humcli_reconcile_last_success_timestamp_seconds", "seconds",
	  "When reconcile ended last and had compared all tasks." },
	{ "humcli_reconcile_repaired_events", NULL,
	  "Events that no webhook brought and reconcile recorded." },
};

/* Rows of: the family, the label's name and value or NULL, the value. */
static const char metrics_sql[] =
	"SELECT 'humcli_events', 'status', status, count(*)::text "
	"FROM humcli.events GROUP BY status "
	"UNION ALL SELECT 'humcli_repeats', NULL, NULL, count(*)::text "
	"FROM humcli.repeats "
	"UNION ALL SELECT 'humcli_quarantined', NULL, NULL, count(*)::text "
	"FROM humcli.quarantine "
	"UNION ALL SELECT 'humcli_gaps', NULL, NULL, count(*)::text "
	"FROM humcli.gaps WHERE task_id = ANY (" RECENT_TASKS ") "
	"UNION ALL SELECT 'humcli_open_tasks', NULL, NULL, count(*)::text "
	"FROM (" OPEN_TASKS ") o "
	"UNION ALL SELECT 'humcli_last_event_timestamp_seconds', NULL, NULL, "
	"(SELECT extract(epoch FROM e.recorded_at)::text FROM humcli.events e "
	"ORDER BY e.id DESC LIMIT 1) WHERE EXISTS (SELECT FROM humcli.events) "
	"UNION ALL SELECT 'humcli_subscription_pending', 'subscription', name, "
	"pending::text FROM humcli.subscription_status "
	"UNION ALL SELECT 'humcli_subscription_oldest_timestamp_seconds', "
	"'subscription', name, extract(epoch FROM oldest)::text "
	"FROM humcli.subscription_status WHERE oldest IS NOT NULL "
	"UNION ALL SELECT 'humcli_dead_letters', 'subscription', name, "
	"dead::text FROM humcli.subscription_status "
	"UNION ALL SELECT 'humcli_reconcile_last_run_timestamp_seconds', "
	"NULL, NULL, extract(epoch FROM max(ended_at))::text "
	"FROM humcli.reconcile_runs HAVING count(*) > 0 "
	"UNION ALL SELECT 'humcli_reconcile_last_success_timestamp_seconds', "
	"NULL, NULL, extract(epoch FROM max(ended_at))::text "
	"FROM humcli.reconcile_runs WHERE fault IS NULL HAVING count(*) > 0 "
	"UNION ALL SELECT 'humcli_reconcile_repaired_events', NULL, NULL, "
	"count(*)::text FROM humcli.events WHERE event = 'api.status_read' "
	"ORDER BY 1, 3";

/* Prints a label's value as the format escapes it. */
static void print_escaped(const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", stdout);
		else if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void print_sample(const char *family, const char *label,
			 const char *value, const char *number)
{
	fputs(family, stdout);
	if (label && value) {
		printf("{%s=\"", label);
		print_escaped(value);
		fputs("\"}", stdout);
	}
	printf(" %s\n", number);
}

static void print_header(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		if (strcmp(families[i].name, name) != 0)
			continue;
		printf("# HELP %s %s\n# TYPE %s gauge\n", name,
		       families[i].help, name);
		if (families[i].unit)
			printf("# UNIT %s %s\n", name, families[i].unit);
	}
}

static void print_one(const char *family, const char *label, const char *value,
		      const char *number)
{
	print_header(family);
	print_sample(family, label, value, number);
}

/* Prints the rows, which come sorted by their family. */
static void print_rows(const struct rows *r)
{
	const char *family = "";

	for (size_t n = 0; n < rows_count(r); n++) {
		if (strcmp(family, rows_text(r, n, 0)) != 0) {
			family = rows_text(r, n, 0);
			print_header(family);
		}
		print_sample(family, rows_get(r, n, 1), rows_text(r, n, 2),
			     rows_text(r, n, 3));
	}
}

static void print_folders(const char *family, uint64_t new, uint64_t failed)
{
	char text[24];

	print_header(family);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)new);
	print_sample(family, "folder", "new", text);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)failed);
	print_sample(family, "folder", "failed", text);
}

/* Prints what is in the spool; nothing if this user may not look into it. */
static void print_spool(const struct settings *settings)
{
	struct spool_sums sums;

	if (!cli_spool_sums(settings, &sums))
		return;
	print_folders("humcli_spool_files", sums.new.files, sums.failed.files);
	print_folders("humcli_spool_bytes", sums.new.bytes, sums.failed.bytes);
}

/*
 * Prints all metrics, as many as are known: after any failure humcli_up is 0.
 * Returns the exit code.
 */
static int print_metrics(const struct verb *v)
{
	struct rows *rows = NULL;
	struct query q;
	int code = query_load(&q, v);

	print_one("humcli_build_info", "version", PACKAGE_VERSION, "1");
	if (code == EX_OK) {
		print_spool(&q.settings);
		code = query_connect(&q);
	}
	if (code == EX_OK)
		code = query_run(&q, metrics_sql, NULL, 0, &rows);
	print_one("humcli_up", NULL, NULL, code == EX_OK ? "1" : "0");
	if (rows)
		print_rows(rows);
	puts("# EOF");
	rows_free(rows);
	query_close(&q);
	return code;
}

int cmd_metrics(const struct verb *v, int argc, char **argv)
{
	const char *output = NULL;
	const struct cli_option options[] = {
		{ "output", &output, NULL, "FILE",
		  "replace this file (default: print)" },
	};
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	return output ? cli_replace_file(v, output, 0644, print_metrics)
		      : print_metrics(v);
}
