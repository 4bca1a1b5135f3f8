/* The meaning of an answer from a URL, and the fix. */
#ifndef DOCTOR_ANSWER_H
#define DOCTOR_ANSWER_H

#include "cli/http.h"

/*
 * Returns the answer as one short text, a page of HTML as its title; the
 * caller frees it. answered is false if there was none.
 */
char *answer_text(bool answered, const struct http_answer *a) MUST_CHECK;

/*
 * Returns a page of HTML as its title; the caller frees it. NULL if the body is
 * no page.
 */
char *answer_page(const struct http_answer *a) MUST_CHECK;

/* Returns the fix for an answer that is not the receiver's 200. */
const char *answer_remedy(bool answered,
			  const struct http_answer *a) MUST_CHECK;

/* Returns the fix for a certificate that was refused for that reason. */
const char *answer_certificate_remedy(const char *reason) MUST_CHECK;

#endif
