/*
 * The listening socket of humcli-webhook.fcgi --listen.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/macros.h"

/* fd is the listening socket. A path is only of a socket that is ours. */
struct listener {
	int fd;
	const char *path; /* NULL: the socket has none, or is inherited */
	dev_t device; /* of the path, because another process may replace it */
	ino_t inode;
};

/*
 * Listens on a path (mode 0660; a socket of a dead process is replaced), on
 * ":PORT" (127.0.0.1) or on "ADDRESS:PORT". Returns false with the reason in
 * the log. where must outlive the listener.
 */
bool listener_open(const char *where, struct listener *l) MUST_CHECK;
/*
 * Removes the socket's path, so that no new connections come. Leaves the
 * socket of another process alone that listens there by now.
 */
void listener_remove(const struct listener *l);

#endif
