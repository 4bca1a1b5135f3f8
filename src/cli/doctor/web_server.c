/*
 * Checks the configuration of Apache and lighttpd, line by line: limits below
 * the receiver's, and whether the receiver's configuration is enabled. Knows
 * names and values of directives, and nothing of sections and variables.
 */
#include "cli/doctor/doctor.h"

#include "base/buf.h"
#include "base/macros.h"
#include "base/parse.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_LIMIT = 1 << 20, ANSWER_S = 5 };

static const char *const default_patterns[] = {
	"/etc/apache2/apache2.conf",	    "/etc/apache2/mods-enabled/*.conf",
	"/etc/apache2/conf-enabled/*.conf", "/etc/apache2/sites-enabled/*",
	"/etc/httpd/conf/httpd.conf",	    "/etc/httpd/conf.d/*.conf",
	"/etc/lighttpd/lighttpd.conf",	    "/etc/lighttpd/conf-enabled/*.conf",
};

/* How a directive is judged. */
enum measure {
	BYTES, /* too low below MAX_BODY; 0 is no limit */
	KIB, /* the same */
	SECONDS, /* too low below ANSWER_S */
	FLAG, /* anything but 0 is wrong */
	PRESENCE /* the directive is wrong */
};

static const struct limit {
	const char *name;
	enum measure measure;
	const char *remedy;
} limits[] = {
	{ "LimitRequestBody", BYTES,
	  "raise it to 1048576: mod_fcgid cuts the body without a word, and "
	  "then no signature matches" },
	{ "FcgidMaxRequestLen", BYTES,
	  "raise it to 1048576: beyond it the answer is 500" },
	{ "server.max-request-size", KIB,
	  "raise it to 1024, so that senders see the receiver's own answer" },
	{ "FcgidIOTimeout", SECONDS,
	  "give it 10 s: the receiver answers within 5" },
	{ "ProxyTimeout", SECONDS,
	  "give it 10 s: the receiver answers within 5" },
	{ "CGIDScriptTimeout", SECONDS,
	  "give it 10 s: the receiver answers within 5" },
	{ "server.stream-request-body", FLAG,
	  "leave it at 0: else chunked bodies are refused with 411, and slow "
	  "senders hold the receiver's threads" },
	{ "SetInputFilter", PRESENCE,
	  "leave it out for the webhook's path: what changes the body breaks "
	  "its signature" },
};

static bool is_too_low(const struct limit *l, uint64_t value, uint64_t max_body)
{
	switch (l->measure) {
	case BYTES:
		return value && value < max_body;
	case KIB:
		return value && value < max_body / 1024;
	case SECONDS:
		return value < ANSWER_S;
	case FLAG:
		return value != 0;
	case PRESENCE:
		return true;
	}
	return false;
}

struct scan {
	struct findings *findings;
	uint64_t max_body;
	size_t files, low;
	size_t mentions; /* lines that name the receiver */
};

static void check_line(struct scan *s, const char *path, unsigned number,
		       char *line)
{
	line += strspn(line, " \t");
	if (*line != '#' && strcasestr(line, "humcli"))
		s->mentions++;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct limit *l = &limits[i];
		size_t length = strlen(l->name);
		char *text = line + length;
		uint64_t value = 0;

		if (strncasecmp(line, l->name, length) != 0 ||
		    !strchr(" \t=", *text))
			continue;
		text += strspn(text, " \t=\"");
		text[strcspn(text, " \t\r\"")] = '\0';
		/* The server resolves its own variables; they are not judged. */
		if (l->measure != PRESENCE &&
		    !parse_u64(text, 0, UINT64_MAX, &value))
			return;
		if (!is_too_low(l, value, s->max_body))
			return;
		s->low++;
		report_finding(s->findings, FINDING_WARNING, "web server",
			       l->remedy, "%s:%u: %s %s", path, number, l->name,
			       text);
	}
}

static void check_file(struct scan *s, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct buf text = { 0 };
	unsigned number = 0;

	if (fd >= 0 && read_all(fd, FILE_LIMIT, &text)) {
		size_t at = 0, length;
		char *line;

		s->files++;
		while ((line = buf_next_line(&text, &at, &length))) {
			line[length] = '\0';
			check_line(s, path, ++number, line);
		}
	}
	if (fd >= 0)
		close(fd);
	buf_free(&text);
}

static void check_pattern(struct scan *s, const char *pattern)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			check_file(s, found.gl_pathv[i]);
		globfree(&found);
	}
}

/* Reports whether the receiver is in an enabled file. */
static void check_enabled(struct findings *f, const struct scan *scan,
			  const struct settings *s)
{
	static const char folder[] = SYSCONFDIR "/";

	/* An installation in a home is enabled by its .htaccess. */
	if (!scan->files || scan->mentions || !s->file ||
	    strncmp(s->file, folder, sizeof(folder) - 1) != 0)
		return;
	report_finding(f, FINDING_WARNING, "web server",
		       "a2enconf humcli-webhook, or lighty-enable-mod "
		       "humcli-webhook, and reload the server; --web-config "
		       "PATTERN names other files",
		       "none of its %zu enabled files names the receiver",
		       scan->files);
}

void doctor_web(struct findings *f, const struct settings *s,
		const char *pattern)
{
	struct scan scan = { .findings = f, .max_body = s->max_body };

	if (pattern)
		check_pattern(&scan, pattern);
	for (size_t i = 0; !pattern && i < ARRAY_SIZE(default_patterns); i++)
		check_pattern(&scan, default_patterns[i]);
	if (!scan.files)
		report_finding(f, FINDING_SKIPPED, "web server",
			       "--web-config PATTERN names its files",
			       "no configuration was found");
	else if (!scan.low)
		report_finding(f, FINDING_OK, "web server", NULL,
			       "no limit in %zu files is too low", scan.files);
	if (!pattern)
		check_enabled(f, &scan, s);
}
