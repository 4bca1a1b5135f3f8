# Replaces each \ir line of install.sql or pool.sql by the file that it names.
# The result is plain SQL that runs as one query string.
/^\\ir / {
	part = dir "/" $2
	while ((got = (getline line < part)) > 0)
		print line
	if (got < 0) {
		print "cannot read " part | "cat >&2"
		exit 1
	}
	close(part)
	next
}
/^\\/ { next }	# commands of psql
{ print }
