/*
 * The two ways a web server talks to us. Each reads requests, passes them
 * to the handler and writes its replies.
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include "handler.h"

/*
 * Blocks the signals that end us, before any thread is started; the
 * threads inherit that.
 */
void gateway_block_signals(void);

/* Whether fd 0 is a listening socket, as FastCGI has it. */
bool gateway_fcgi_inherited(void) MUST_CHECK;

/* Makes libfcgi ready; once, before any thread is started. */
bool gateway_fcgi_start(void) MUST_CHECK;

/*
 * Serves until SIGTERM, SIGINT or SIGUSR1, then answers what is in flight
 * and what waits in the backlog, sends what is owed to listeners, and ends
 * the recorder, all within 5 s. where is what listener_open() took,
 * or NULL. Returns the exit code.
 */
int gateway_fcgi_serve(const struct handler *h, int listener,
		       const char *where) MUST_CHECK;

/* Whether the environment is that of a CGI request (RFC 3875). */
bool gateway_cgi_request(void) MUST_CHECK;
/* Serves the one request of this process; does not return. */
_Noreturn void gateway_cgi_serve(const struct handler *h);

#endif
