/*
 * Owns how a listening socket is made, and when its path may be replaced. Must
 * not know who accepts on it.
 */
#include "responder/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"

enum { BACKLOG = 1024 }; /* as systemd/humcli-webhook.socket has it */

/* Returns true for a path; false for an address with a port. */
static bool is_path(const char *where)
{
	return strchr(where, '/') || !strchr(where, ':');
}

/* Returns true if a process listens on this socket. */
static bool is_in_use(const struct sockaddr_un *a)
{
	/* Does not wait if the backlog is full: then somebody listens, too. */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes;

	if (fd < 0)
		return true;
	yes = connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 ||
	      errno != ECONNREFUSED;
	close(fd);
	return yes;
}

/*
 * Removes the socket of a dead process. Returns false, with errno set, if
 * something else has this path.
 */
static bool clear_path(const struct sockaddr_un *a)
{
	struct stat st;

	if (lstat(a->sun_path, &st) < 0)
		return errno == ENOENT;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return false;
	}
	if (is_in_use(a)) {
		errno = EADDRINUSE;
		return false;
	}
	return unlink(a->sun_path) == 0;
}

static int bind_and_listen(int fd, const struct sockaddr *a, socklen_t length)
{
	if (fd < 0)
		return -1;
	if (bind(fd, a, length) < 0 || listen(fd, BACKLOG) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* Returns true if the path still leads to the socket that we bound. */
static bool has_our_socket(const struct listener *l)
{
	struct stat st;

	return lstat(l->path, &st) == 0 && st.st_dev == l->device &&
	       st.st_ino == l->inode;
}

/* Binds to a path and listens. Returns false with errno set. */
static bool bind_path(struct listener *l, const struct sockaddr_un *a)
{
	struct stat st;

	if (bind(l->fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ||
	    lstat(l->path, &st) < 0)
		return false;
	l->device = st.st_dev;
	l->inode = st.st_ino;
	if (listen(l->fd, BACKLOG) < 0)
		return false;
	/* Before listen() it looked like the socket of a dead process. */
	errno = EADDRINUSE;
	return has_our_socket(l);
}

static int listen_path(const char *path, struct listener *l)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	mode_t before;
	int saved;
	bool ok;

	if (!*path || strlen(path) >= sizeof(a.sun_path)) {
		errno = *path ? ENAMETOOLONG : EINVAL;
		return -1;
	}
	memcpy(a.sun_path, path, strlen(path) + 1);
	if (!clear_path(&a))
		return -1;
	l->path = path;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -1;
	/* 0660 from the start, because who can connect can forge headers. */
	before = umask(0117);
	ok = bind_path(l, &a);
	umask(before);
	if (!ok) {
		saved = errno;
		close(l->fd);
		errno = saved;
	}
	return ok ? l->fd : -1;
}

static bool is_loopback(const struct sockaddr *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

	if (a->sa_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static int listen_address(const char *host, const char *port)
{
	static const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	static const int on = 1;
	struct addrinfo *list = NULL;
	uint64_t number;
	int fd;

	/* getaddrinfo() accepts any number, and cuts off its high bits. */
	if (!parse_u64(port, 1, UINT16_MAX, &number) ||
	    getaddrinfo(host, port, &hints, &list) != 0) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) {
		close(fd);
		fd = -1;
	}
	fd = bind_and_listen(fd, list->ai_addr, list->ai_addrlen);
	if (fd >= 0 && !is_loopback(list->ai_addr))
		log_message(LEVEL_WARNING,
			    "others can reach port %s of %s, and forge any "
			    "header but the signature; use :%s or a path, or a "
			    "firewall",
			    port, host, port);
	freeaddrinfo(list);
	return fd;
}

/* Says why, and what to do. Call with errno set. */
static void log_path_failure(const char *path)
{
	const char *slash = strrchr(path, '/');
	int length = slash ? (int)max_i64(slash - path, 1) : 1;
	const char *folder = slash ? path : ".";

	switch (errno) {
	case ENOENT:
		log_message(LEVEL_ERROR,
			    "can't listen on %s: the folder does not exist; "
			    "create it for the user that this program runs as: "
			    "mkdir -p %.*s",
			    path, length, folder);
		break;
	case EACCES:
	case EPERM:
		log_message(LEVEL_ERROR,
			    "can't listen on %s: %m; let the user that this "
			    "program runs as write to %.*s",
			    path, length, folder);
		break;
	case EADDRINUSE:
		log_message(LEVEL_ERROR,
			    "can't listen on %s: another process does; stop it "
			    "or choose another path",
			    path);
		break;
	case EEXIST:
		log_message(
			LEVEL_ERROR,
			"can't listen on %s: a file that is not a socket is "
			"there; remove it or choose another path",
			path);
		break;
	default:
		log_message(LEVEL_ERROR, "can't listen on %s: %m", path);
	}
}

static void log_address_failure(const char *where)
{
	if (errno == EINVAL)
		log_message(LEVEL_ERROR,
			    "can't listen on %s: give a port from 1 to 65535, "
			    "alone or behind a numeric address: :8080, "
			    "127.0.0.1:8080, 0.0.0.0:9000, [::1]:8080",
			    where);
	else
		log_message(LEVEL_ERROR, "can't listen on %s: %m", where);
}

/*
 * Returns true for a bare number, which would become a socket of that name in
 * the current folder.
 */
static bool is_number(const char *where)
{
	return *where && strspn(where, "0123456789") == strlen(where);
}

bool listener_open(const char *where, struct listener *l)
{
	const char *colon = strrchr(where, ':');
	char *host = NULL;
	int fd;

	*l = (struct listener){ .fd = -1 };
	if (is_number(where)) {
		log_message(LEVEL_ERROR,
			    "can't listen on %s: for a port write :%s, for a "
			    "path ./%s",
			    where, where, where);
		return false;
	}
	if (is_path(where)) {
		fd = listen_path(where, l);
	} else if (colon == where) {
		fd = listen_address("127.0.0.1", colon + 1);
	} else {
		/* [::1]:9000 */
		size_t bracket = *where == '[' && colon[-1] == ']';

		host = xstrndup(where + bracket,
				(size_t)(colon - where) - 2 * bracket);
		fd = listen_address(host, colon + 1);
	}
	if (fd < 0 && is_path(where))
		log_path_failure(where);
	else if (fd < 0)
		log_address_failure(where);
	free(host);
	l->fd = fd;
	return fd >= 0;
}

void listener_remove(const struct listener *l)
{
	if (l->path && has_our_socket(l) && unlink(l->path) < 0)
		log_message(LEVEL_WARNING, "%s: %m", l->path);
}
