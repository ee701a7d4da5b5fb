#!/bin/sh
# Deletes the preview deployments whose branch is gone: delete-old-previews.sh PREFIX DEPLOYMENTS BRANCHES
#
# DEPLOYMENTS and BRANCHES are files with one name on each line: all deployments of the server, and all branches of the
# repository. Get the deployments first: a preview that is made meanwhile is not among them, and stays. Only names that
# preview-name.sh could have made with PREFIX are deleted. A list of branches that is empty is an error, and deletes
# nothing. It needs the command dagferry in PATH, and a token with the scope admin.
# Docs: docs/how-to/preview-deployments.md. Run by tests (dash, bash, busybox); linted with shellcheck.
set -eu
LC_ALL=C
export LC_ALL

fail() {
  printf 'delete-old-previews.sh: %s\n' "$1" >&2
  exit 2
}

[ "$#" -eq 3 ] || fail 'Give three arguments: PREFIX DEPLOYMENTS BRANCHES.'
prefix=$1 deployments=$2 branches=$3
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ -f "$deployments" ] || fail "There is no file $deployments."
[ -s "$branches" ] || fail "$branches lists no branches, so which previews are old is not known. Nothing was deleted."
"$here/preview-name.sh" "$prefix" any >/dev/null

wanted=$(mktemp)
trap 'rm -f -- "$wanted"' EXIT
while IFS= read -r branch || [ -n "$branch" ]; do
  [ -n "$branch" ] || continue
  "$here/preview-name.sh" "$prefix" "$branch" >>"$wanted"
done <"$branches"
[ -s "$wanted" ] || fail "$branches lists no branches, so which previews are old is not known. Nothing was deleted."

failed=0
while IFS= read -r name || [ -n "$name" ]; do
  # The prefix, and at the end the hash. Anything else was not made by preview-name.sh, and is not ours to delete.
  printf '%s\n' "$name" | grep -Eqx "$prefix([a-z0-9-]*-)?[0-9a-f]{12}" || continue
  if grep -Fqx -e "$name" "$wanted"; then continue; fi
  # Each that is left gets its turn, and one that fails is a failure in the end.
  dagferry deployments delete "$name" --yes </dev/null || failed=1
done <"$deployments"
exit "$failed"
