/* Allocation, and the end of the process without memory. */
#include "base/alloc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"

static void test_allocation(void **state)
{
	char *text = xasprintf("%s-%d", "a", 5), *copy;
	unsigned char *zeros = xcalloc(3, 5), nothing[15] = { 0 };
	void *p;

	(void)state;
	assert_string_equal(text, "a-5");
	assert_memory_equal(zeros, nothing, sizeof(nothing));
	copy = xstrdup(text);
	assert_string_equal(copy, "a-5");
	assert_ptr_not_equal(copy, text);
	free(copy);
	copy = xstrndup(text, 1);
	assert_string_equal(copy, "a");
	free(copy);
	copy = xstrndup("", 0);
	assert_string_equal(copy, "");
	copy = xrealloc(copy, 100);
	assert_string_equal(copy, "");
	free(copy);
	free(zeros);
	free(text);
	/* A size of 0 still gives memory, because NULL would mean failure. */
	p = xmalloc(0);
	assert_non_null(p);
	p = xrealloc(p, 0);
	assert_non_null(p);
	free(p);
	p = xcalloc(0, 8);
	assert_non_null(p);
	free(p);
}

/* Elements keep their values while the array grows. */
static void test_array_grow(void **state)
{
	enum { COUNT = 1000 };
	size_t *list = NULL;
	unsigned moves = 0;

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		size_t *moved = array_grow(list, i, sizeof(*list));

		moves += moved != list;
		list = moved;
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): grown */
		list[i] = i;
	}
	assert_non_null(list);
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(list[i], i);
	/* The room doubles; it does not grow by one. */
	assert_true(moves <= 11);
	free(list);
}

/* Without memory the process ends with a message. */
static void test_out_of_memory(void **state)
{
	volatile size_t size = SIZE_MAX / 4;
	int status, out[2];
	struct buf said = { 0 };
	pid_t child;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		static const struct rlimit no_core = { 0, 0 };

		if (setrlimit(RLIMIT_CORE, &no_core) < 0 ||
		    dup2(out[1], STDERR_FILENO) < 0)
			_exit(0);
		free(xmalloc(size));
		_exit(0);
	}
	close(out[1]);
	assert_true(read_all(out[0], 1 << 20, &said));
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* AddressSanitizer ends the process with a message of its own. */
	assert_non_null(said.data);
	assert_true(strstr(said.data, "out of memory") ||
		    strstr(said.data, "AddressSanitizer"));
	buf_free(&said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allocation),
		cmocka_unit_test(test_array_grow),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
