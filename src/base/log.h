/*
 * The log: logfmt, one line a call, to stderr, syslog or a file. All values
 * are quoted and escaped here, and nowhere else. A line is cut at 4 KiB. Any
 * thread may log; errno is kept. A line that can't be written is dropped, and
 * a later line says how many are lost.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

enum log_level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG };

/*
 * Sets the target: "stderr", "syslog" or the path of a file, which is created
 * with mode 0600 and appended to. Returns true if it did; false with errno set,
 * and the target unchanged. Before the first call lines go to stderr at
 * LEVEL_INFO. Call before log_start() and before other threads start.
 */
bool log_open(const char *where, enum log_level level) MUST_CHECK;

enum log_format { LOG_LOGFMT, LOG_JSON };

/*
 * Chooses between logfmt, the default, and one JSON object a line, with the
 * same fields. Call before other threads start.
 */
void log_set_format(enum log_format format);
bool log_format_parse(const char *name, enum log_format *format) MUST_CHECK;

/*
 * Writes from now on for a person at a terminal, "NAME: sentence", instead of
 * logfmt. name is kept, not copied.
 */
void log_for_terminal(const char *name);

/*
 * Starts the thread that writes the lines from now on, so that no caller waits
 * for the target. Without a thread to be had, lines are written directly.
 */
void log_start(void);
/*
 * Writes the last lines and ends that thread; waits no longer than until (ms,
 * monotonic).
 */
void log_stop(int64_t until);

bool log_level_parse(const char *name, enum log_level *level) MUST_CHECK;
const char *log_level_name(enum log_level level);

/* Logs a sentence: time=… level=… pid=… msg="…" */
void log_message(enum log_level level, const char *format, ...) PRINTF(2, 3);

/*
 * Logs pairs: log_fields(LEVEL_INFO, "outcome", "recorded", "ms", "3", NULL).
 * Leaves out a pair whose value is NULL.
 */
void log_fields(enum log_level level, const char *key, ...)
	__attribute__((sentinel));

/*
 * A rate-limited log: a failure that occurs hundreds of times a second is
 * logged once a minute. Starts as { 0 }. Each kind of failure has its own.
 */
struct log_limit {
	_Atomic int64_t passed_at; /* ms, monotonic; 0: never */
	_Atomic uint64_t text_hash; /* of the text that passed last */
};

/*
 * Returns true if the caller must log text now, because the last text that
 * passed was another one, or passed a minute ago; false otherwise. Any thread
 * may call it; when several call it at one moment, more than one may pass.
 */
bool log_limit_pass(struct log_limit *limit, const char *text) MUST_CHECK;
/* Lets the next text pass, because the failure is over. */
void log_limit_reset(struct log_limit *limit);
/* Logs a message like log_message() if log_limit_pass() lets it pass. */
void log_limited(struct log_limit *limit, enum log_level level,
		 const char *format, ...) PRINTF(3, 4);

#endif
