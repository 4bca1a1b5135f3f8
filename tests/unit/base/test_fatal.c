/* A process that lacks a resource says so, replies and exits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fatal.h"

/* Runs fatal() in a child. Its stdout and stderr go to out. */
static void run(const char *reply, bool take_back, struct buf *out)
{
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		if (dup2(ends[1], STDOUT_FILENO) < 0 ||
		    dup2(ends[1], STDERR_FILENO) < 0)
			_exit(2);
		fatal_set_reply(reply);
		if (take_back)
			fatal_set_reply(NULL);
		fatal("out of luck");
	}
	close(ends[1]);
	assert_true(read_all(ends[0], 1000, out));
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EX_OSERR);
}

static void test_fatal(void **state)
{
	static const struct {
		const char *reply;
		bool take_back;
		const char *output;
	} cases[] = {
		{ NULL, false, "humcli-webhook: out of luck\n" },
		{ "Sorry", false, "humcli-webhook: out of luck\nSorry" },
		{ "Sorry", true, "humcli-webhook: out of luck\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = { 0 };

		run(cases[i].reply, cases[i].take_back, &out);
		assert_string_equal(out.data, cases[i].output);
		buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fatal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
