#include "base/buf.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/doctor/doctor.h"

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

/* Of a directive. */
enum measure {
	BYTES, /* 0: none */
	KIB, /* 0: none */
	SECONDS,
	FLAG, /* anything but 0 is to be known */
	PRESENCE /* so is its being there */
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

/* What a limit is set to, read behind its name. */
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
};

static void check_line(struct scan *s, const char *path, unsigned number,
		       char *line)
{
	line += strspn(line, " \t");
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
		/* A variable of the server's own is not for us to resolve. */
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
		char *rest = text.data, *line;

		s->files++;
		while ((line = strsep(&rest, "\n")))
			check_line(s, path, ++number, line);
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

void doctor_web(struct findings *f, const struct settings *s,
		const char *pattern)
{
	struct scan scan = { .findings = f, .max_body = s->max_body };

	if (pattern)
		check_pattern(&scan, pattern);
	for (size_t i = 0; !pattern && i < ARRAY_SIZE(default_patterns); i++)
		check_pattern(&scan, default_patterns[i]);
	if (!scan.low)
		report_finding(
			f, FINDING_OK, "web server", NULL,
			scan.files ? "no limit in %zu files is too low"
				   : "no configuration was found to look at "
				     "(%zu files)",
			scan.files);
}
