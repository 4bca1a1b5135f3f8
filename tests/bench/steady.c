/*
 * steady: sends signed webhooks at a steady rate and prints the time of each.
 *
 * This is an open loop. Request i is due at i / rate, whether the earlier ones
 * were answered or not, and its time counts from then. A stall therefore shows in
 * all requests that it delayed, not only in the first (coordinated omission).
 *
 * Each thread takes the next request, waits until it is due, sends it on the
 * thread's kept connection and reads the answer. With "fresh", and with a server
 * that closes its connections, each request opens a connection, which is part of
 * its time.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/parse.h"

enum {
	LIMIT_SECONDS = 30, /* for an answer */
	SIGNATURE = 64,
	LENGTH = 4, /* digits of a body's length */
	ANSWER_BYTES = 8192,
	STACK_BYTES = 256 * 1024
};

struct request {
	const char *signature;
	const char *body;
	size_t length;
	int64_t micros; /* from when it was due to the end of the answer */
	int status; /* 0: the connection broke */
};

struct run {
	const char *path;
	uint16_t port;
	bool fresh;
	double rate;
	struct request *requests;
	size_t count;
	atomic_size_t next;
	int64_t start; /* ns */
	pthread_barrier_t ready;
	SSL_CTX *tls; /* NULL: without TLS */
};

struct connection {
	int fd; /* -1: not connected */
	SSL *ssl; /* NULL: without TLS */
	bool closes; /* the server closes it after each answer */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t clock_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
		die("clock_gettime");
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_until(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000,
			      .tv_nsec = ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) ==
	       EINTR)
		;
}

static void drop(struct connection *c)
{
	SSL_free(c->ssl);
	if (c->fd >= 0)
		close(c->fd);
	c->ssl = NULL;
	c->fd = -1;
}

static bool open_socket(struct connection *c, uint16_t port)
{
	static const struct timeval limit = { .tv_sec = LIMIT_SECONDS };
	static const int yes = 1;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return c->fd >= 0 &&
	       setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit,
			  sizeof(limit)) == 0 &&
	       setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
			  sizeof(limit)) == 0 &&
	       setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) ==
		       0 &&
	       connect(c->fd, (struct sockaddr *)&to, sizeof(to)) == 0;
}

static bool ensure_connected(const struct run *run, struct connection *c)
{
	if (c->fd >= 0)
		return true;
	if (!open_socket(c, run->port)) {
		drop(c);
		return false;
	}
	if (!run->tls)
		return true;
	c->ssl = SSL_new(run->tls);
	if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 ||
	    SSL_set_tlsext_host_name(c->ssl, "localhost") != 1 ||
	    SSL_connect(c->ssl) != 1) {
		drop(c);
		return false;
	}
	return true;
}

static bool send_all(struct connection *c, const struct buf *out)
{
	if (c->ssl)
		return SSL_write(c->ssl, out->data, (int)out->length) > 0;
	return write_all(c->fd, out->data, out->length);
}

static long read_some(struct connection *c, char *data, size_t size)
{
	if (c->ssl)
		return SSL_read(c->ssl, data, (int)size);
	return recv(c->fd, data, size, 0);
}

static bool send_request(const struct run *run, struct connection *c,
			 const struct request *r)
{
	struct buf out = { 0 };
	bool sent;

	buf_printf(&out,
		   "POST %s HTTP/1.1\r\nHost: localhost\r\n"
		   "Content-Type: application/json\r\n"
		   "Content-Length: %zu\r\nX-Signature: %.*s\r\n\r\n",
		   run->path, r->length, SIGNATURE, r->signature);
	buf_add(&out, r->body, r->length);
	sent = send_all(c, &out);
	buf_free(&out);
	return sent;
}

/* Returns the value of a header in an answer's head; NULL if it is missing. */
static const char *header(const char *head, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line;
	     line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, length) == 0 && line[length] == ':')
			return line + length + 1 +
			       strspn(line + length + 1, " ");
	}
	return NULL;
}

/* Returns true if the whole answer has arrived. */
static bool complete(const char *answer, const char *end_of_head)
{
	const char *length = header(answer, "Content-Length");
	const char *body = end_of_head + 4;

	if (length)
		return strlen(body) >= strtoul(length, NULL, 10);
	/* Chunked: these servers send no trailers. */
	return strstr(body, "0\r\n\r\n") != NULL;
}

/* Reads an answer. Returns its status; 0 if the connection broke. */
static int read_answer(struct connection *c)
{
	char answer[ANSWER_BYTES + 1];
	size_t length = 0;

	while (length < ANSWER_BYTES) {
		long n = read_some(c, answer + length, ANSWER_BYTES - length);
		const char *end, *connection;

		if (n <= 0)
			return 0;
		length += (size_t)n;
		answer[length] = '\0';
		end = strstr(answer, "\r\n\r\n");
		if (!end || !complete(answer, end))
			continue;
		connection = header(answer, "Connection");
		c->closes = connection &&
			    strncasecmp(connection, "close", 5) == 0;
		return (int)strtol(answer + strlen("HTTP/1.1 "), NULL, 10);
	}
	return 0;
}

static void exchange(const struct run *run, struct connection *c,
		     struct request *r, int64_t due)
{
	if (ensure_connected(run, c) && send_request(run, c, r))
		r->status = read_answer(c);
	r->micros = (clock_ns() - due) / 1000;
	if (r->status == 0 || c->closes || run->fresh)
		drop(c);
}

static void *work(void *context)
{
	struct run *run = context;
	struct connection c = { .fd = -1 };
	size_t i;

	/* By default a sleep may last 50 us longer. */
	if (prctl(PR_SET_TIMERSLACK, 1UL) < 0)
		die("prctl");
	if (!run->fresh && !ensure_connected(run, &c))
		drop(&c); /* the first request tries again */
	pthread_barrier_wait(&run->ready);
	pthread_barrier_wait(&run->ready); /* the start is known now */
	while ((i = atomic_fetch_add(&run->next, 1)) < run->count) {
		int64_t due =
			run->start + (int64_t)((double)i * 1e9 / run->rate);

		/*
		 * Connect in advance if the last connection broke. A server
		 * that closes each one may serve one at a time, and would wait
		 * for our request.
		 */
		if (!run->fresh && !c.closes && !ensure_connected(run, &c))
			drop(&c);
		sleep_until(due);
		exchange(run, &c, &run->requests[i], due);
	}
	drop(&c);
	return NULL;
}

/* Reads records as load.py writes them: length, signature, body. */
static void read_requests(struct run *run, const char *file, size_t count)
{
	struct buf all = { 0 };
	FILE *f = fopen(file, "rb");
	const char *at;

	if (!f || !read_all(fileno(f), SIZE_MAX / 2, &all))
		die(file);
	fclose(f);
	run->requests = xcalloc(count, sizeof(*run->requests));
	at = all.data;
	while (run->count < count) {
		struct request *r = &run->requests[run->count++];
		char digits[LENGTH + 1] = "";

		if (at + LENGTH + SIGNATURE > all.data + all.length) {
			fprintf(stderr, "%s: only %zu requests\n", file,
				run->count - 1);
			exit(1);
		}
		memcpy(digits, at, LENGTH);
		r->length = strtoul(digits, NULL, 10);
		r->signature = at + LENGTH;
		r->body = r->signature + SIGNATURE;
		at = r->body + r->length;
	}
}

static void start_threads(struct run *run, pthread_t *threads, unsigned count)
{
	pthread_attr_t a;

	if (pthread_barrier_init(&run->ready, NULL, count + 1) != 0 ||
	    pthread_attr_init(&a) != 0 ||
	    pthread_attr_setstacksize(&a, STACK_BYTES) != 0)
		die("pthread");
	for (unsigned i = 0; i < count; i++) {
		if (pthread_create(&threads[i], &a, work, run) != 0)
			die("pthread_create");
	}
	pthread_barrier_wait(&run->ready);
	run->start = clock_ns() + 10000000;
	pthread_barrier_wait(&run->ready);
}

static uint64_t number(const char *text, uint64_t max)
{
	uint64_t value;

	if (!parse_u64(text, 1, max, &value)) {
		fprintf(stderr, "not a number up to %llu: %s\n",
			(unsigned long long)max, text);
		exit(64);
	}
	return value;
}

int main(int argc, char **argv)
{
	struct run run = { 0 };
	pthread_t threads[1024];
	unsigned count;

	if (argc != 9) {
		fputs("usage: steady PORT PATH FILE COUNT RATE CONNECTIONS "
		      "kept|fresh plain|tls\n",
		      stderr);
		return 64;
	}
	signal(SIGPIPE, SIG_IGN);
	run.port = (uint16_t)number(argv[1], UINT16_MAX);
	run.path = argv[2];
	read_requests(&run, argv[3], number(argv[4], 10000000));
	run.rate = (double)number(argv[5], 1000000);
	count = (unsigned)number(argv[6], 1024);
	run.fresh = strcmp(argv[7], "fresh") == 0;
	if (strcmp(argv[8], "tls") == 0) {
		/* The benchmark made the certificate. */
		run.tls = SSL_CTX_new(TLS_client_method());
		if (!run.tls)
			die("TLS");
	}
	start_threads(&run, threads, count);
	for (unsigned i = 0; i < count; i++) {
		if (pthread_join(threads[i], NULL) != 0)
			die("pthread_join");
	}
	for (size_t i = 0; i < run.count; i++)
		printf("%d %lld\n", run.requests[i].status,
		       (long long)run.requests[i].micros);
	return fflush(stdout) == 0 ? 0 : 1;
}
