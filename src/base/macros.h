/* Attributes of functions, the size of an array, and the ending of a noun. */
#ifndef MACROS_H
#define MACROS_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(text, args) __attribute__((format(printf, text, args)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* What is appended to a noun after the number n. */
#define PLURAL_S(n) ((n) == 1 ? "" : "s")

#endif
