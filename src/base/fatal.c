/*
 * Owns the reply that a process gives when it has to end. Allocates nothing
 * and takes no lock, because both may be what failed.
 *
 * Any thread may call fatal(). The first one takes the reply, so that it is
 * written once. If fatal() has taken it, fatal_set_reply(NULL) waits for the
 * end of the process.
 */
#include "base/fatal.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* Mutable, because fatal() has no other way to learn of it. */
static _Atomic(const char *) reply;
static atomic_bool ending;

/*
 * Writes text as far as that works. The rest is lost, because there is no other
 * place for it.
 */
static void put(int fd, const char *text)
{
	size_t length = strlen(text);

	while (length) {
		ssize_t n = write(fd, text, length);

		if (n <= 0)
			return;
		text += n;
		length -= (size_t)n;
	}
}

void fatal(const char *what)
{
	const char *text;

	atomic_store(&ending, true);
	text = atomic_exchange(&reply, NULL);
	put(STDERR_FILENO, "humcli-webhook: ");
	put(STDERR_FILENO, what);
	put(STDERR_FILENO, "\n");
	if (text)
		put(STDOUT_FILENO, text);
	_exit(EX_OSERR);
}

void fatal_set_reply(const char *text)
{
	const char *before = atomic_exchange(&reply, text);

	while (!text && !before && atomic_load(&ending))
		pause();
}
