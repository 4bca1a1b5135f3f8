#!/bin/sh
# Makes ./configure; needed only in a checkout, a release tarball carries it.
cd "$(dirname "$0")" && exec autoreconf --install --force
