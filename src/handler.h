/*
 * The policy: from a request to a reply. The only place that picks an HTTP
 * status. Knows neither FastCGI nor OpenSSL nor cJSON nor libpq.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include "recorder.h"
#include "reply.h"
#include "request.h"
#include "secrets.h"
#include "spool.h"

struct handler {
	const struct settings *settings; /* NULL: not configured (CGI) */
	struct secrets *secrets;
	struct recorder *recorder;
	struct spool *spool; /* NULL: none */
};

void handle(const struct handler *h, const struct request *r,
	    struct reply *reply);

#endif
