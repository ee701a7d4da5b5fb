#!/usr/bin/env bash
# The step of action.yml: runs dagferry with what the inputs say, and lets report.py say how it went.
#
# Run by tests/deploy/ci/test_action.py against a real server; linted with shellcheck. It ends with 0 only if dagferry
# did, and if report.py found the answer of the server. All inputs are in variables INPUT_…, which are never evaluated.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d "${RUNNER_TEMP:?Run this in a job of GitHub Actions.}/dagferry-step-XXXXXXXXXX")
trap 'rm -rf "$work"' EXIT
: >"$work/answer"
: >"$work/said"

# Neither pip nor dagferry needs the token that may write comments. A variable of the job that has the name of one of ours
# would hand it on.
unset github_token
github_token=$INPUT_GITHUB_TOKEN
unset INPUT_GITHUB_TOKEN
if [ -n "$INPUT_TOKEN" ]; then
  masked=${INPUT_TOKEN//'%'/%25}
  masked=${masked//$'\r'/%0D}
  printf '::add-mask::%s\n' "${masked//$'\n'/%0A}"
  export DAGFERRY_TOKEN=$INPUT_TOKEN
fi
unset INPUT_TOKEN
[ -z "$INPUT_SERVER" ] || export DAGFERRY_SERVER=$INPUT_SERVER
[ -z "$INPUT_DEPLOYMENT" ] || export DAGFERRY_DEPLOYMENT=$INPUT_DEPLOYMENT

code=0
stage=install
dagferry=
# Runs a command: its answer goes to a file, what it says into the log and to a file, how it ended to code. An error comes as
# a line of JSON, which report.py puts into words.
run() {
  code=0
  "$@" 2>&1 >"$work/answer" | tee "$work/said" | grep --text --line-buffered -v '^{' || code=${PIPESTATUS[0]}
}

# Ends with an error about the input $1; $2 says what it has to be.
refuse() {
  printf '{"code": "input_invalid", "message": "The input %s is not valid.", "hint": "It must be %s."}\n' "$1" "$2" \
    >"$work/said"
  code=2
}

check=(check --json) deploy=(deploy --json)
[ -z "$INPUT_AIRFLOW_PYTHON" ] || check+=("--airflow-python=$INPUT_AIRFLOW_PYTHON")
[ -z "$INPUT_AIRFLOW" ] || check+=("--airflow=$INPUT_AIRFLOW")
deploy+=("${check[@]:2}")
# An import needs a Python with Airflow, so it is a check of its own that deploy does not make.
[ -z "$INPUT_IMPORT_PYTHON" ] || check+=(--import "--import-python=$INPUT_IMPORT_PYTHON")
[ -z "$INPUT_CA_FILE" ] || deploy+=("--ca-file=$INPUT_CA_FILE")
[ -z "$INPUT_MESSAGE" ] || deploy+=("--message=$INPUT_MESSAGE")
[ -z "$INPUT_UNDER" ] || deploy+=("--under=$INPUT_UNDER")
[ "$INPUT_OVERRIDE" != true ] || deploy+=(--skip-gate --skip-import-check --allow-removals --override-freeze)
if [ "$INPUT_DRY_RUN" = true ]; then
  deploy+=(--dry-run)
else
  [ -z "$INPUT_WAIT" ] || deploy+=("--wait=$INPUT_WAIT")
  [ -z "$INPUT_WAIT_PARSED" ] || deploy+=("--wait-parsed=$INPUT_WAIT_PARSED")
  [ "$INPUT_UNDO_ON_FAILURE" != true ] || deploy+=(--undo-on-failure)
fi

for name in OVERRIDE UNDO_ON_FAILURE DRY_RUN COMMENT CHECK; do
  variable=INPUT_$name
  case $name:${!variable} in
    *:true | *:false | *: | CHECK:only) ;;
    *) refuse "$(printf '%s' "$name" | tr 'A-Z_' 'a-z-')" 'true or false' ;;
  esac
done
[ -n "$INPUT_PATH" ] || refuse path 'the dags folder, or a project that has one'

# Names of files and texts of others are in the log from here on: none of them is a command for the runner.
stop=dagferry-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
printf '::stop-commands::%s\n' "$stop"
if [ "$code" = 0 ]; then
  run bash "$here/../deploy.sh" --install
  dagferry=$(cat "$work/answer")
fi
if [ -n "$INPUT_IMPORT_PYTHON" ] && [ "$INPUT_CHECK" != only ]; then INPUT_CHECK=true; fi
if [ "$code" = 0 ] && { [ "$INPUT_CHECK" = only ] || { [ "$INPUT_CHECK" = true ] && [ "$INPUT_OVERRIDE" != true ]; }; }; then
  stage=check
  run "$dagferry" "${check[@]}" -- "$INPUT_PATH"
fi
if [ "$code" = 0 ] && [ "$INPUT_CHECK" != only ]; then
  stage=deploy
  run "$dagferry" "${deploy[@]}" -- "$INPUT_PATH"
fi
printf '::%s::\n' "$stop"

# The Python that deploy.sh found new enough, if it made an environment. -I: no module comes from the checkout.
python=${dagferry%/*}/python3
[ -x "$python" ] || python=python3
INPUT_GITHUB_TOKEN=$github_token "$python" -I "$here/report.py" "$stage" "$code" "$work"
