/*
 * Where our files are, how this program is called, and other users to be.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "base/macros.h"

#include <stdbool.h>

/*
 * A file or folder of our data: beside the program where that was moved as
 * a whole (DESTDIR, the hosting bundle), else where it was installed.
 */
char *cli_data_path(const char *name) MUST_CHECK;
/* The same for humcli-webhook.fcgi. */
char *cli_responder_path(void) MUST_CHECK;
/* How to type this program: as it was typed. */
const char *cli_program_name(void) MUST_CHECK;

/*
 * Returns the name of the user that owns a file or folder, or its number; ""
 * with errno set if there is no such file. The caller frees it.
 */
char *cli_owner_name(const char *path) MUST_CHECK;
/* Becomes a user for good, where we are root. */
bool cli_switch_user(const char *user) MUST_CHECK;
/*
 * Calls run in a process of its own, as that user; *code is its exit code.
 * False: there is no such user, or we may not.
 */
bool cli_run_as(const char *user, int (*run)(void *context), void *context,
		int *code) MUST_CHECK;
/* Runs a program by PATH; false: it failed. */
bool cli_run_program(char *const *argv) MUST_CHECK;

#endif
