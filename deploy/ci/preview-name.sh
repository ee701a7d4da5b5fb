#!/bin/sh
# Prints the name of the preview deployment of a branch: preview-name.sh PREFIX BRANCH
#
#   $ preview-name.sh preview- feature/Load_orders
#   preview-feature-load-orders-54a7ce1fa243
#
# PREFIX begins the names of all previews of a repository, ends with a hyphen, and is what the token's pattern covers
# ("preview-*"). The rest is the readable part of the branch, and a hash of all of it, so that two branches do not share a
# name although a deployment has only 63 of a-z, 0-9 and hyphens. BRANCH is data, whatever is in it.
# Docs: docs/how-to/preview-deployments.md. Run by tests (dash, bash, busybox); linted with shellcheck.
set -eu
LC_ALL=C
export LC_ALL

MAX_CHARACTERS=63
HASH_CHARACTERS=12
MAX_PREFIX_CHARACTERS=30

fail() {
  printf 'preview-name.sh: %s\n' "$1" >&2
  exit 2
}

[ "$#" -eq 2 ] || fail 'Give two arguments: PREFIX BRANCH.'
prefix=$1 branch=$2
case $prefix in
  *[!a-z0-9-]* | -* | *[!-] | '') fail 'PREFIX must be of a-z, 0-9 and hyphens, and end with a hyphen, such as preview-.' ;;
esac
[ "${#prefix}" -le "$MAX_PREFIX_CHARACTERS" ] || fail "PREFIX has more than $MAX_PREFIX_CHARACTERS characters."
[ -n "$branch" ] || fail 'BRANCH is empty.'

if command -v sha256sum >/dev/null; then
  hash=$(printf %s "$branch" | sha256sum)
else
  hash=$(printf %s "$branch" | shasum -a 256)
fi
hash=$(printf %s "$hash" | cut -c "1-$HASH_CHARACTERS")
case $hash in
  *[!0-9a-f]*) fail 'Neither sha256sum nor shasum works here.' ;;
esac
[ "${#hash}" -eq "$HASH_CHARACTERS" ] || fail 'Neither sha256sum nor shasum works here.'

readable=$(printf %s "$branch" | tr 'A-Z\n' 'a-z-' | tr -cs 'a-z0-9' - | cut -c "1-$((MAX_CHARACTERS - HASH_CHARACTERS - 1 - ${#prefix}))")
readable=${readable#-}
readable=${readable%-}
printf '%s%s%s\n' "$prefix" "${readable:+$readable-}" "$hash"
