/*
 * The listening socket of humcli-webhook.fcgi --listen.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include "base/macros.h"

/*
 * Listens on a path (mode 0660; a socket of a dead process is replaced), on
 * ":PORT" (127.0.0.1) or on "ADDRESS:PORT". Returns its descriptor, or -1 with
 * the reason in the log.
 */
int listener_open(const char *where) MUST_CHECK;
/* Removes the socket's path, so that no new connections come. */
void listener_remove(const char *where);

#endif
