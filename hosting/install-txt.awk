# Prints INSTALL.txt for the hosting bundle out of doc/shared-hosting.md: the part
# between the two marks, as plain text. scripts/hosting-bundle runs it.
BEGIN {
	print "HumCLI webhooks on shared hosting, without a shell"
	print "=================================================="
}
/^<!-- INSTALL.txt begins -->$/ { inside = 1; next }
/^<!-- INSTALL.txt ends -->$/ { ended = inside; inside = 0 }
!inside { next }
# a heading, underlined
sub(/^#+ /, "") {
	print
	gsub(/./, "-")
	print
	next
}
# Code is marked by its indent in the page, too.
!/^ *\$HOME/ { gsub(/`/, "") }
{ print }
END {
	if (!ended) {
		print "install-txt.awk: the marks are missing" >"/dev/stderr"
		exit 1
	}
}
