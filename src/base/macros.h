/* Attributes of functions, and the size of an array. */
#ifndef MACROS_H
#define MACROS_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(text, args) __attribute__((format(printf, text, args)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
