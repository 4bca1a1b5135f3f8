/*
 * Checks the configuration of Apache, lighttpd, nginx and Caddy, line by line:
 * limits below the receiver's, and whether the receiver's configuration is
 * enabled. Knows names and values of directives, and nothing of sections and
 * variables.
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

enum { FILE_LIMIT = 1 << 20, ANSWER_MS = 5000 };

/* The files that a server reads by itself; a snippet counts where it is named. */
static const struct place {
	const char *pattern;
	bool is_snippet;
} default_places[] = {
	{ "/etc/apache2/apache2.conf", false },
	{ "/etc/apache2/mods-enabled/*.conf", false },
	{ "/etc/apache2/conf-enabled/*.conf", false },
	{ "/etc/apache2/sites-enabled/*", false },
	{ "/etc/httpd/conf/httpd.conf", false },
	{ "/etc/httpd/conf.d/*.conf", false },
	{ "/etc/lighttpd/lighttpd.conf", false },
	{ "/etc/lighttpd/conf-enabled/*.conf", false },
	{ "/etc/nginx/nginx.conf", false },
	{ "/etc/nginx/conf.d/*.conf", false },
	{ "/etc/nginx/sites-enabled/*", false },
	{ "/etc/nginx/snippets/humcli-webhook.conf", true },
	{ "/etc/caddy/Caddyfile", false },
	{ "/etc/caddy/*.conf", true },
};

struct unit {
	const char *name;
	uint64_t factor;
};

/* The units of sizes, in bytes. */
static const struct unit nginx_sizes[] = {
	{ "", 1 },	  { "k", 1 << 10 }, { "m", 1 << 20 },
	{ "g", 1 << 30 }, { NULL, 0 },
};
static const struct unit caddy_sizes[] = {
	{ "", 1 },	    { "b", 1 },		{ "k", 1000 },
	{ "kb", 1000 },	    { "m", 1000000 },	{ "mb", 1000000 },
	{ "ki", 1 << 10 },  { "kib", 1 << 10 }, { "mi", 1 << 20 },
	{ "mib", 1 << 20 }, { NULL, 0 },
};
static const struct unit kib[] = { { "", 1 << 10 }, { NULL, 0 } };
static const struct unit times[] = {
	{ "", 1000 },	  { "s", 1000 },     { "ms", 1 }, { "m", 60000 },
	{ "h", 3600000 }, { "d", 86400000 }, { NULL, 0 },
};

/* How a directive is judged. */
enum measure {
	SIZE, /* too low below MAX_BODY; 0 is no limit */
	TIME, /* too low below ANSWER_MS */
	FLAG, /* anything but 0 is wrong */
	OFF, /* "off" is wrong */
	PRESENCE /* the directive is wrong */
};

static const struct limit {
	const char *name;
	enum measure measure;
	const struct unit *units;
	const char *remedy;
} limits[] = {
	{ "LimitRequestBody", SIZE, nginx_sizes,
	  "raise it to 1048576: mod_fcgid cuts the body without a word, and "
	  "then no signature matches" },
	{ "FcgidMaxRequestLen", SIZE, nginx_sizes,
	  "raise it to 1048576: beyond it the answer is 500" },
	{ "server.max-request-size", SIZE, kib,
	  "raise it to 1024, so that senders see the receiver's own answer" },
	{ "client_max_body_size", SIZE, nginx_sizes,
	  "raise it to 1m, so that senders see the receiver's own answer" },
	{ "max_size", SIZE, caddy_sizes,
	  "raise it to 1MiB, so that senders see the receiver's own answer" },
	{ "FcgidIOTimeout", TIME, times,
	  "give it 10 s: the receiver answers within 5" },
	{ "ProxyTimeout", TIME, times,
	  "give it 10 s: the receiver answers within 5" },
	{ "CGIDScriptTimeout", TIME, times,
	  "give it 10 s: the receiver answers within 5" },
	{ "fastcgi_read_timeout", TIME, times,
	  "give it 10s: the receiver answers within 5" },
	{ "read_timeout", TIME, times,
	  "give it 10s: the receiver answers within 5" },
	{ "server.stream-request-body", FLAG, nginx_sizes,
	  "leave it at 0: else chunked bodies are refused with 411, and slow "
	  "senders hold the receiver's threads" },
	{ "fastcgi_request_buffering", OFF, NULL,
	  "leave it on for the webhook's path: else slow senders hold the "
	  "receiver's threads" },
	{ "SetInputFilter", PRESENCE, NULL,
	  "leave it out for the webhook's path: what changes the body breaks "
	  "its signature" },
};

/*
 * Reads numbers with units and adds them, such as "1m30s". Returns false for a
 * text of another form, as the servers' variables are.
 */
static bool read_value(const char *text, const struct unit *units,
		       uint64_t *sum)
{
	*sum = 0;
	do {
		size_t digits = strspn(text, "0123456789");
		size_t letters = strcspn(text + digits, "0123456789");
		char number[12], unit[4];
		const struct unit *u;
		uint64_t value;

		if (digits >= sizeof(number) || letters >= sizeof(unit))
			return false;
		snprintf(number, sizeof(number), "%.*s", (int)digits, text);
		snprintf(unit, sizeof(unit), "%.*s", (int)letters,
			 text + digits);
		for (u = units; u->name && strcasecmp(u->name, unit) != 0; u++)
			;
		if (!u->name || !parse_u64(number, 0, UINT32_MAX, &value))
			return false;
		*sum += value * u->factor;
		text += digits + letters;
	} while (*text);
	return true;
}

static bool is_wrong(const struct limit *l, const char *text, uint64_t max_body)
{
	uint64_t value = 0;

	switch (l->measure) {
	case PRESENCE:
		return true;
	case OFF:
		return strcasecmp(text, "off") == 0;
	case SIZE:
	case TIME:
	case FLAG:
		break;
	}
	/* The server resolves its own variables; they are not judged. */
	if (!read_value(text, l->units, &value))
		return false;
	if (l->measure == SIZE)
		return value && value < max_body;
	return l->measure == TIME ? value < ANSWER_MS : value != 0;
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

		if (strncasecmp(line, l->name, length) != 0 ||
		    !strchr(" \t=", *text))
			continue;
		text += strspn(text, " \t=\"");
		text[strcspn(text, " \t\r\";")] = '\0';
		if (!is_wrong(l, text, s->max_body))
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

static void check_pattern(struct scan *s, const char *pattern, bool is_snippet)
{
	size_t mentions = s->mentions;
	glob_t found;

	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			check_file(s, found.gl_pathv[i]);
		globfree(&found);
	}
	if (is_snippet)
		s->mentions = mentions;
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
		       "a2enconf humcli-webhook, lighty-enable-mod "
		       "humcli-webhook, or the lines for nginx or Caddy that "
		       "init --steps prints; then reload the server; "
		       "--web-config PATTERN names other files",
		       "none of its %zu enabled files names the receiver",
		       scan->files);
}

void doctor_web(struct findings *f, const struct settings *s,
		const char *pattern)
{
	struct scan scan = { .findings = f, .max_body = s->max_body };

	if (pattern)
		check_pattern(&scan, pattern, false);
	for (size_t i = 0; !pattern && i < ARRAY_SIZE(default_places); i++)
		check_pattern(&scan, default_places[i].pattern,
			      default_places[i].is_snippet);
	if (!scan.files)
		report_finding(f, FINDING_SKIPPED, "web server",
			       "--web-config PATTERN names its files",
			       "no configuration was found");
	else if (!scan.low)
		report_finding(f, FINDING_OK, "web server", NULL,
			       "no limit in %zu file%s is too low", scan.files,
			       PLURAL_S(scan.files));
	if (!pattern)
		check_enabled(f, &scan, s);
}
