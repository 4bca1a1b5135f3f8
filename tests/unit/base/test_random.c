/* Random bytes: every byte is filled, and two draws differ. */
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_random_bytes(void **state)
{
	/* More than the 256 bytes that getrandom() never interrupts. */
	static unsigned char a[1000], b[1000];
	size_t zeros = 0;

	(void)state;
	assert_true(random_bytes(a, 0));
	assert_true(random_bytes(a, sizeof(a)));
	assert_true(random_bytes(b, sizeof(b)));
	assert_int_not_equal(memcmp(a, b, sizeof(a)), 0);
	for (size_t i = 0; i < sizeof(a); i++)
		zeros += a[i] == 0;
	/* About 4 are expected. */
	assert_true(zeros < 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
