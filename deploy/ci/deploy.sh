#!/bin/sh
# Deploys with the dagferry that is installed; a stand-in until the script that installs it is merged.
# Run by tests/deploy/ci/test_action.py.
set -eu
if [ "${1-}" = --install ]; then
  command -v dagferry
else
  exec dagferry deploy "$@"
fi
