/*
 * Asks the receiver at its Unix socket for /health, in the FastCGI protocol,
 * as the web server would. Knows no more of that protocol than one request.
 */
#include "cli/doctor/doctor.h"

#include "base/buf.h"
#include "base/macros.h"
#include "cli/program.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_PATH "/run/humcli-webhook/sock"

/* Types of FastCGI records, of its specification. */
enum { BEGIN_REQUEST = 1, PARAMS = 4, STDIN = 5 };

enum { WAIT_MS = 5000, ANSWER_MAX = 4096 };

static void add_record(struct buf *b, unsigned char type, const void *content,
		       size_t length)
{
	const unsigned char head[8] = { 1, type, 0, 1, 0, (unsigned char)length,
					0, 0 };

	buf_add(b, head, sizeof(head));
	buf_add(b, content, length);
}

/* Adds a name and a value, each shorter than 128 bytes. */
static void add_pair(struct buf *b, const char *name, const char *value)
{
	const unsigned char lengths[2] = { (unsigned char)strlen(name),
					   (unsigned char)strlen(value) };

	buf_add(b, lengths, sizeof(lengths));
	buf_add(b, name, lengths[0]);
	buf_add(b, value, lengths[1]);
}

/* Writes a GET of /health. Returns false with errno set. */
static bool send_request(int fd)
{
	static const unsigned char responder[8] = { 0, 1 };
	struct buf request = { 0 }, pairs = { 0 };
	bool sent;

	add_pair(&pairs, "REQUEST_METHOD", "GET");
	add_pair(&pairs, "PATH_INFO", "/health");
	add_record(&request, BEGIN_REQUEST, responder, sizeof(responder));
	add_record(&request, PARAMS, pairs.data, pairs.length);
	add_record(&request, PARAMS, "", 0);
	add_record(&request, STDIN, "", 0);
	sent = send(fd, request.data, request.length, MSG_NOSIGNAL) ==
	       (ssize_t)request.length;
	buf_free(&pairs);
	buf_free(&request);
	return sent;
}

/* Reads until the connection ends, WAIT_MS at most a read. */
static bool read_answer(int fd, struct buf *answer)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char part[512];
	ssize_t n = 1;

	while (n > 0 && answer->length < ANSWER_MAX) {
		if (poll(&p, 1, WAIT_MS) <= 0) {
			errno = ETIMEDOUT;
			return false;
		}
		n = read(fd, part, sizeof(part));
		if (n > 0)
			buf_add(answer, part, (size_t)n);
	}
	return n >= 0;
}

static void report_answer(struct findings *f, const struct buf *answer)
{
	static const char *const states[] = { "ok", "degraded", "unavailable" };
	char word[32];

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		snprintf(word, sizeof(word), "{\"status\":\"%s\"}", states[i]);
		if (answer->length &&
		    memmem(answer->data, answer->length, word, strlen(word))) {
			report_finding(f,
				       i == 0	? FINDING_OK
				       : i == 1 ? FINDING_WARNING
						: FINDING_FAILURE,
				       "socket",
				       "the checks of the database and of the "
				       "spool have the reason",
				       "the receiver answers: %s", states[i]);
			return;
		}
	}
	report_finding(f, FINDING_FAILURE, "socket",
		       cli_has_systemd() ? "journalctl -u humcli-webhook; "
					   "systemctl restart "
					   "humcli-webhook.service"
					 : "/etc/init.d/humcli-webhook restart",
		       "%s answers, but not as the receiver does", SOCKET_PATH);
}

static bool ask(int fd, const struct sockaddr_un *address, struct buf *answer)
{
	return fd >= 0 &&
	       connect(fd, (const struct sockaddr *)address,
		       sizeof(*address)) == 0 &&
	       send_request(fd) && read_answer(fd, answer);
}

void doctor_socket(struct findings *f)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX,
				       .sun_path = SOCKET_PATH };
	struct buf answer = { 0 };
	int fd;

	if (access(SOCKET_PATH, F_OK) < 0 && errno == ENOENT) {
		report_finding(f, FINDING_SKIPPED, "socket",
			       cli_has_systemd()
				       ? "nothing to do for CGI; for FastCGI "
					 "by systemd: systemctl enable --now "
					 "humcli-webhook.socket"
				       : "nothing to do for CGI; for FastCGI: "
					 "/etc/init.d/humcli-webhook start",
			       "%s does not exist", SOCKET_PATH);
		return;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (ask(fd, &address, &answer))
		report_answer(f, &answer);
	else if (errno == EACCES)
		report_finding(f, FINDING_SKIPPED, "socket",
			       "run the doctor as root",
			       "%s is for root and the web server",
			       SOCKET_PATH);
	else
		report_finding(f, FINDING_FAILURE, "socket",
			       cli_has_systemd()
				       ? "systemctl status "
					 "humcli-webhook.socket "
					 "humcli-webhook.service"
				       : "/etc/init.d/humcli-webhook start; "
					 "its log is "
					 "/var/log/humcli-webhook.log",
			       "%s: %s", SOCKET_PATH, strerror(errno));
	if (fd >= 0)
		close(fd);
	buf_free(&answer);
}
