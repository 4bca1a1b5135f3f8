/*
 * Fuzzes the spool and the drainer with a file of any content in new/. Each
 * recorded body is signed (queue_submit_and_wait() checks that), each file has
 * one outcome, and what was read comes back out of a second spool as it was.
 *
 * Input: the queue's outcome, then the file; the first "@" in it stands
 * for the signature of what follows the empty line.
 *
 * The two spools stay in TMPDIR. tests/fuzz/run gives a folder in memory,
 * because each put is synced, and removes it.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "store/drain.h"

static const char signature_key[] = "\nsignature: ";

struct place {
	char *path;
	struct spool *spool;
};

static struct place first, second;
static struct memory_log memory = { -1 };

static void make(struct place *p)
{
	const char *base = getenv("TMPDIR");

	p->path = xasprintf("%s/humcli-fuzz-XXXXXX", base ? base : "/tmp");
	CHECK(mkdtemp(p->path));
	p->spool = spool_open(p->path, 1 << 26);
	CHECK(p->spool);
}

/* Removes the files of a folder; returns how many there were. */
static size_t empty(const struct place *p, const char *folder)
{
	char *path = xasprintf("%s/%s", p->path, folder);
	size_t count = 0;
	struct dirent *e;
	DIR *d = opendir(path);

	CHECK(d);
	free(path);
	while ((e = readdir(d))) {
		if (*e->d_name == '.')
			continue;
		CHECK(unlinkat(dirfd(d), e->d_name, 0) == 0);
		count++;
	}
	closedir(d);
	return count;
}

/* Returns the file's text with its "@" replaced, and a name that fits. */
static void build(struct input *in, struct buf *text, char name[HMAC_HEX + 1])
{
	const char *data = (const char *)in->at, *at, *body;

	at = memchr(data, '@', in->left);
	body = memmem(data, in->left, "\n\n", 2);
	snprintf(name, HMAC_HEX + 1, "%064d", 0);
	buf_add(text, "", 0);
	if (at && body && at < body) {
		size_t before = (size_t)(at - data);

		fuzz_sign(body + 2, in->left - (size_t)(body + 2 - data), name);
		buf_add(text, data, before);
		buf_add(text, name, HMAC_HEX);
		buf_add(text, at + 1, in->left - before - 1);
	} else {
		buf_add(text, data, in->left);
	}
	/* The name within the file is more likely to be found. */
	at = strstr(text->data, signature_key);
	if (!at || strlen(at) < sizeof(signature_key) - 1 + HMAC_HEX)
		return;
	at += sizeof(signature_key) - 1;
	if (*at != '.' && !memchr(at, '/', HMAC_HEX))
		memcpy(name, at, HMAC_HEX);
}

static void write_new(const char *name, const struct buf *text)
{
	char *path = xasprintf("%s/new/%s", first.path, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	free(path);
	CHECK(fd >= 0 && write_all(fd, text->data, text->length));
	close(fd);
}

/* Checks that an entry that was read can be written again. */
static void check_again(const struct spool_file *f)
{
	const struct spool_entry *e = &f->entry;
	struct spool_file again;

	CHECK(strlen(e->signature) == HMAC_HEX);
	CHECK(strspn(e->signature, "0123456789abcdef") == HMAC_HEX);
	CHECK(e->body + e->length == f->text.data + f->text.length);
	CHECK(spool_put(second.spool, e));
	CHECK(spool_read(second.spool, SPOOL_NEW, e->signature, &again) ==
	      SPOOL_READ_OK);
	CHECK(again.entry.length == e->length &&
	      memcmp(again.entry.body, e->body, e->length) == 0);
	CHECK(strcmp(again.entry.secret_name, e->secret_name) == 0);
	CHECK(again.entry.received_at == e->received_at);
	spool_file_free(&again);
	CHECK(empty(&second, "new") == 1 && empty(&second, "tmp") == 0);
}

static void check_drain(enum outcome outcome)
{
	struct queue queue = { outcome, 0 };
	struct drain_source source = { .spool = first.spool,
				       .secrets = fuzz_secrets(),
				       .queue = &queue };
	struct drain_count count;
	size_t left, failed;

	CHECK(drain(&source, SIZE_MAX, 0, &count));
	left = empty(&first, "new");
	failed = empty(&first, "failed");
	CHECK(count.recorded + count.moved_to_failed + count.deferred == 1);
	CHECK(left == count.deferred && failed == count.moved_to_failed);
	/* A file that no secret fits waits for a process that has it. */
	CHECK(count.foreign <= count.deferred);
	count.deferred -= count.foreign;
	CHECK(queue.taken == count.recorded + count.deferred);
	CHECK((outcome == OUTCOME_UNAVAILABLE) || !count.deferred);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	enum outcome outcome = (enum outcome)(input_byte(&in) % 7);
	struct buf text = { 0 };
	char name[HMAC_HEX + 1];
	struct spool_file f;

	if (!first.spool) {
		memory_log_open(&memory);
		make(&first);
		make(&second);
	}
	build(&in, &text, name);
	if (strlen(name) == HMAC_HEX) {
		write_new(name, &text);
		if (spool_read(first.spool, SPOOL_NEW, name, &f) ==
		    SPOOL_READ_OK)
			check_again(&f);
		spool_file_free(&f);
		check_drain(outcome);
	}
	free(memory_log_take(&memory));
	buf_free(&text);
	return 0;
}
