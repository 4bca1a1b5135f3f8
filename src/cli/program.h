/*
 * The places of this program's files, the name by which it was called, and ways
 * to become another user or run another program.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "base/macros.h"

#include <stdbool.h>

/*
 * Returns the path of a file or folder of our data: beside the program if the
 * installation was moved as a whole (DESTDIR, the hosting bundle), else where
 * it was installed. The caller frees it.
 */
char *cli_data_path(const char *name) MUST_CHECK;
/* Returns the path of humcli-webhook.fcgi in the same way. */
char *cli_responder_path(void) MUST_CHECK;
/* Returns the path of a page of the documentation in the same way. */
char *cli_page_path(const char *name) MUST_CHECK;
/* Returns how to type this program, which is how it was typed. */
const char *cli_program_name(void) MUST_CHECK;

/*
 * Returns the name of the user that owns a file or folder, or the number of a
 * user without a name; "" with errno set if the file can't be examined. The
 * caller frees it.
 */
char *cli_owner_name(const char *path) MUST_CHECK;
/*
 * Returns the receiver's user of an installation for the whole system: the one
 * whose group may read the settings. NULL without such an installation, or if
 * the environment names other settings. The caller frees it.
 */
char *cli_receiver_user(void) MUST_CHECK;
/*
 * Becomes a user for good. Returns false if there is no such user or we are not
 * root.
 */
bool cli_switch_user(const char *user) MUST_CHECK;
/*
 * Calls run() in a child process as that user, and sets *code to its result.
 * Returns false if there is no such user or we are not root.
 */
bool cli_run_as(const char *user, int (*run)(void *context), void *context,
		int *code) MUST_CHECK;
/*
 * Blocks SIGTERM and SIGINT. Returns a descriptor that is readable once one of
 * them arrives; -1 with errno set.
 */
int cli_take_signals(void) MUST_CHECK;
/* Returns true if systemd runs this machine. */
bool cli_has_systemd(void) MUST_CHECK;
/* Runs a program found by PATH. Returns true if it exited with 0. */
bool cli_run_program(char *const *argv) MUST_CHECK;

#endif
