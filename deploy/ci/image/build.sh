#!/bin/sh
# Builds Airflow's image from the Dockerfile beside this script, and pushes it: build.sh IMAGE [ARGUMENTS OF docker build]
#
# Run it in the project's root folder. IMAGE is a name without a tag, such as ghcr.io/acme/airflow; its tag is the commit.
# Prints the digest, such as sha256:…, and in GitHub Actions sets it as the output "digest". Variables:
#
#   REGISTRY_TOKEN   password of the registry; without it, docker must be logged in
#   REGISTRY_USER    its user; in GitHub Actions and GitLab CI that of the job
#   PIP_CONF         content of a pip.conf with a private index: a build secret, which is in no layer
#   TAG              the tag, instead of the commit
#
# Docs: docs/how-to/build-the-airflow-image.md. Run by tests with a stand-in for docker; linted with shellcheck.
set -eu

fail() {
  printf 'build.sh: %s\n' "$1" >&2
  exit 2
}

[ "$#" -ge 1 ] || fail 'Give the name of the image, such as ghcr.io/acme/airflow.'
# Registries know small letters only, and the name of a repository may have others.
image=$(printf %s "$1" | tr '[:upper:]' '[:lower:]')
shift
tag=${TAG:-${GITHUB_SHA:-${CI_COMMIT_SHA:-}}}
[ -n "$tag" ] || fail 'Set TAG: this job has no commit.'
here=$(dirname -- "$0")

if [ -n "${REGISTRY_TOKEN:-}" ]; then
  user=${REGISTRY_USER:-${GITHUB_ACTOR:-${CI_REGISTRY_USER:-}}}
  printf %s "$REGISTRY_TOKEN" | docker login "${image%%/*}" --username "$user" --password-stdin >&2
fi
if [ -n "${PIP_CONF:-}" ]; then
  set -- --secret id=pip_conf,env=PIP_CONF "$@"
fi
docker build --pull --file "$here/Dockerfile" --tag "$image:$tag" "$@" . >&2
docker push "$image:$tag" >&2
digests=$(docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image:$tag")
digest=$(printf '%s\n' "$digests" | sed -n "s|^$image@\(sha256:[0-9a-f]\{64\}\)\$|\1|p" | head -n 1)
[ -n "$digest" ] || fail "The registry gave no digest for $image:$tag."
printf '%s\n' "$digest"
if [ -n "${GITHUB_OUTPUT:-}" ]; then printf 'digest=%s\n' "$digest" >>"$GITHUB_OUTPUT"; fi
