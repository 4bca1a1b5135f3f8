/*
 * Owns the log: writes each line to stderr, a file or syslog. log_line.c builds
 * the line. Knows only base/; callers decide what a line says.
 *
 * A target may block for ever: a full pipe, a dead disk, a syslog that does not
 * read. Therefore log_start() starts a thread, the log's thread, that alone
 * writes from then on. Callers of log_message() and log_fields() in any thread
 * append to sink.pending under sink.lock and never wait for the target. The
 * log's thread swaps sink.pending with an empty buffer and writes without the
 * lock. If sink.pending is full, or a write fails, lines are counted in
 * sink.lost; a line of the log says how many once it can be written.
 *
 * Without that thread (the command line, the start, no thread to be had) lines
 * are written directly, after a wait of at most DIRECT_WAIT_MS for a pipe.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log_line.h"
#include "base/macros.h"
#include "base/threads.h"

enum {
	PENDING_MAX_BYTES = 256 * 1024,
	DIRECT_WAIT_MS = 1000,
	WRITE_DELAY_MS = 5,
	LIMIT_MS = 60000
};

static const char *const names[] = { "error", "warning", "info", "debug" };
static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/*
 * The one mutable global besides the stop flag. path, fd, syslog, level and pid
 * are set before other threads start, and fd keeps its number; lock guards the
 * rest.
 */
static struct {
	char *path; /* NULL: not a file of ours */
	int fd;
	bool syslog;
	enum log_level level;
	enum log_format format;
	long pid; /* 0: log_open() was not called yet */
	const char *name; /* of log_for_terminal(); NULL: logfmt */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* of pending, writing, stopping */
	pthread_t thread;
	bool started; /* the log's thread writes */
	bool stopping;
	bool writing; /* the log's thread has lines in its hands */
	/* Lines, each behind a byte for its level. */
	struct buf pending;
	uint64_t lost; /* lines, since this was logged */
	bool torn; /* the last line was written in part */
} sink = { .fd = STDERR_FILENO,
	   .level = LEVEL_INFO,
	   .lock = PTHREAD_MUTEX_INITIALIZER };

static int open_file(const char *path)
{
	/* O_NONBLOCK, because open() would wait for a reader of a FIFO. */
	return open(path,
		    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY |
			    O_NONBLOCK,
		    0600);
}

bool log_open(const char *where, enum log_level level)
{
	int fd = STDERR_FILENO;
	bool to_syslog = strcmp(where, "syslog") == 0;
	bool to_file = !to_syslog && strcmp(where, "stderr") != 0;

	if (to_file)
		fd = open_file(where);
	if (fd < 0)
		return false;
	if (to_syslog)
		openlog("humcli-webhook", LOG_PID, LOG_DAEMON);
	free(sink.path);
	sink.path = to_file ? xstrdup(where) : NULL;
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

void log_set_format(enum log_format format)
{
	sink.format = format;
}

bool log_format_parse(const char *name, enum log_format *format)
{
	bool json = strcmp(name, "json") == 0;

	if (!json && strcmp(name, "logfmt") != 0)
		return false;
	*format = json ? LOG_JSON : LOG_LOGFMT;
	return true;
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

static void start_line(struct log_line *l, enum log_level level)
{
	char text[TIME_TEXT_SIZE];

	log_line_start(l, sink.format == LOG_JSON && !sink.name);
	if (sink.syslog)
		return;
	if (sink.name) {
		log_line_plain(l, sink.name);
		log_line_plain(l, ":");
		return;
	}
	format_time(wall_clock_us(), text);
	log_line_pair(l, "time", text);
	log_line_pair(l, "level", names[level]);
	snprintf(text, sizeof(text), "%ld",
		 sink.pid ? sink.pid : (long)getpid());
	log_line_pair(l, "pid", text);
}

static void put_message(struct log_line *l, const char *text)
{
	if (sink.name) {
		log_line_plain(l, " ");
		log_line_plain(l, text);
	} else {
		log_line_pair(l, "msg", text);
	}
}

/* Writing. */

static bool is_regular_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/*
 * Waits until the target can be written to, at most timeout ms (-1: for ever).
 * Returns true if it can; false if not.
 */
static bool wait_writable(int timeout)
{
	struct pollfd p = { .fd = sink.fd, .events = POLLOUT };
	int n;

	do
		n = poll(&p, 1, timeout);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

/*
 * Writes to the descriptor. Returns how many bytes were written; fewer than
 * length after an error, or if the target can't be written to for wait_ms.
 */
static size_t write_bytes(const char *text, size_t length, int wait_ms)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = write(sink.fd, text + done, length - done);

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EINTR)
			continue;
		/* A process that shares stderr can make it non-blocking. */
		else if (n == 0 || errno != EAGAIN || !wait_writable(wait_ms))
			break;
	}
	return done;
}

/* Whole lines to be written by one write(). */
struct chunk {
	char text[LOG_LINE_MAX];
	size_t length;
	int wait_ms; /* for the target; -1: for ever */
	bool torn; /* as sink.torn */
	uint64_t lost; /* lines that could not be written */
};

static void write_chunk(struct chunk *c)
{
	size_t done;

	if (c->length == 0)
		return;
	/* A line that was written in part ends here. */
	if (c->torn && write_bytes("\n", 1, c->wait_ms) == 1)
		c->torn = false;
	done = c->torn ? 0 : write_bytes(c->text, c->length, c->wait_ms);
	for (size_t i = done; i < c->length; i++)
		c->lost += c->text[i] == '\n';
	if (done)
		c->torn = c->text[done - 1] != '\n';
	c->length = 0;
}

/* Adds a line with its newline. Lines of several processes stay whole. */
static void write_line(struct chunk *c, enum log_level level, const char *text,
		       size_t length)
{
	if (sink.syslog) {
		syslog(priorities[level], "%.*s", (int)length - 1, text);
		return;
	}
	if (c->length + length > sizeof(c->text))
		write_chunk(c);
	memcpy(c->text + c->length, text, length);
	c->length += length;
}

/*
 * Writes what is in the chunk, and how many lines were lost before, in one
 * write() if both fit.
 */
static void write_rest(struct chunk *c, uint64_t lost)
{
	struct log_line l;
	char text[64];

	if (lost == 0 || c->lost) {
		write_chunk(c);
		c->lost += lost;
		return;
	}
	snprintf(text, sizeof(text), "%llu log line%s lost",
		 (unsigned long long)lost, PLURAL_S(lost));
	start_line(&l, LEVEL_WARNING);
	put_message(&l, text);
	log_line_end(&l);
	write_line(c, LEVEL_WARNING, l.text, l.length);
	write_chunk(c);
	/* The last line that failed is the one that was to tell. */
	if (c->lost)
		c->lost += lost - 1;
}

/* Writes lines in the form of sink.pending, all but the last chunk. */
static void write_lines(struct chunk *c, const struct buf *lines)
{
	const char *line;
	size_t at = 0, length;

	while ((line = buf_next_line(lines, &at, &length)))
		write_line(c, (enum log_level)line[0], line + 1, length);
}

/*
 * Opens the file again if a rotation has renamed or removed it. If that fails,
 * the old file stays in use.
 */
static void follow_rotation(void)
{
	struct stat old, new;
	int fd;

	if (!sink.path || fstat(sink.fd, &old) < 0 || !S_ISREG(old.st_mode))
		return;
	if (stat(sink.path, &new) == 0 &&
	    new.st_dev == old.st_dev &&new.st_ino == old.st_ino)
		return;
	fd = open_file(sink.path);
	if (fd < 0)
		return;
	(void)dup3(fd, sink.fd, O_CLOEXEC);
	close(fd);
}

static void *log_main(void *unused)
{
	struct buf lines = { 0 };
	int64_t written_at = 0; /* ms, monotonic */

	mutex_lock(&sink.lock);
	for (;;) {
		struct buf taken = sink.pending;
		struct chunk c = { .wait_ms = -1, .torn = sink.torn };
		uint64_t lost = sink.lost;

		if (taken.length == 0 && !sink.stopping) {
			cond_wait(&sink.changed, &sink.lock,
				  monotonic_ms() + LIMIT_MS);
			continue;
		}
		/*
		 * Under load lines are written together, because a wake-up of
		 * this thread for each line costs more than the line.
		 */
		if (!sink.stopping &&
		    monotonic_ms() < written_at + WRITE_DELAY_MS) {
			cond_wait(&sink.changed, &sink.lock,
				  written_at + WRITE_DELAY_MS);
			continue;
		}
		if (taken.length == 0 && lost == 0)
			break;
		lines.length = 0;
		sink.pending = lines;
		lines = taken;
		sink.lost = 0;
		sink.writing = true;
		mutex_unlock(&sink.lock);
		follow_rotation();
		write_lines(&c, &lines);
		write_rest(&c, lost);
		written_at = monotonic_ms();
		mutex_lock(&sink.lock);
		sink.writing = false;
		sink.lost += c.lost;
		sink.torn = c.torn;
		if (taken.length == 0)
			break;
	}
	mutex_unlock(&sink.lock);
	buf_free(&lines);
	return unused;
}

/*
 * Writes a line, or counts it as lost. Only the first of several lost lines
 * waits for the target. Call with sink.lock held.
 */
static void write_directly(const struct log_line *l, enum log_level level)
{
	uint64_t lost = sink.lost;
	struct chunk c = { .wait_ms = lost ? 0 : DIRECT_WAIT_MS,
			   .torn = sink.torn };

	if (sink.syslog || is_regular_file(sink.fd) ||
	    wait_writable(c.wait_ms)) {
		write_line(&c, level, l->text, l->length);
		write_rest(&c, lost);
	} else {
		c.lost = lost + 1;
	}
	sink.lost = c.lost;
	sink.torn = c.torn;
}

static void finish_line(struct log_line *l, enum log_level level)
{
	char prefix = (char)level;

	log_line_end(l);
	mutex_lock(&sink.lock);
	if (!sink.started) {
		write_directly(l, level);
	} else if (sink.pending.length + 1 + l->length > PENDING_MAX_BYTES) {
		sink.lost++;
	} else {
		if (sink.pending.length == 0 && !sink.writing)
			cond_signal(&sink.changed);
		buf_add(&sink.pending, &prefix, 1);
		buf_add(&sink.pending, l->text, l->length);
	}
	mutex_unlock(&sink.lock);
}

void log_start(void)
{
	enum { STACK_BYTES = 128 * 1024 };
	pthread_attr_t a;
	sigset_t all, before;

	cond_init(&sink.changed);
	pthread_check(pthread_attr_init(&a));
	pthread_check(pthread_attr_setstacksize(&a, STACK_BYTES));
	sigfillset(&all);
	pthread_check(pthread_sigmask(SIG_SETMASK, &all, &before));
	/* Under the lock, because other threads may log already. */
	mutex_lock(&sink.lock);
	sink.started = pthread_create(&sink.thread, &a, log_main, NULL) == 0;
	mutex_unlock(&sink.lock);
	pthread_check(pthread_sigmask(SIG_SETMASK, &before, NULL));
	pthread_check(pthread_attr_destroy(&a));
	if (!sink.started)
		cond_destroy(&sink.changed);
}

void log_stop(int64_t until)
{
	if (!sink.started)
		return;
	mutex_lock(&sink.lock);
	sink.stopping = true;
	cond_signal(&sink.changed);
	mutex_unlock(&sink.lock);
	if (!thread_join_until(sink.thread, until))
		return;
	/* Other threads may still log: directly from now on. */
	mutex_lock(&sink.lock);
	sink.started = false;
	sink.stopping = false;
	buf_free(&sink.pending);
	cond_destroy(&sink.changed);
	mutex_unlock(&sink.lock);
}

void log_message(enum log_level level, const char *format, ...)
{
	int saved = errno;
	struct log_line l;
	char text[LOG_LINE_MAX];
	va_list args;

	if (level > sink.level)
		return;
	va_start(args, format);
	errno = saved; /* for %m */
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	start_line(&l, level);
	put_message(&l, text);
	finish_line(&l, level);
	errno = saved;
}

void log_fields(enum log_level level, const char *key, ...)
{
	int saved = errno;
	struct log_line l;
	va_list args;

	if (level > sink.level)
		return;
	start_line(&l, level);
	va_start(args, key);
	for (; key; key = va_arg(args, const char *)) {
		const char *value = va_arg(args, const char *);

		if (value)
			log_line_pair(&l, key, value);
	}
	va_end(args);
	finish_line(&l, level);
	errno = saved;
}

/* Returns the FNV-1a hash of a text. */
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
	char text[LOG_LINE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (log_limit_pass(limit, text))
		log_message(level, "%s", text);
	errno = saved;
}
