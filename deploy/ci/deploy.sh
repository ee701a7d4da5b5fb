#!/bin/sh
# Deploys the dags folder of a checkout from any CI, with the command dagferry in the version that requirements.txt
# beside this script pins. It ends with 0 only if the server has exactly this content.
#
#   deploy.sh [ARGUMENTS]    the same as: dagferry deploy [ARGUMENTS]
#   deploy.sh --install      only installs, and prints the path of the command dagferry
#
# It needs Python 3.10 or later with venv, and pip's index. A dagferry in PATH is used if it has the pinned version.
# Where to deploy is said by DAGFERRY_SERVER, DAGFERRY_DEPLOYMENT and DAGFERRY_TOKEN, by dagferry.toml, or by arguments.
# DAGFERRY_VENV is a folder that keeps what was installed for the next job; without it, one in the CI's temporary folder.
# docs/how-to/deploy-from-ci.md has more. Run by tests (dash, bash, busybox); linted with shellcheck.
set -eu

# fail CODE SENTENCE: the codes are those of dagferry.
fail() {
  printf 'deploy.sh: %s\n' "$2" >&2
  exit "$1"
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
requirements=$here/requirements.txt
[ -f "$requirements" ] || fail 2 "There is no requirements.txt in $here. Copy deploy.sh together with it."
version=$(sed -n 's/^dagferry==\([^ ;]*\).*/\1/p' "$requirements")
[ -n "$version" ] || fail 2 "$requirements does not pin dagferry. Copy deploy.sh together with its requirements.txt."

# works COMMAND: whether it is a dagferry of the pinned version that starts.
works() { [ "$("$1" --version 2>/dev/null)" = "dagferry $version" ]; }

# Sets python: the first one from 3.10 on that can make environments. -I: files of the checkout and of PYTHONPATH, such
# as a venv.py, do not replace modules.
find_python() {
  recent=
  for python in python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
    "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
    recent=$python
    if "$python" -I -c 'import ensurepip, venv' 2>/dev/null; then return; fi
  done
  [ -z "$recent" ] || fail 2 "$recent has no venv. On Debian and Ubuntu: apt-get install python3-venv."
  fail 2 "There is no Python 3.10 or later in PATH. Use an image such as python:3.12, or install python3."
}

# Sets folder: the one that keeps what is installed.
find_folder() {
  if [ -n "${DAGFERRY_VENV:-}" ]; then
    folder=$DAGFERRY_VENV
    mkdir -p -- "$folder" || fail 6 "DAGFERRY_VENV: $folder cannot be created."
  else
    folder=${RUNNER_TEMP:-${AGENT_TEMPDIRECTORY:-${WORKSPACE_TMP:-${TMPDIR:-/tmp}}}}/dagferry-$(id -u)
    (umask 077 && mkdir -p -- "$folder") || fail 6 "$folder cannot be created. Set DAGFERRY_VENV to a folder of this job."
    # Anyone can make this name in a /tmp that users share, and would choose the program that gets the token.
    "$python" -I -c 'import os, stat, sys
found = os.lstat(sys.argv[1])
sys.exit(not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022 != 0)' "$folder" ||
      fail 6 "Other users can change $folder. Set DAGFERRY_VENV to a folder of this job."
  fi
  folder=$(CDPATH='' cd -- "$folder" && pwd)
}

# isolate COMMAND: has it start without the modules of PYTHONPATH, and without the path of Python that pip wrote into it: in
# a path with a blank, the shell would run what else is in there.
isolate() {
  # shellcheck disable=SC2016 # the shell of that file expands them
  "$python" -I -c 'import os, sys
command = sys.argv[1]
os.rename(command, os.path.join(os.path.dirname(command), os.pardir, "dagferry"))
with open(command, "x") as file:
    file.write("#!/bin/sh\nexec \"${0%/*}/python\" -I \"${0%/*}/../dagferry\" \"$@\"\n")
os.chmod(command, 0o755)' "$1" 2>/dev/null
}

# Sets dagferry: the command, installed if it is not yet. Each installation has a folder of its own, and is used once it
# is marked as complete: jobs at once do not disturb each other, and one that is killed leaves nothing that is used.
install() {
  key=$("$python" -I -c 'import hashlib, sys
with open(sys.argv[1], "rb") as file:
    print(hashlib.sha256(file.read() + repr((sys.version_info[:2], sys.base_prefix)).encode()).hexdigest()[:32])' \
    "$requirements")
  for environment in "$folder/$key".*; do
    dagferry=$environment/bin/dagferry
    # A cache that was restored in another place, or whose Python is gone, does not work any more.
    if [ -f "$environment/complete" ] && works "$dagferry"; then return; fi
  done
  environment=$("$python" -I -c 'import sys, tempfile
print(tempfile.mkdtemp(prefix=sys.argv[1] + ".", dir=sys.argv[2]))' "$key" "$folder" 2>/dev/null) ||
    fail 6 "Nothing can be written in $folder. Set DAGFERRY_VENV to a folder of this job."
  dagferry=$environment/bin/dagferry
  trap 'rm -rf -- "$environment"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  printf 'Installing dagferry %s in %s\n' "$version" "$environment" >&2
  "$python" -I -m venv "$environment" >&2 || fail 6 "No Python environment could be made in $environment."
  log=$environment/pip.log
  # Only wheels: what builds another kind of package is downloaded without a hash, and run.
  if ! "$environment/bin/python" -I -m pip --log "$log" install --quiet --progress-bar off --no-input \
    --disable-pip-version-check --require-hashes --only-binary=:all: -r "$requirements" >&2; then
    if grep -q 'DO NOT MATCH THE HASHES' "$log"; then
      fail 6 "Nothing was installed: a file that pip got is not the one that $requirements names. See above which."
    elif grep -q -e 'connection broken by' -e 'Could not fetch URL' -e 'Max retries exceeded' "$log"; then
      fail 5 "pip cannot reach its index. Set PIP_INDEX_URL or HTTPS_PROXY, or use an image that has dagferry $version."
    fi
    fail 6 "pip could not install dagferry $version. See above what it says."
  fi
  isolate "$dagferry" || fail 6 "dagferry $version was not installed in $environment, but somewhere else: see PIP_TARGET."
  works "$dagferry" || fail 6 "dagferry $version was installed in $environment, but does not start."
  : >"$environment/complete"
  trap - EXIT HUP INT TERM
}

only_install=
if [ "${1:-}" = --install ]; then
  [ "$#" -eq 1 ] || fail 2 "--install takes no other arguments."
  only_install=yes
fi

if command -v dagferry >/dev/null && works dagferry; then
  dagferry=$(command -v dagferry)
else
  find_python
  find_folder
  install
fi

if [ -n "$only_install" ]; then
  printf '%s\n' "$dagferry"
else
  exec "$dagferry" deploy "$@"
fi
