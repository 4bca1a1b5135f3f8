/*
 * The two ways a web server talks to us. Each reads requests, passes them
 * to the handler and writes its replies.
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "responder/handler.h"

/*
 * Blocks the signals that end us, before any thread is started; the
 * threads inherit that.
 */
void gateway_block_signals(void);

/* Whether fd 0 is a listening socket, as FastCGI has it. */
bool gateway_fcgi_is_started(void) MUST_CHECK;

/* From the signal to the end of the process, at the latest. */
enum { GATEWAY_STOP_MS = 4500 };

enum gateway_end {
	GATEWAY_DONE, /* all that came was answered */
	GATEWAY_STUCK, /* a thread did not come back in time: _exit() */
	GATEWAY_FAILED /* could not start; the reason is in the log */
};

/*
 * Serves until SIGTERM, SIGINT or SIGUSR1, then answers what is in flight
 * and what waits in the backlog. *end is then the monotonic_ms() by which the
 * process has to be gone. where is what listener_open() took, or NULL.
 */
enum gateway_end gateway_fcgi_serve(const struct handler *h, int listener,
				    const char *where, int64_t *end) MUST_CHECK;

/* Whether the environment is that of a CGI request (RFC 3875). */
bool gateway_cgi_is_started(void) MUST_CHECK;
/*
 * Takes up what the process before this one learned of the database, and
 * leaves what this one learns: in a file of the spool, which there must be.
 */
void gateway_cgi_remember(const struct handler *h);
/* Serves the one request of this process; stdin and stdout are then closed. */
void gateway_cgi_serve(const struct handler *h);

#endif
