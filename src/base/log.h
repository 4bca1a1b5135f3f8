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
 * Limits how often a failure is logged that may occur hundreds of times a
 * second. Starts as { 0 }; each kind of failure has a limit of its own.
 */
struct log_limit {
	_Atomic int64_t passed_at; /* ms, monotonic; 0: never */
	_Atomic uint64_t text_hash; /* of the text that passed last */
};

/*
 * Returns true if text is to be logged: it differs from the text that
 * passed last, or that is a minute ago. Safe from any thread; of several
 * threads at one moment more than one may pass.
 */
bool log_limit_pass(struct log_limit *limit, const char *text) MUST_CHECK;
/* Lets the next text pass, because the failure is over. */
void log_limit_reset(struct log_limit *limit);
/* Calls log_message() if log_limit_pass() lets the message pass. */
void log_limited(struct log_limit *limit, enum log_level level,
		 const char *format, ...) PRINTF(3, 4);

#endif
