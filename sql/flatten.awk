# Puts the files that install.sql names into it: plain SQL, one query string.
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
/^\\/ { next }	# what is left for psql alone
{ print }
