/*
 * Owns one connection from accept to reply, and libfcgi (fcgiapp.h), which no
 * other file includes. Must not know how connections are found.
 *
 * A worker reads the request and hands it to the handler. The reply is sent by
 * that worker, by another one for an overdue request, or by the writer's
 * thread, which it must not hold up. Meanwhile the main thread checks the
 * connections that are being read, and ends reads that are late.
 *
 * libfcgi only reads. The worker frees its 35 blocks of memory (30 KiB) as soon
 * as the request is read, because a later free() in another thread takes
 * several times as long, and many requests wait for the database together.
 */
#include "responder/fcgi_connection.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"

enum {
	READ_SECONDS = 5, /* of one read; beyond BODY_LIMIT_MS of them all */
	WRITE_SECONDS = 2,
	CLOSE_IDLE_MS = 200, /* a peer that sends nothing more: close */
	CLOSE_MS = 1000, /* a peer that sends on: close */
	STOP_READ_MS = 2000, /* after the signal, for bodies */
	ARRIVAL_MS = 1, /* the leader waits for a request that was announced */
	LATE_BODY_MS = 1000, /* at least, for what was accepted just before */
	PEEK_BYTES = 8192 /* libfcgi reads as many at once */
};

struct fcgi_connections {
	const struct handler *handler;
	const struct fcgi_connection_calls *calls;
	void *context;

	pthread_mutex_t lock; /* over the list and the read deadlines */
	LIST_HEAD(, connection) reading;

	bool are_prompt; /* the last request arrived at once; the leader's */
};

/* A connection and its request, from accept() until it is answered. */
struct connection {
	struct exchange exchange; /* first, so that one is found by the other */
	struct fcgi_connections *all;
	FCGX_Request fcgi; /* until the request is read */
	int id; /* of the request, in the peer's records */
	int fd; /* -1: libfcgi has closed it, because the request is invalid */
	bool arrived; /* as a whole, before it was read; fd does not block */
	bool sends_more; /* the peer, than was read */
	char *variables; /* which the exchange's request points to */
	void *item; /* for before_blocking(); NULL after that */

	/* While the request is being read; with all->lock held. */
	LIST_ENTRY(connection) reading;
	int watched_fd; /* the same socket; open as long as this is watched */
	int64_t read_deadline; /* ms, monotonic */
	bool timed_out; /* the main thread ended the reading */
};

/* Connections whose request is being read. */

/*
 * Lets the main thread end the reading at its deadline, by a descriptor of its
 * own, because another connection may have the number of one that libfcgi has
 * closed. Returns false if there is no descriptor left.
 */
static bool watch_reading(struct connection *c)
{
	c->watched_fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
	if (c->watched_fd < 0)
		return false;
	mutex_lock(&c->all->lock);
	c->read_deadline = c->exchange.request.accepted_at + BODY_LIMIT_MS;
	LIST_INSERT_HEAD(&c->all->reading, c, reading);
	mutex_unlock(&c->all->lock);
	return true;
}

static void unwatch_reading(struct connection *c)
{
	mutex_lock(&c->all->lock);
	LIST_REMOVE(c, reading);
	mutex_unlock(&c->all->lock);
	close(c->watched_fd);
}

static bool reading_timed_out(struct connection *c)
{
	bool timed_out;

	mutex_lock(&c->all->lock);
	timed_out = c->timed_out;
	mutex_unlock(&c->all->lock);
	return timed_out;
}

/*
 * Ends a read that is late. SO_RCVTIMEO alone would not, because each byte
 * restarts it, and libfcgi reads on by itself. Call with all->lock held.
 */
static void check_read_deadline(struct connection *c, int64_t now)
{
	if (c->timed_out || now < c->read_deadline)
		return;
	c->timed_out = true;
	if (shutdown(c->watched_fd, SHUT_RD) < 0)
		log_message(LEVEL_DEBUG, "shutdown: %m");
}

void fcgi_connections_end_late_reads(struct fcgi_connections *all,
				     int64_t stopping_since)
{
	int64_t now = monotonic_ms();
	struct connection *c;

	mutex_lock(&all->lock);
	LIST_FOREACH(c, &all->reading, reading)
	{
		int64_t latest =
			max_i64(stopping_since + STOP_READ_MS,
				c->exchange.request.accepted_at + LATE_BODY_MS);

		if (stopping_since)
			c->read_deadline = min_i64(c->read_deadline, latest);
		check_read_deadline(c, now);
	}
	mutex_unlock(&all->lock);
}

/* One request. */

/*
 * Returns true if the record is part of a plain request: FCGI_BEGIN_REQUEST
 * first, and after it only FCGI_PARAMS and FCGI_STDIN. libfcgi answers other
 * records at once, and a peer that does not read would block it.
 */
static bool is_plain(const unsigned char *record, bool first)
{
	bool management = !record[2] && !record[3]; /* the request's id */

	if (management)
		return false;
	if (first)
		return record[1] == FCGI_BEGIN_REQUEST;
	return record[1] == FCGI_PARAMS || record[1] == FCGI_STDIN;
}

/*
 * Returns true if the whole request has arrived and fits into PEEK_BYTES: a
 * stream of plain records that ends in an empty FCGI_STDIN. Such a request can
 * be read without waiting for the peer.
 */
static bool has_arrived(int fd)
{
	unsigned char data[PEEK_BYTES];
	ssize_t n = recv(fd, data, sizeof(data), MSG_PEEK);
	size_t length, at = 0, end = n > 0 ? (size_t)n : 0;

	while (at + FCGI_HEADER_LEN <= end && is_plain(data + at, at == 0)) {
		length = (size_t)data[at + 4] << 8 | data[at + 5];
		if (data[at + 1] == FCGI_STDIN && length == 0)
			return true;
		at += FCGI_HEADER_LEN + length + data[at + 6];
	}
	return false;
}

/*
 * Returns true if the whole request has arrived or does so within ARRIVAL_MS.
 * Web servers connect and write at once, but the leader may be faster. To wait
 * costs less than to hand the lead on. The leader waits again once a request
 * has arrived, so that silent peers do not hold it up.
 */
static bool arrives_soon(struct connection *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	bool arrived = has_arrived(c->fd);

	if (!arrived && c->all->are_prompt && poll(&p, 1, ARRIVAL_MS) > 0)
		arrived = has_arrived(c->fd);
	c->all->are_prompt = arrived;
	return arrived;
}

static void before_blocking(struct exchange *x)
{
	struct connection *c = (struct connection *)x;
	void *item = c->item;

	c->item = NULL;
	if (item)
		c->all->calls->before_blocking(c->all->context, item);
}

static long read_some(void *context, char *data, size_t size)
{
	struct connection *c = context;
	int n = FCGX_GetStr(data, (int)size, c->fcgi.in);

	if (n > 0)
		return n;
	if (!c->arrived && reading_timed_out(c))
		return -2;
	if (FCGX_GetError(c->fcgi.in) == EAGAIN)
		return -2; /* SO_RCVTIMEO */
	return FCGX_GetError(c->fcgi.in) ? -1 : 0;
}

/* Copies the variables, because libfcgi's are freed before the reply. */
static void fill_request(struct connection *c)
{
	size_t size = 0;
	char *p;

	for (char **e = c->fcgi.envp; *e; e++)
		size += strlen(*e) + 1;
	p = c->variables = xmalloc(size);
	for (char **e = c->fcgi.envp; *e; e++, p += size) {
		char *equals;

		size = strlen(*e) + 1;
		memcpy(p, *e, size);
		equals = strchr(p, '=');
		if (equals)
			request_set(&c->exchange.request, p,
				    (size_t)(equals - p), equals + 1);
	}
}

/* Appends a record of FastCGI. */
static void put_record(struct buf *out, unsigned char type, int id,
		       const void *content, size_t length)
{
	const FCGI_Header header = {
		.version = FCGI_VERSION_1,
		.type = type,
		.requestIdB1 = (unsigned char)(id >> 8),
		.requestIdB0 = (unsigned char)id,
		.contentLengthB1 = (unsigned char)(length >> 8),
		.contentLengthB0 = (unsigned char)length,
	};

	buf_add(out, &header, sizeof(header));
	buf_add(out, content, length);
}

/*
 * Sends the reply. The socket's buffer has room for all of it, unless the peer
 * does not read. Then the reply is lost, because the writer's thread must not
 * be held up.
 */
static void send_reply(const struct reply *reply, int fd, int id)
{
	static const FCGI_EndRequestBody end = {
		.protocolStatus = FCGI_REQUEST_COMPLETE
	};
	struct buf text = { 0 }, out = { 0 };

	reply_render(reply, &text);
	put_record(&out, FCGI_STDOUT, id, text.data, text.length);
	put_record(&out, FCGI_STDOUT, id, "", 0);
	put_record(&out, FCGI_END_REQUEST, id, &end, sizeof(end));
	if (send(fd, out.data, out.length, MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    (ssize_t)out.length)
		log_message(LEVEL_WARNING, "can't send the reply (HTTP %d)",
			    reply->status);
	buf_free(&text);
	buf_free(&out);
}

/* Makes reads and writes wait for the peer, but not for long. */
static bool make_blocking(int fd)
{
	static const struct timeval in = { .tv_sec = READ_SECONDS };
	static const struct timeval out = { .tv_sec = WRITE_SECONDS };

	return fcntl(fd, F_SETFL, 0) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &in, sizeof(in)) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &out, sizeof(out)) == 0;
}

/*
 * Waits for the peer to close first, because unread input would reset the
 * connection, and the reply would be lost.
 */
static void wait_for_peer_close(int fd)
{
	char discarded[8192];
	int64_t until = monotonic_ms() + CLOSE_MS;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (shutdown(fd, SHUT_WR) < 0)
		return;
	while (monotonic_ms() < until && poll(&p, 1, CLOSE_IDLE_MS) > 0 &&
	       read(fd, discarded, sizeof(discarded)) > 0)
		;
}

/*
 * Closes the connection also where the peer would keep it, because libfcgi
 * would hold a thread for it, and unread body bytes would become the next
 * request.
 */
static void connection_end(struct connection *c)
{
	struct fcgi_connections *all = c->all;

	if (c->sends_more)
		wait_for_peer_close(c->fd);
	if (c->fd >= 0)
		close(c->fd);
	exchange_free(&c->exchange);
	free(c->variables);
	free(c);
	/* The last call, because all may be freed after it. */
	all->calls->on_end(all->context);
}

static void connection_reply(struct exchange *x)
{
	struct connection *c = (struct connection *)x;

	send_reply(&x->reply, c->fd, c->id);
	connection_end(c);
}

static bool connection_start(struct connection *c)
{
	c->arrived = arrives_soon(c);
	if (!c->arrived) {
		before_blocking(&c->exchange);
		if (!make_blocking(c->fd))
			return false;
	}
	/* -1 for the listening socket: libfcgi must not accept by itself. */
	if (FCGX_InitRequest(&c->fcgi, -1, 0) != 0)
		return false;
	/* Otherwise FCGX_Accept_r() would close it before it starts. */
	c->fcgi.ipcFd = c->fd;
	c->fcgi.keepConnection = 1;
	return c->arrived || watch_reading(c);
}

/* Reads the request, and frees what libfcgi has of it. */
static void read_request(struct connection *c)
{
	const struct settings *s = c->all->handler->settings;
	struct request *r = &c->exchange.request;

	fill_request(c);
	if (strcmp(r->method, "POST") == 0)
		request_read_body(r, s->max_body, read_some, c);
	c->id = c->fcgi.requestId;
	c->sends_more = !FCGX_HasSeenEOF(c->fcgi.in) ||
			FCGX_GetError(c->fcgi.in);
	if (c->sends_more)
		before_blocking(&c->exchange);
	FCGX_Free(&c->fcgi, 0);
}

void fcgi_connections_serve(struct fcgi_connections *all, int fd, void *item)
{
	struct connection *c = xcalloc(1, sizeof(*c));
	bool there;

	c->all = all;
	c->fd = fd;
	c->item = item;
	exchange_init(&c->exchange, all->handler, connection_reply);
	c->exchange.before_blocking = before_blocking;
	if (!connection_start(c)) {
		/* c->fcgi has nothing to end yet. */
		connection_end(c);
		return;
	}
	there = FCGX_Accept_r(&c->fcgi) == 0;
	if (there)
		read_request(c);
	if (!c->arrived)
		unwatch_reading(c);
	if (!there) {
		before_blocking(&c->exchange);
		c->fd = -1;
		connection_end(c);
	} else if (handler_handle(&c->exchange)) {
		connection_reply(&c->exchange);
	}
}

void fcgi_connection_spool_overdue(struct exchange *x)
{
	handler_spool_overdue(x);
	connection_reply(x);
}

struct fcgi_connections *
fcgi_connections_new(const struct handler *h,
		     const struct fcgi_connection_calls *calls, void *context)
{
	struct fcgi_connections *all = xmalloc(sizeof(*all));

	*all = (struct fcgi_connections){ .handler = h,
					  .calls = calls,
					  .context = context };
	mutex_init(&all->lock);
	LIST_INIT(&all->reading);
	return all;
}

void fcgi_connections_free(struct fcgi_connections *all)
{
	mutex_destroy(&all->lock);
	free(all);
}

bool fcgi_library_start(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	/* How long it waits until an invalid peer closes; by default 2 s. */
	if (setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", "200", 0) < 0 ||
	    FCGX_Init() != 0) {
		log_message(LEVEL_ERROR, "can't initialise libfcgi");
		return false;
	}
	/* FCGX_Init() has installed a handler of its own. */
	return sigaction(SIGPIPE, &ignore, NULL) == 0;
}
