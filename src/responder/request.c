/*
 * Owns what CGI variables mean, and how a body is read. Must not know where
 * they come from: a gateway sets the variables and passes a function that
 * reads.
 */
#include "responder/request.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"

/* Limits of what is discarded of a body that is too large. */
enum { DISCARD_MS = 1000, DISCARD_BYTES = 8 * 1024 * 1024 };

/* The room for a body of unknown length, which then grows. */
enum { USUAL_BODY = 511 };

void request_init(struct request *r)
{
	*r = (struct request){
		.method = "",
		.path_info = "",
		.script_name = "",
		.document_uri = "",
		.request_uri = "",
		.script_filename = "",
		.content_type = "",
		.content_encoding = "",
		.content_length = "",
		.remote_addr = "",
		.server_request_id = "",
		.x_request_id = "",
		.x_timestamp = "",
		.x_signature = "",
		.accepted_at = monotonic_ms(),
		.received = wall_clock_us(),
		.state = BODY_COMPLETE,
	};
}

bool request_is_identity(const struct request *r)
{
	return *r->content_encoding == '\0' ||
	       strcasecmp(r->content_encoding, "identity") == 0;
}

struct variable {
	const char *name;
	size_t length;
	size_t field; /* offset in struct request */
};

#define VARIABLE(name, field)                                           \
	{                                                               \
		name, sizeof(name) - 1, offsetof(struct request, field) \
	}

/* Returns NULL for a variable that is not needed. */
static const struct variable *find_variable(const char *name, size_t length)
{
	static const struct variable known[] = {
		VARIABLE("PATH_INFO", path_info),
		VARIABLE("UNIQUE_ID", server_request_id),
		VARIABLE("REQUEST_ID", server_request_id),
		VARIABLE("REMOTE_ADDR", remote_addr),
		VARIABLE("REQUEST_URI", request_uri),
		VARIABLE("SCRIPT_NAME", script_name),
		VARIABLE("CONTENT_TYPE", content_type),
		VARIABLE("DOCUMENT_URI", document_uri),
		VARIABLE("CONTENT_LENGTH", content_length),
		VARIABLE("REQUEST_METHOD", method),
		VARIABLE("SCRIPT_FILENAME", script_filename),
		VARIABLE("HTTP_X_SIGNATURE", x_signature),
		VARIABLE("HTTP_X_TIMESTAMP", x_timestamp),
		VARIABLE("HTTP_X_REQUEST_ID", x_request_id),
		VARIABLE("HTTP_CONTENT_ENCODING", content_encoding),
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (length == known[i].length && *name == *known[i].name &&
		    memcmp(name, known[i].name, length) == 0)
			return &known[i];
	}
	return NULL;
}

void request_set(struct request *r, const char *name, size_t length,
		 const char *value)
{
	const struct variable *v = find_variable(name, length);
	const char **field;

	if (!v)
		return;
	field = (const char **)((char *)r + v->field);
	/* nginx and lighttpd pass a repeated header on as two variables. */
	if (field == &r->x_signature && r->signature_count++ > 0)
		return;
	if (field == &r->content_encoding && !request_is_identity(r))
		return;
	*field = value;
}

const char *request_id(const struct request *r, char text[REQUEST_ID_SIZE])
{
	const char *id = *r->server_request_id ? r->server_request_id
					       : r->x_request_id;
	size_t length = 0;

	for (; length < REQUEST_ID_SIZE - 1 && id[length]; length++) {
		text[length] = id[length];
		if (id[length] <= ' ' || id[length] >= 0x7f)
			text[length] = '?';
	}
	text[length] = '\0';
	return length ? text : NULL;
}

enum length_kind {
	LENGTH_UNKNOWN, /* read to the end */
	LENGTH_GIVEN,
	LENGTH_TOO_LARGE,
	LENGTH_INVALID
};

static enum length_kind parse_content_length(const char *text, size_t max,
					     size_t *length)
{
	uint64_t value;

	/* Caddy says -1 of a chunked body, and 0 of some over HTTP/2. */
	if (*text == '\0' || strcmp(text, "-1") == 0 || strcmp(text, "0") == 0)
		return LENGTH_UNKNOWN;
	if (strspn(text, "0123456789") != strlen(text))
		return LENGTH_INVALID;
	/* These are digits, so only a number that is too large fails. */
	if (!parse_u64(text, 0, max, &value))
		return LENGTH_TOO_LARGE;
	*length = (size_t)value;
	return LENGTH_GIVEN;
}

/*
 * Reads to the end (BODY_COMPLETE), to a limit or to a fault. room is for how
 * many bytes to allocate at once.
 */
static enum body_state read_to_end(struct request *r, size_t room,
				   size_t max_body, body_read_fn read_some,
				   void *context)
{
	struct buf body = { .data = xmalloc(room + 1), .capacity = room + 1 };
	char chunk[8192];
	long n;

	buf_add(&body, "", 0);
	while ((n = read_some(context, chunk, sizeof(chunk))) > 0) {
		if ((size_t)n > max_body - body.length) {
			buf_free(&body);
			return BODY_TOO_LARGE;
		}
		buf_add(&body, chunk, (size_t)n);
	}
	r->body = body.data;
	r->length = body.length;
	if (n == 0)
		return BODY_COMPLETE;
	return n == -2 ? BODY_TIMEOUT : BODY_BROKEN;
}

/*
 * Discards the rest of a body, for a while, because Apache would replace our
 * reply by 503 if it could not send all of it.
 */
static void discard_body(body_read_fn read_some, void *context)
{
	char discarded[8192];
	int64_t until = monotonic_ms() + DISCARD_MS;
	size_t total = 0;
	long n;

	while (total < DISCARD_BYTES && monotonic_ms() < until &&
	       (n = read_some(context, discarded, sizeof(discarded))) > 0)
		total += (size_t)n;
}

void request_read_body(struct request *r, size_t max_body,
		       body_read_fn read_some, void *context)
{
	size_t length = 0;
	enum length_kind kind =
		parse_content_length(r->content_length, max_body, &length);

	/* To the end although the length is known: a longer body is 400. */
	r->state = kind == LENGTH_TOO_LARGE
			   ? BODY_TOO_LARGE
			   : read_to_end(r, length ? length : USUAL_BODY,
					 max_body, read_some, context);
	if (r->state == BODY_TOO_LARGE)
		discard_body(read_some, context);
	r->body_read_at = monotonic_ms();
	if (r->state == BODY_COMPLETE &&
	    (kind == LENGTH_INVALID ||
	     (kind == LENGTH_GIVEN && length != r->length)))
		r->state = BODY_BROKEN;
}

void request_free(struct request *r)
{
	free(r->body);
	r->body = NULL;
	r->length = 0;
}

/* Returns the length without the query. */
static size_t path_length(const char *uri)
{
	return strcspn(uri, "?");
}

static bool ends_in(const char *text, size_t length, const char *end)
{
	size_t tail = strlen(end);

	return length >= tail && memcmp(text + length - tail, end, tail) == 0;
}

/*
 * Returns what PATH_INFO has below the mount. Caddy without a split path knows
 * no mount: it leaves SCRIPT_NAME empty and puts the whole path there; this
 * returns "" then, because REQUEST_URI has the same.
 */
static const char *below_mount(const struct request *r)
{
	size_t length = path_length(r->request_uri);

	if (!*r->script_name && length == strlen(r->path_info) &&
	    memcmp(r->path_info, r->request_uri, length) == 0)
		return "";
	return r->path_info;
}

bool request_is_health(const struct request *r)
{
	static const char health[] = "/health";

	if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0)
		return false;
	if (*below_mount(r))
		return strcmp(r->path_info, health) == 0;
	return ends_in(r->script_name, strlen(r->script_name), health) ||
	       ends_in(r->document_uri, strlen(r->document_uri), health) ||
	       ends_in(r->request_uri, path_length(r->request_uri), health);
}

/* Copies length bytes if they can be a secret's name; else "". */
static void copy_name(const char *text, size_t length,
		      char name[SECRET_NAME_SIZE])
{
	if (!secret_name_fits_path(text, length))
		length = 0;
	memcpy(name, text, length);
	name[length] = '\0';
}

/*
 * Judges what follows the mount, which may be anything but "". A rest that can't
 * be a name is not the mount: its name is "", which no secret has.
 */
static enum path_kind judge_rest(const char *rest, size_t length,
				 char name[SECRET_NAME_SIZE])
{
	static const char health[] = "/health";

	*name = '\0';
	if (*rest != '/' || length == 1 ||
	    (length == strlen(health) && memcmp(rest, health, length) == 0))
		return PATH_MOUNT;
	copy_name(rest + 1, length - 1, name);
	return PATH_SECRET;
}

/* Returns true if the program that the server started has this path. */
static bool is_program(const struct request *r, const char *name)
{
	struct stat st;

	return ends_in(name, strlen(name), ".fcgi") ||
	       ends_in(name, strlen(name), ".cgi") ||
	       (*r->script_filename && stat(r->script_filename, &st) == 0 &&
		S_ISREG(st.st_mode));
}

/* Returns true if path goes on behind the mount. */
static bool extends(const char *path, size_t length, const char *mount)
{
	size_t n = strlen(mount);

	return n && length > n && path[n] == '/' && memcmp(path, mount, n) == 0;
}

/* Returns the mount of the shipped configurations that path extends, or NULL. */
static const char *usual_mount(const char *path, size_t length)
{
	static const char *const mounts[] = { "/humcli", "/humcli-webhook" };

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		if (extends(path, length, mounts[i]))
			return mounts[i];
	}
	return NULL;
}

/*
 * Judges a path whose mount is not known, as Caddy passes it on. What follows
 * the usual mount is judged as it; another mount may have several segments.
 */
static enum path_kind judge_path(const struct request *r, const char *path,
				 size_t length, char name[SECRET_NAME_SIZE])
{
	const char *mount = usual_mount(path, length);
	const char *slash = memrchr(path, '/', length);
	size_t before = slash ? (size_t)(slash - path) : 0;

	*name = '\0';
	if (before > 0)
		copy_name(slash + 1, length - before - 1, name);
	if (*name && is_program(r, name)) {
		*name = '\0';
		return PATH_MOUNT;
	}
	if (mount)
		return judge_rest(path + strlen(mount), length - strlen(mount),
				  name);
	return *name ? PATH_PERHAPS_SECRET : PATH_MOUNT;
}

enum path_kind request_secret_name(const struct request *r,
				   char name[SECRET_NAME_SIZE])
{
	const char *paths[] = { r->script_name, r->document_uri,
				r->request_uri };
	size_t mount = strlen(r->script_name), length;

	if (*below_mount(r))
		return judge_rest(r->path_info, strlen(r->path_info), name);
	for (size_t i = 1; i < ARRAY_SIZE(paths); i++) {
		length = path_length(paths[i]);
		if (extends(paths[i], length, r->script_name))
			return judge_rest(paths[i] + mount, length - mount,
					  name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (*paths[i])
			return judge_path(r, paths[i], path_length(paths[i]),
					  name);
	}
	*name = '\0';
	return PATH_MOUNT;
}
