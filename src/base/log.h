/*
 * The log: logfmt, one line a call, to stderr, syslog or a file. Values
 * from outside are quoted and escaped here and nowhere else; a line is
 * cut at 4 KiB. Safe from any thread; errno is kept.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

enum log_level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG };

/*
 * where: "stderr", "syslog" or the path of a file to append to (made 0600).
 * False with errno set where the file can't be opened; the log then goes
 * on as it was. Before the first call lines go to stderr at LEVEL_INFO.
 */
bool log_open(const char *where, enum log_level level) MUST_CHECK;

/*
 * Writes from now on for a person at a terminal, "NAME: sentence", instead of
 * logfmt. name is kept, not copied.
 */
void log_for_terminal(const char *name);

bool log_level_parse(const char *name, enum log_level *level) MUST_CHECK;
const char *log_level_name(enum log_level level);

/* A sentence: time=… level=… pid=… msg="…" */
void log_message(enum log_level level, const char *format, ...) PRINTF(2, 3);

/*
 * Pairs: log_pairs(LEVEL_INFO, "outcome", "recorded", "ms", "3", NULL). A
 * pair whose value is NULL is left out.
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
