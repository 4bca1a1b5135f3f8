/*
 * The end of a process that can't get a resource which it needs: memory, a
 * descriptor. It ends without a core file and without cleaning up, because an
 * unanswered event was not acknowledged.
 */
#ifndef FATAL_H
#define FATAL_H

/* Says on stderr what is lacking, and exits with EX_OSERR. */
_Noreturn void fatal(const char *what);

/*
 * Sets a text that fatal() writes to stdout: the reply of a CGI process. The
 * pointer is kept. NULL takes the text back; call it so before anything else
 * is written to stdout.
 */
void fatal_set_reply(const char *text);

#endif
