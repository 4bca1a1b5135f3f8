/* Requests (variables, bodies and their lengths, /health) and replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/macros.h"
#include "responder/reply.h"
#include "responder/request.h"

static void set(struct request *r, const char *name, const char *value)
{
	request_set(r, name, strlen(name), value);
}

/* A stream that gives a text in pieces and then returns `end`. */
struct source {
	const char *text;
	size_t piece;
	long end;
	unsigned calls;
};

static long read_source(void *context, char *data, size_t size)
{
	struct source *s = context;
	size_t n = strlen(s->text);

	s->calls++;
	if (n > s->piece)
		n = s->piece;
	if (n > size)
		n = size;
	memcpy(data, s->text, n);
	s->text += n;
	return n ? (long)n : s->end;
}

enum { MAX = 10 };

struct row {
	int line;
	const char *content_length;
	const char *text;
	long end;
	enum body_state state;
};

static const struct row rows[] = {
	{ __LINE__, "5", "hello", 0, BODY_COMPLETE },
	{ __LINE__, "0005", "hello", 0, BODY_COMPLETE },
	{ __LINE__, "0", "", 0, BODY_COMPLETE },
	{ __LINE__, "", "hello", 0, BODY_COMPLETE },
	{ __LINE__, "", "", 0, BODY_COMPLETE },
	{ __LINE__, "-1", "hello", 0, BODY_COMPLETE },
	{ __LINE__, "-1", "", 0, BODY_COMPLETE },
	{ __LINE__, "-1", "0123456789", 0, BODY_COMPLETE },
	{ __LINE__, "-1", "01234567890", 0, BODY_TOO_LARGE },
	{ __LINE__, "-1", "hel", -1, BODY_BROKEN },
	{ __LINE__, "0", "hello", 0, BODY_COMPLETE },
	{ __LINE__, "-01", "hello", 0, BODY_BROKEN },
	{ __LINE__, "-10", "hello", 0, BODY_BROKEN },
	{ __LINE__, "10", "0123456789", 0, BODY_COMPLETE },
	{ __LINE__, "", "0123456789", 0, BODY_COMPLETE },
	{ __LINE__, "11", "", 0, BODY_TOO_LARGE },
	{ __LINE__, "11", "01234567890", 0, BODY_TOO_LARGE },
	{ __LINE__, "", "01234567890", 0, BODY_TOO_LARGE },
	{ __LINE__, "5", "01234567890", 0, BODY_TOO_LARGE },
	{ __LINE__, "-5", "01234567890", 0, BODY_TOO_LARGE },
	{ __LINE__, "18446744073709551616", "hello", 0, BODY_TOO_LARGE },
	{ __LINE__, "99999999999999999999999999", "hello", 0, BODY_TOO_LARGE },
	{ __LINE__, "4", "hello", 0, BODY_BROKEN },
	{ __LINE__, "6", "hello", 0, BODY_BROKEN },
	{ __LINE__, "-5", "hello", 0, BODY_BROKEN },
	{ __LINE__, "+5", "hello", 0, BODY_BROKEN },
	{ __LINE__, " 5", "hello", 0, BODY_BROKEN },
	{ __LINE__, "5 ", "hello", 0, BODY_BROKEN },
	{ __LINE__, "0x5", "hello", 0, BODY_BROKEN },
	{ __LINE__, "five", "hello", 0, BODY_BROKEN },
	{ __LINE__, "5", "hello", -1, BODY_BROKEN },
	{ __LINE__, "", "hel", -1, BODY_BROKEN },
	{ __LINE__, "5", "hel", -2, BODY_TIMEOUT },
	{ __LINE__, "x", "hel", -2, BODY_TIMEOUT },
};

static void test_bodies(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t piece = 1; piece <= 16; piece += 5) {
			struct source s = { rows[i].text, piece, rows[i].end,
					    0 };
			struct request r;

			print_message("line %d, %zu at once\n", rows[i].line,
				      piece);
			request_init(&r);
			set(&r, "CONTENT_LENGTH", rows[i].content_length);
			request_read_body(&r, MAX, read_source, &s);
			assert_int_equal(r.state, rows[i].state);
			if (r.state == BODY_COMPLETE) {
				assert_int_equal(r.length,
						 strlen(rows[i].text));
				assert_string_equal(r.body, rows[i].text);
			}
			assert_true(r.body_read_at >= r.accepted_at);
			request_free(&r);
		}
	}
}

/* A body that is too large is read all the same, and discarded. */
static void test_too_large_is_dropped(void **state)
{
	static const char *const lengths[] = { "11", "" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct source s = { "01234567890123456789", 3, 0, 0 };
		struct request r;

		request_init(&r);
		set(&r, "CONTENT_LENGTH", lengths[i]);
		request_read_body(&r, MAX, read_source, &s);
		assert_int_equal(r.state, BODY_TOO_LARGE);
		assert_string_equal(s.text, "");
		assert_null(r.body);
		request_free(&r);
	}
}

static void test_signatures(void **state)
{
	struct request r;

	(void)state;
	request_init(&r);
	assert_int_equal(r.signature_count, 0);
	set(&r, "HTTP_X_SIGNATURE", "one");
	set(&r, "HTTP_X_SIGNATURES", "other");
	assert_int_equal(r.signature_count, 1);
	set(&r, "HTTP_X_SIGNATURE", "two");
	assert_int_equal(r.signature_count, 2);
	assert_string_equal(r.x_signature, "one");
}

static void test_health(void **state)
{
	static const struct {
		int line;
		const char *method, *path_info, *script_name, *document_uri,
			*request_uri;
		bool health;
	} paths[] = {
		{ __LINE__, "GET", "/health", "/humcli", "", "", true },
		{ __LINE__, "HEAD", "/health", "/humcli", "", "", true },
		{ __LINE__, "POST", "/health", "/humcli", "", "", false },
		{ __LINE__, "get", "/health", "/humcli", "", "", false },
		{ __LINE__, "GET", "/health/", "/humcli", "", "", false },
		{ __LINE__, "GET", "/x/health", "/humcli", "", "", false },
		/* Caddy without a split path. */
		{ __LINE__, "GET", "/x/health", "", "", "/x/health?y", true },
		{ __LINE__, "GET", "/x/health", "", "", "/x/healthy", false },
		{ __LINE__, "GET", "/x", "/health", "/health", "", false },
		{ __LINE__, "GET", "", "/humcli/health", "", "", true },
		{ __LINE__, "GET", "", "", "/humcli/health", "", true },
		{ __LINE__, "GET", "", "/humcli", "/humcli", "", false },
		{ __LINE__, "GET", "", "", "", "", false },
		{ __LINE__, "GET", "", "", "", "/humcli/health", true },
		{ __LINE__, "GET", "", "", "", "/health?x=/y", true },
		{ __LINE__, "GET", "", "", "", "/health?", true },
		{ __LINE__, "HEAD", "", "", "", "/humcli/health", true },
		{ __LINE__, "GET", "", "/a", "/a", "/a/health", true },
		{ __LINE__, "GET", "", "", "", "/humcli?/health", false },
		{ __LINE__, "GET", "", "", "", "/unhealth", false },
		{ __LINE__, "GET", "", "", "", "/health/", false },
		{ __LINE__, "GET", "/x", "", "", "/health", false },
		{ __LINE__, "GET", "/", "/health", "", "/health", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct request r;

		print_message("line %d\n", paths[i].line);
		request_init(&r);
		set(&r, "REQUEST_METHOD", paths[i].method);
		set(&r, "PATH_INFO", paths[i].path_info);
		set(&r, "SCRIPT_NAME", paths[i].script_name);
		set(&r, "DOCUMENT_URI", paths[i].document_uri);
		set(&r, "REQUEST_URI", paths[i].request_uri);
		assert_int_equal(request_is_health(&r), paths[i].health);
	}
}

#define LONG_NAME \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_secret_names(void **state)
{
	static const struct {
		int line;
		const char *path_info, *script_name, *document_uri,
			*request_uri, *script_filename;
		enum path_kind kind;
		const char *name;
	} paths[] = {
		/* By PATH_INFO. */
		{ __LINE__, "/main", "/humcli", "", "", "", PATH_SECRET,
		  "main" },
		{ __LINE__, "/" LONG_NAME, "", "", "", "", PATH_SECRET,
		  LONG_NAME },
		{ __LINE__, "/A_b-c.9", "", "", "", "", PATH_SECRET,
		  "A_b-c.9" },
		{ __LINE__, "/main", "/other/x", "/other/y", "/other/z", "",
		  PATH_SECRET, "main" },
		{ __LINE__, "/healthy", "", "", "", "", PATH_SECRET,
		  "healthy" },
		{ __LINE__, "/", "/humcli/main", "", "", "", PATH_MOUNT, "" },
		{ __LINE__, "/health", "", "", "", "", PATH_MOUNT, "" },
		/* What can't be a name. */
		{ __LINE__, "/" LONG_NAME "0", "", "", "", "", PATH_SECRET,
		  "" },
		{ __LINE__, "/.main", "", "", "", "", PATH_SECRET, "" },
		{ __LINE__, "/main/", "", "", "", "", PATH_SECRET, "" },
		{ __LINE__, "/main/x", "", "", "", "", PATH_SECRET, "" },
		{ __LINE__, "//main", "", "", "", "", PATH_SECRET, "" },
		{ __LINE__, "main", "", "", "", "", PATH_MOUNT, "" },
		{ __LINE__, "/ma in", "", "", "", "", PATH_SECRET, "" },
		{ __LINE__, "/m\xc3\xa4in", "", "", "", "", PATH_SECRET, "" },
		/* The URI goes on where SCRIPT_NAME ends. */
		{ __LINE__, "", "/hook", "/hook/main", "", "", PATH_SECRET,
		  "main" },
		{ __LINE__, "", "/hook", "", "/hook/main?x=/y", "", PATH_SECRET,
		  "main" },
		{ __LINE__, "", "/hook", "/hook", "/hook/main", "", PATH_SECRET,
		  "main" },
		{ __LINE__, "", "/hook", "/hooks/main", "", "", PATH_MOUNT,
		  "" },
		{ __LINE__, "", "/hook", "/hook", "/hook?main", "", PATH_MOUNT,
		  "" },
		{ __LINE__, "", "/hook", "/hook/", "/hook/", "", PATH_MOUNT,
		  "" },
		{ __LINE__, "", "/hook", "/hook/health", "", "", PATH_MOUNT,
		  "" },
		{ __LINE__, "", "/hook", "", "/hook/.x", "", PATH_SECRET, "" },
		/* All in SCRIPT_NAME (nginx, Caddy), or in the URI alone. */
		{ __LINE__, "", "/humcli-webhook/main", "", "", "", PATH_SECRET,
		  "main" },
		{ __LINE__, "", "", "/humcli/main", "", "", PATH_SECRET,
		  "main" },
		{ __LINE__, "", "", "/x/humcli-webhook/main", "", "",
		  PATH_PERHAPS_SECRET, "main" },
		{ __LINE__, "", "", "/xhumcli/main", "", "",
		  PATH_PERHAPS_SECRET, "main" },
		{ __LINE__, "", "", "", "/humcli-webhook/main?y", "",
		  PATH_SECRET, "main" },
		{ __LINE__, "", "/humcli-webhook", "/humcli-webhook",
		  "/humcli-webhook", "", PATH_MOUNT, "" },
		{ __LINE__, "", "/humcli-webhook/", "", "", "", PATH_MOUNT,
		  "" },
		{ __LINE__, "", "/humcli-webhook/health", "", "", "",
		  PATH_MOUNT, "" },
		{ __LINE__, "", "/humcli/main/x", "", "", "", PATH_SECRET, "" },
		{ __LINE__, "", "", "", "/humcli/ma%20in", "", PATH_SECRET,
		  "" },
		{ __LINE__, "/humcli/..", "", "", "/humcli/..", "", PATH_SECRET,
		  "" },
		/* Perhaps the mount itself has more segments. */
		{ __LINE__, "", "/hook/main", "/hook/main", "/hook/main", "",
		  PATH_PERHAPS_SECRET, "main" },
		{ __LINE__, "", "/a/b/main", "", "", "", PATH_PERHAPS_SECRET,
		  "main" },
		{ __LINE__, "", "/a/.main", "", "", "", PATH_MOUNT, "" },
		/* Caddy without a split path: all in PATH_INFO. */
		{ __LINE__, "/humcli/main", "", "", "/humcli/main", "",
		  PATH_SECRET, "main" },
		{ __LINE__, "/humcli/main", "", "", "/humcli/main?x", "",
		  PATH_SECRET, "main" },
		{ __LINE__, "/humcli", "", "", "/humcli", "", PATH_MOUNT, "" },
		{ __LINE__, "/a/b", "", "", "/a/b", "", PATH_PERHAPS_SECRET,
		  "b" },
		/* A program's own name. */
		{ __LINE__, "", "/humcli-webhook/humcli-webhook.fcgi", "", "",
		  "", PATH_MOUNT, "" },
		{ __LINE__, "", "/cgi-bin/hook.cgi", "", "", "", PATH_MOUNT,
		  "" },
		{ __LINE__, "", "/humcli-webhook/main", "", "", "/bin/sh",
		  PATH_MOUNT, "" },
		{ __LINE__, "", "/humcli-webhook/main", "", "", "/no/such/file",
		  PATH_SECRET, "main" },
		{ __LINE__, "", "", "", "", "", PATH_MOUNT, "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		char name[SECRET_NAME_SIZE];
		struct request r;

		print_message("line %d\n", paths[i].line);
		request_init(&r);
		set(&r, "PATH_INFO", paths[i].path_info);
		set(&r, "SCRIPT_NAME", paths[i].script_name);
		set(&r, "DOCUMENT_URI", paths[i].document_uri);
		set(&r, "REQUEST_URI", paths[i].request_uri);
		set(&r, "SCRIPT_FILENAME", paths[i].script_filename);
		assert_int_equal(request_secret_name(&r, name), paths[i].kind);
		assert_string_equal(name, paths[i].name);
	}
}

/* nginx and lighttpd pass a repeated header on as two variables. */
static void test_content_encodings(void **state)
{
	struct request r;

	(void)state;
	request_init(&r);
	assert_string_equal(r.content_encoding, "");
	set(&r, "HTTP_CONTENT_ENCODING", "gzip");
	set(&r, "HTTP_CONTENT_ENCODING", "identity");
	assert_string_equal(r.content_encoding, "gzip");
	request_init(&r);
	set(&r, "HTTP_CONTENT_ENCODING", "identity");
	set(&r, "HTTP_CONTENT_ENCODING", "gzip");
	assert_string_equal(r.content_encoding, "gzip");
}

static void test_request_ids(void **state)
{
	char text[REQUEST_ID_SIZE], longest[REQUEST_ID_SIZE + 100];
	struct request r;

	(void)state;
	request_init(&r);
	assert_null(request_id(&r, text));
	set(&r, "HTTP_X_REQUEST_ID", "");
	assert_null(request_id(&r, text));
	set(&r, "HTTP_X_REQUEST_ID", "of-the-sender");
	assert_string_equal(request_id(&r, text), "of-the-sender");
	/* The server's own comes first, in whatever order they are set. */
	set(&r, "UNIQUE_ID", "aSo-Kn8AAQEAAAcU@pUAAAAC");
	set(&r, "HTTP_X_REQUEST_ID", "of-the-sender");
	assert_string_equal(request_id(&r, text), "aSo-Kn8AAQEAAAcU@pUAAAAC");
	request_init(&r);
	set(&r, "REQUEST_ID", "0123456789abcdef");
	assert_string_equal(request_id(&r, text), "0123456789abcdef");

	request_init(&r);
	set(&r, "HTTP_X_REQUEST_ID", "a b\tc\nd\x1b\x7f\xc3\xa9\"");
	assert_string_equal(request_id(&r, text), "a?b?c?d????\"");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	set(&r, "HTTP_X_REQUEST_ID", longest);
	assert_int_equal(strlen(request_id(&r, text)), REQUEST_ID_SIZE - 1);
}

static void test_reply(void **state)
{
	struct reply r = { 0 };
	struct buf out = { 0 };

	(void)state;
	reply_error(&r, 405, "No");
	r.allow = true;
	reply_render(&r, &out);
	assert_string_equal(out.data, "Status: 405 Method Not Allowed\r\n"
				      "Content-Type: application/json\r\n"
				      "Cache-Control: no-store\r\n"
				      "Allow: POST\r\n\r\n{\"error\":\"No\"}");
	buf_free(&out);
	r = (struct reply){ .head = true, .retry = true };
	reply_json(&r, 503, "{\"status\":\"unavailable\"}");
	reply_render(&r, &out);
	assert_string_equal(out.data, "Status: 503 Service Unavailable\r\n"
				      "Content-Type: application/json\r\n"
				      "Cache-Control: no-store\r\n"
				      "Retry-After: 30\r\n\r\n");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_too_large_is_dropped),
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_secret_names),
		cmocka_unit_test(test_content_encodings),
		cmocka_unit_test(test_request_ids),
		cmocka_unit_test(test_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
