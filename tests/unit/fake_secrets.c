#include "fake_secrets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

bool secrets_check_is_due(struct secrets *s)
{
	return s->check_is_due;
}

const struct secret_set *secrets_acquire(struct secrets *s)
{
	s->held++;
	return s->set;
}

void secrets_release(struct secrets *s, const struct secret_set *set)
{
	assert_non_null(set);
	assert_true(s->held > 0);
	s->held--;
}
