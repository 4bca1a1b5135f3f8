/*
 * The two ways in which a web server talks to us, FastCGI (fcgi_server.c) and
 * CGI (cgi.c). Each reads requests, hands them to the handler and sends its
 * replies.
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "responder/handler.h"
#include "responder/listener.h"

/*
 * Makes the signals that end the process exit at once, with 0. That is for the
 * start, which can be stuck at a disk that has gone away.
 */
void gateway_exit_on_signals(void);
/*
 * Blocks the signals that end the process. Call it before any thread is
 * started, because the threads inherit that.
 */
void gateway_block_signals(void);

/* Returns true if fd 0 is a listening socket: we were started for FastCGI. */
bool gateway_fcgi_is_started(void) MUST_CHECK;

/* From the signal to the end of the process. */
enum { GATEWAY_STOP_MS = 4500 };

enum gateway_end {
	GATEWAY_DONE, /* all requests were answered */
	GATEWAY_STUCK, /* a thread did not end in time: leave by _exit() */
	GATEWAY_FAILED /* could not start; the reason is in the log */
};

/*
 * Serves until SIGTERM, SIGINT or SIGUSR1; then finishes the requests in
 * flight and in the backlog. Sets *end to when the process has to be gone (ms,
 * monotonic).
 */
enum gateway_end gateway_fcgi_serve(const struct handler *h,
				    const struct listener *listener,
				    int64_t *end) MUST_CHECK;

/* Returns true if the environment is that of a CGI request (RFC 3875). */
bool gateway_cgi_is_started(void) MUST_CHECK;
/*
 * Restores the last round trip of an earlier process from a file in the spool,
 * and saves those of this process there. h must have a spool.
 */
void gateway_cgi_remember(const struct handler *h);
/* Makes a process that has to end for want of a resource reply 503 first. */
void gateway_cgi_start(void);
/* Serves the one request of this process. Closes stdin and stdout. */
void gateway_cgi_serve(const struct handler *h);

#endif
