/*
 * Owns plain CGI (RFC 3875): one request from the environment and stdin, one
 * reply to stdout, and the breaker's memory between processes. It must not
 * know FastCGI.
 *
 * The main thread reads, waits and replies. The writer's thread calls
 * on_reply(), which only wakes the main thread.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/threads.h"
#include "responder/gateway.h"
#include "store/breaker_file.h"

extern char **environ;

/* Limits of the input that is discarded after the reply. */
enum { DISCARD_MS = 1000, DISCARD_BYTES = 8 * 1024 * 1024 };

/* How long the reply waits for room in a stdout that does not block. */
enum { WRITE_MS = 5000 };

bool gateway_cgi_is_started(void)
{
	return getenv("GATEWAY_INTERFACE") && getenv("REQUEST_METHOD");
}

/* Waits for stdin or stdout. Returns false at the deadline. */
static bool wait_ready(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left = deadline - monotonic_ms();

	while (left > 0) {
		int n = poll(&p, 1, (int)left);

		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
		left = deadline - monotonic_ms();
	}
	return false;
}

static long read_stdin(void *context, char *data, size_t size)
{
	const struct request *r = context;
	ssize_t n;

	do {
		if (!wait_ready(STDIN_FILENO, POLLIN,
				r->accepted_at + BODY_LIMIT_MS))
			return -2;
		n = read(STDIN_FILENO, data, size);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	return n;
}

static void fill_request(struct request *r)
{
	for (char **e = environ; *e; e++) {
		const char *equals = strchr(*e, '=');

		if (equals)
			request_set(r, *e, (size_t)(equals - *e), equals + 1);
	}
}

/*
 * Reads the rest of the input, because under Apache's mod_cgid stdin and stdout
 * are one socket. Unread input would reset it when it is closed, and the reply
 * would be lost.
 */
static void discard_input(void)
{
	char discarded[16384];
	size_t total = 0;
	int64_t deadline = monotonic_ms() + DISCARD_MS;

	while (total < DISCARD_BYTES &&
	       wait_ready(STDIN_FILENO, POLLIN, deadline)) {
		ssize_t n = read(STDIN_FILENO, discarded, sizeof(discarded));

		if (n == 0 || (n < 0 && errno != EINTR))
			return;
		total += n > 0 ? (size_t)n : 0;
	}
}

/* Writes to a stdout that may not block. Returns false with errno set. */
static bool write_stdout(const char *data, size_t length)
{
	int64_t deadline = monotonic_ms() + WRITE_MS;

	while (length) {
		ssize_t n = write(STDOUT_FILENO, data, length);

		if (n >= 0) {
			data += n;
			length -= (size_t)n;
		} else if (errno == EAGAIN) {
			if (!wait_ready(STDOUT_FILENO, POLLOUT, deadline))
				return false;
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* The reply of a process that lacks memory or descriptors. */
static const char fatal_reply[] =
	"Status: 503 Service Unavailable\r\n"
	"Content-Type: application/json\r\n"
	"Cache-Control: no-store\r\n"
	"Retry-After: 30\r\n\r\n"
	"{\"error\":\"Event can not be recorded now; send it again\"}";

void gateway_cgi_start(void)
{
	fatal_set_reply(fatal_reply);
}

static void write_reply(const struct reply *reply)
{
	struct buf out = { 0 };

	reply_render(reply, &out);
	fatal_set_reply(NULL);
	if (!write_stdout(out.data, out.length))
		log_message(LEVEL_WARNING, "can't send the reply (HTTP %d): %m",
			    reply->status);
	buf_free(&out);
}

/* The one exchange of this process. */
struct cgi_exchange {
	struct exchange exchange; /* first, so that one is found by the other */
	int replied; /* wake-up (eventfd) */
};

static void on_reply(struct exchange *x)
{
	wakeup_signal(((struct cgi_exchange *)x)->replied);
}

/* Returns true if the reply is there; false at `until`, or sooner. */
static bool wait_for_reply(const struct cgi_exchange *v, int64_t until)
{
	int overdue = queue_overdue_fd(v->exchange.handler->queue);
	struct pollfd p[2] = { { .fd = v->replied, .events = POLLIN },
			       { .fd = overdue, .events = POLLIN } };
	int64_t left = max_i64(until - monotonic_ms(), 0);

	if (poll(p, ARRAY_SIZE(p), (int)min_i64(left, INT_MAX)) < 0)
		return false;
	/* The read orders memory, so that the reply is seen whole. */
	if (p[0].revents)
		wakeup_clear(v->replied);
	if (p[1].revents)
		wakeup_clear(overdue);
	return p[0].revents;
}

static void get_reply(struct cgi_exchange *v)
{
	struct exchange *x = &v->exchange;
	int64_t next;

	if (handler_handle(x))
		return;
	do {
		if (queue_overdue(x->handler->queue, &next)) {
			handler_spool_overdue(x);
			return;
		}
	} while (!wait_for_reply(v, next));
}

static void save_round_trip(void *context, enum round_trip result)
{
	const struct handler *h = context;

	breaker_file_save(h->settings->spool, result);
}

void gateway_cgi_remember(const struct handler *h)
{
	enum round_trip result;
	int64_t age;

	if (breaker_file_load(h->settings->spool, &age, &result))
		queue_restore_round_trip(h->queue, result, age);
	queue_on_round_trip(h->queue, save_round_trip, (void *)h);
}

void gateway_cgi_serve(const struct handler *h)
{
	struct cgi_exchange v = { .replied = wakeup_new() };
	struct request *r = &v.exchange.request;

	exchange_init(&v.exchange, h, on_reply);
	fill_request(r);
	if (strcmp(r->method, "POST") == 0 && h->settings)
		request_read_body(r, h->settings->max_body, read_stdin, r);
	get_reply(&v);
	write_reply(&v.exchange.reply);
	/* Ends the reply. If 0 and 1 are one socket, 0 can still be read. */
	if (shutdown(STDOUT_FILENO, SHUT_WR) < 0 && errno != ENOTSOCK)
		log_message(LEVEL_DEBUG, "stdout: %m");
	close(STDOUT_FILENO);
	discard_input();
	close(STDIN_FILENO);
	exchange_free(&v.exchange);
	close(v.replied);
}
