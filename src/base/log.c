#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum { LINE_MAX_BYTES = 4096, LIMIT_MS = 60000 };

static const char *const names[] = { "error", "warning", "info", "debug" };
static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* The one mutable global besides the stop flag; set once at the start. */
static struct {
	int fd;
	bool syslog;
	enum log_level level;
	long pid; /* 0: log_open() was not called yet */
	const char *name; /* of log_for_terminal(); NULL: logfmt */
} sink = { STDERR_FILENO, false, LEVEL_INFO, 0, NULL };

struct line {
	char text[LINE_MAX_BYTES];
	size_t length;
};

bool log_open(const char *where, enum log_level level)
{
	int fd = STDERR_FILENO;
	bool to_syslog = strcmp(where, "syslog") == 0;

	if (!to_syslog && strcmp(where, "stderr") != 0)
		fd = open(where, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
			  0600);
	if (fd < 0)
		return false;
	if (to_syslog)
		openlog("humcli-webhook", LOG_PID, LOG_DAEMON);
	sink.fd = fd;
	sink.syslog = to_syslog;
	sink.level = level;
	sink.pid = (long)getpid();
	return true;
}

void log_for_terminal(const char *name)
{
	sink.name = name;
}

bool log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

const char *log_level_name(enum log_level level)
{
	return names[level];
}

static void put(struct line *l, const char *text, size_t length)
{
	/* One byte stays free for the newline. */
	size_t room = sizeof(l->text) - 1 - l->length;

	if (length > room)
		length = room;
	memcpy(l->text + l->length, text, length);
	l->length += length;
}

static bool plain(const char *value)
{
	if (*value == '\0')
		return false;
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return true;
}

/*
 * Puts what is not printable ASCII as \xHH, so that no terminal acts, and a
 * backslash before each of the characters in quoted.
 */
static void put_escaped(struct line *l, const char *value, const char *quoted)
{
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		char escape[5];

		if (strchr(quoted, c)) {
			put(l, "\\", 1);
			put(l, value, 1);
		} else if (c < ' ' || c >= 0x7f) {
			put(l, escape,
			    (size_t)snprintf(escape, sizeof(escape), "\\x%02x",
					     c));
		} else {
			put(l, value, 1);
		}
	}
}

static void put_value(struct line *l, const char *value)
{
	if (plain(value)) {
		put(l, value, strlen(value));
		return;
	}
	put(l, "\"", 1);
	put_escaped(l, value, "\"\\");
	put(l, "\"", 1);
}

static void put_pair(struct line *l, const char *key, const char *value)
{
	if (l->length)
		put(l, " ", 1);
	put(l, key, strlen(key));
	put(l, "=", 1);
	put_value(l, value);
}

static void start(struct line *l, enum log_level level)
{
	char text[TIME_TEXT_SIZE];

	l->length = 0;
	if (sink.syslog)
		return;
	if (sink.name) {
		put(l, sink.name, strlen(sink.name));
		put(l, ":", 1);
		return;
	}
	format_time(wall_clock_us(), text);
	put_pair(l, "time", text);
	put_pair(l, "level", names[level]);
	snprintf(text, sizeof(text), "%ld",
		 sink.pid ? sink.pid : (long)getpid());
	put_pair(l, "pid", text);
}

static void finish(struct line *l, enum log_level level)
{
	if (sink.syslog) {
		syslog(priorities[level], "%.*s", (int)l->length, l->text);
		return;
	}
	l->text[l->length++] = '\n';
	/* One write a line, so that lines of several processes stay whole. */
	if (!write_all(sink.fd, l->text, l->length))
		return; /* nowhere left to say so */
}

void log_message(enum log_level level, const char *format, ...)
{
	int saved = errno;
	struct line l;
	char text[LINE_MAX_BYTES];
	va_list args;

	if (level > sink.level)
		return;
	va_start(args, format);
	errno = saved; /* for %m */
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	start(&l, level);
	if (sink.name) {
		put(&l, " ", 1);
		put_escaped(&l, text, "");
	} else {
		put_pair(&l, "msg", text);
	}
	finish(&l, level);
	errno = saved;
}

void log_fields(enum log_level level, const char *key, ...)
{
	int saved = errno;
	struct line l;
	va_list args;

	if (level > sink.level)
		return;
	start(&l, level);
	va_start(args, key);
	for (; key; key = va_arg(args, const char *)) {
		const char *value = va_arg(args, const char *);

		if (value)
			put_pair(&l, key, value);
	}
	va_end(args);
	finish(&l, level);
	errno = saved;
}

/* FNV-1a. */
static uint64_t hash_text(const char *text)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return hash;
}

bool log_limit_pass(struct log_limit *limit, const char *text)
{
	uint64_t hash = hash_text(text);
	int64_t now = monotonic_ms(), passed_at = limit->passed_at;

	if (passed_at && limit->text_hash == hash && now - passed_at < LIMIT_MS)
		return false;
	limit->text_hash = hash;
	limit->passed_at = now ? now : 1;
	return true;
}

void log_limit_reset(struct log_limit *limit)
{
	limit->passed_at = 0;
}

void log_limited(struct log_limit *limit, enum log_level level,
		 const char *format, ...)
{
	int saved = errno;
	char text[LINE_MAX_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (log_limit_pass(limit, text))
		log_message(level, "%s", text);
	errno = saved;
}
