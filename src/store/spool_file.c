/*
 * Owns the form of the spool's files: "humcli-spool 1", four headers, an empty
 * line and the raw body; or two headers for a note. Must not know folders,
 * descriptors or the log. All functions are pure; any thread may call them.
 *
 * A parsed file was checked against all that PostgreSQL would refuse, because
 * such a file would be tried again for ever.
 */
#include "store/spool_file.h"

#include <string.h>

#include "base/alloc.h"
#include "base/parse.h"

enum { NAME_BYTES = 255 /* of a secret, which is the name of a file */ };

/* us since 1970, the end of the year 9999. */
static const int64_t latest_time = INT64_C(253402300799999999);

static const char magic[] = "humcli-spool 1\n";

static int64_t clamp_time(int64_t us)
{
	return us < 0 ? 0 : us > latest_time ? latest_time : us;
}

void spool_file_render(const struct spool_entry *e, struct buf *b)
{
	buf_printf(b,
		   "%ssignature: %s\nsecret: %s\nreceived: %lld\n"
		   "length: %zu\n\n",
		   magic, e->signature, e->secret_name,
		   (long long)clamp_time(e->received_at), e->length);
	buf_add(b, e->body, e->length);
}

/*
 * Returns the value of the header "key: value\n" at *p, cut at its newline, and
 * moves *p behind it. Returns NULL if another text is there.
 */
static const char *parse_header(char **p, const char *key)
{
	size_t length = strlen(key);
	char *value, *end;

	if (strncmp(*p, key, length) != 0)
		return NULL;
	value = *p + length;
	end = strchr(value, '\n');
	if (!end)
		return NULL;
	*end = '\0';
	*p = end + 1;
	return value;
}

static bool entry_is_valid(const struct spool_entry *e)
{
	return strlen(e->signature) == HMAC_HEX &&
	       strspn(e->signature, "0123456789abcdef") == HMAC_HEX &&
	       is_printable(e->secret_name) &&
	       strlen(e->secret_name) <= NAME_BYTES;
}

bool spool_file_parse(struct spool_file *f)
{
	char *p = f->text.data;
	const char *received, *length;
	uint64_t number;

	if (strncmp(p, magic, sizeof(magic) - 1) != 0)
		return false;
	p += sizeof(magic) - 1;
	f->entry.signature = parse_header(&p, "signature: ");
	f->entry.secret_name = parse_header(&p, "secret: ");
	received = parse_header(&p, "received: ");
	length = parse_header(&p, "length: ");
	if (!f->entry.signature || !f->entry.secret_name || !received ||
	    !length || *p != '\n' || !entry_is_valid(&f->entry) ||
	    !parse_u64(received, 0, (uint64_t)latest_time, &number))
		return false;
	f->entry.received_at = (int64_t)number;
	f->entry.body = ++p;
	f->entry.length = f->text.length - (size_t)(p - f->text.data);
	return parse_u64(length, f->entry.length, f->entry.length, &number);
}

void spool_file_free(struct spool_file *file)
{
	buf_free(&file->text);
	file->entry = (struct spool_entry){ 0 };
}

void spool_refusal_render(const struct spool_refusal *r, struct buf *text)
{
	buf_printf(text, "attempts: %u\nreason: %s\n", r->attempts, r->reason);
}

bool spool_refusal_parse(char *text, struct spool_refusal *r)
{
	char *p = text;
	const char *attempts = parse_header(&p, "attempts: ");
	const char *reason = attempts ? parse_header(&p, "reason: ") : NULL;
	uint64_t number;

	if (!reason || !parse_u64(attempts, 1, UINT32_MAX, &number))
		return false;
	r->attempts = (unsigned)number;
	r->reason = xstrdup(reason);
	return true;
}

int64_t spool_time(const struct timespec *t)
{
	if (t->tv_sec < 0)
		return 0;
	if (t->tv_sec > latest_time / 1000000)
		return latest_time;
	return (int64_t)t->tv_sec * 1000000 + t->tv_nsec / 1000;
}
