/*
 * A listening socket of our own, for humcli-webhook.fcgi --listen.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include "base/macros.h"

/*
 * A path (mode 0660; a socket there that nobody answers on is replaced),
 * ":PORT" (127.0.0.1) or "ADDRESS:PORT". Returns its descriptor, or -1 with
 * the reason in the log.
 */
int listener_open(const char *where) MUST_CHECK;
/* Takes a path away, so that nobody new finds it; an address has none. */
void listener_remove(const char *where);

#endif
