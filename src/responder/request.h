/*
 * A request as plain data, filled in by a gateway and read by the handler. The
 * strings belong to the gateway, and live as long as the request.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "config/secret_set.h"

enum body_state {
	BODY_COMPLETE,
	BODY_TOO_LARGE, /* over max_body, announced or read */
	BODY_TIMEOUT, /* not complete 4 s after accept */
	BODY_BROKEN /* the stream broke, or its length is not CONTENT_LENGTH */
};

struct request {
	/* Never NULL; "" if the server passed none. */
	const char *method;
	const char *path_info;
	const char *script_name;
	const char *document_uri;
	const char *request_uri; /* with its query */
	const char *script_filename;
	const char *content_type;
	const char *content_encoding; /* the first that is not identity */
	const char *content_length;
	const char *remote_addr;
	const char *server_request_id; /* UNIQUE_ID or REQUEST_ID */
	const char *x_request_id;
	const char *x_timestamp;
	const char *x_signature; /* the first, if there are several */
	unsigned signature_count;

	int64_t accepted_at; /* ms, monotonic */
	int64_t received; /* us since 1970 */

	/* Filled by request_read_body(); NUL-terminated beyond length. */
	char *body;
	size_t length;
	enum body_state state;
	int64_t body_read_at; /* ms, monotonic */
};

/* The read deadline: from accept to the last byte of the body. */
enum { BODY_LIMIT_MS = 4000 };

/* Makes all strings "", and takes the time of the accept. */
void request_init(struct request *r);
/*
 * Sets one CGI variable, by the name that CGI and FastCGI share (RFC 3875),
 * which has length bytes. Unknown names are ignored. Keeps the pointer to the
 * value.
 */
void request_set(struct request *r, const char *name, size_t length,
		 const char *value);

/*
 * Reads some of the body. Returns how many bytes; 0 at its end; -1 if the
 * stream broke; -2 at the read deadline.
 */
typedef long (*body_read_fn)(void *context, char *data, size_t size);
/* Reads the body to its end or to a limit, and sets r->state. */
void request_read_body(struct request *r, size_t max_body,
		       body_read_fn read_some, void *context);
void request_free(struct request *r);

/* Returns true if the body has no Content-Encoding but identity. */
bool request_is_identity(const struct request *r) MUST_CHECK;

/* Returns true for GET or HEAD of …/health. */
bool request_is_health(const struct request *r) MUST_CHECK;

enum { SECRET_NAME_SIZE = SECRET_PATH_NAME_MAX + 1 };

enum { REQUEST_ID_SIZE = 128 + 1 };

/*
 * Writes the request's id for the log: the web server's own, else the header
 * X-Request-Id. The id is cut at 128 bytes, and all but printable ASCII is '?'.
 * Returns text, or NULL if there is none.
 */
const char *request_id(const struct request *r,
		       char text[REQUEST_ID_SIZE]) MUST_CHECK;

enum path_kind {
	PATH_MOUNT, /* names no secret: all are tried */
	PATH_SECRET, /* <mount>/NAME: only the secret NAME is tried; "" is none */
	PATH_PERHAPS_SECRET /* the same, if there is a secret of that name */
};

/*
 * Finds the secret that the path names. name is "" for PATH_MOUNT, and for
 * PATH_SECRET if the rest of the path can't be a name.
 */
enum path_kind request_secret_name(const struct request *r,
				   char name[SECRET_NAME_SIZE]) MUST_CHECK;

#endif
