/*
 * Prints findings and counts them. Knows nothing of what is checked. The
 * counts are in memory that child processes share, because root has some
 * checks made as other users.
 */
#include "cli/doctor/findings.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fatal.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The page that explains each check, below an anchor with the topic's name. */
#define PAGE "trouble.md"

bool findings_begin(struct findings *f, enum findings_format format)
{
	void *shared = mmap(NULL, sizeof(*f->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*f = (struct findings){ .format = format };
	if (shared == MAP_FAILED)
		return false;
	f->shared = shared;
	return true;
}

static bool is_fault(enum severity severity)
{
	return severity == FINDING_WARNING || severity == FINDING_FAILURE;
}

/* Returns where a check is explained; the caller frees it. */
static char *explanation(const char *topic)
{
	char *text = xasprintf("doc/" PAGE "#%s", topic);

	for (char *p = text; *p; p++) {
		if (*p == ' ')
			*p = '-';
	}
	return text;
}

static void print_text(enum severity severity, const char *topic,
		       const char *text, const char *remedy)
{
	static const char *const marks[] = { "ok", "warn", "FAIL", "skip" };

	printf("%-5s %-12s %s\n", marks[severity], topic, text);
	if (severity != FINDING_OK && remedy)
		printf("      %-12s -> %s\n", "", remedy);
	if (is_fault(severity)) {
		char *page = explanation(topic);

		printf("      %-12s see %s\n", "", page);
		free(page);
	}
}

static void print_json(enum severity severity, const char *topic,
		       const char *text, const char *remedy)
{
	static const char *const names[] = { "ok", "warning", "failure",
					     "skipped" };
	char *page = is_fault(severity) ? explanation(topic) : NULL;
	char *line = json_finding_line(names[severity], topic, text,
				       severity == FINDING_OK ? NULL : remedy,
				       page);

	puts(line);
	free(line);
	free(page);
}

/* Adds a fault to the line for monitoring; a bar would begin its figures. */
static void add_fault(struct findings_shared *s, const char *topic,
		      const char *text)
{
	size_t space = sizeof(s->faults) - s->length;
	int n = snprintf(s->faults + s->length, space, "%s%s: %s",
			 s->length ? "; " : "", topic, text);

	for (char *p = s->faults + s->length; *p; p++) {
		if (*p == '|')
			*p = '/';
	}
	if (n > 0)
		s->length += (size_t)n < space ? (size_t)n : space - 1;
}

void report_finding(struct findings *f, enum severity severity,
		    const char *topic, const char *remedy, const char *format,
		    ...)
{
	struct buf escaped = { 0 };
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		fatal("out of memory");
	va_end(args);
	buf_add(&escaped, "", 0);
	cli_escape(&escaped, text);
	f->shared->counts[severity]++;
	if (f->format == FINDINGS_TEXT)
		print_text(severity, topic, escaped.data, remedy);
	else if (f->format == FINDINGS_JSON)
		print_json(severity, topic, escaped.data, remedy);
	else if (is_fault(severity))
		add_fault(f->shared, topic, escaped.data);
	buf_free(&escaped);
	free(text);
}

/* Prints the sum, and where the page is that was named. */
static void print_end(const size_t *counts)
{
	char *path = cli_page_path(PAGE);

	printf("\n%zu fine, %zu warning%s, %zu failure%s, %zu skipped\n",
	       counts[FINDING_OK], counts[FINDING_WARNING],
	       PLURAL_S(counts[FINDING_WARNING]), counts[FINDING_FAILURE],
	       PLURAL_S(counts[FINDING_FAILURE]), counts[FINDING_SKIPPED]);
	if ((counts[FINDING_WARNING] || counts[FINDING_FAILURE]) &&
	    access(path, R_OK) == 0)
		printf("doc/" PAGE " is %s\n", path);
	free(path);
}

int findings_end(struct findings *f)
{
	static const char *const words[] = { "OK", "WARNING", "CRITICAL" };
	const size_t *counts = f->shared->counts;
	int code = counts[FINDING_FAILURE]   ? 2
		   : counts[FINDING_WARNING] ? 1
					     : 0;

	if (f->format == FINDINGS_NAGIOS)
		printf("HUMCLI %s - %s\n", words[code],
		       f->shared->length ? f->shared->faults : "all is well");
	else if (f->format == FINDINGS_TEXT)
		print_end(counts);
	munmap(f->shared, sizeof(*f->shared));
	f->shared = NULL;
	return code;
}
