#include "cli/doctor/findings.h"

#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void print_lines(enum severity severity, const char *topic,
			const char *text, const char *remedy)
{
	static const char *const marks[] = { "ok", "warn", "FAIL" };

	printf("%-5s %-12s %s\n", marks[severity], topic, text);
	if (severity != FINDING_OK && remedy)
		printf("      %-12s -> %s\n", "", remedy);
}

void report_finding(struct findings *f, enum severity severity,
		    const char *topic, const char *remedy, const char *format,
		    ...)
{
	struct buf plain = { 0 };
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	cli_escape(&plain, text);
	f->counts[severity]++;
	if (!f->nagios)
		print_lines(severity, topic, plain.data ? plain.data : "",
			    remedy);
	else if (severity != FINDING_OK)
		buf_printf(&f->faults, "%s%s: %s", f->faults.length ? "; " : "",
			   topic, plain.data ? plain.data : "");
	buf_free(&plain);
	free(text);
}

int findings_end(struct findings *f)
{
	size_t warnings = f->counts[FINDING_WARNING];
	size_t failures = f->counts[FINDING_FAILURE];
	int code = failures ? 2 : warnings ? 1 : 0;
	static const char *const words[] = { "OK", "WARNING", "CRITICAL" };

	if (f->nagios)
		/* A bar would start the figures. */
		printf("HUMCLI %s - %s\n", words[code],
		       f->faults.length ? f->faults.data : "all is well");
	else
		printf("\n%zu fine, %zu warnings, %zu failures\n",
		       f->counts[FINDING_OK], warnings, failures);
	buf_free(&f->faults);
	return code;
}
