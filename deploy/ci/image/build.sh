#!/bin/sh
# Builds Airflow's image from the Dockerfile beside this script, and pushes it: build.sh IMAGE [ARGUMENTS OF docker build]
#
# Run it in the project's root folder. IMAGE is a name without a tag, such as ghcr.io/acme/airflow. Its tag is a hash of the
# Dockerfile, requirements.txt, packages.txt and the arguments: if the registry has that already, nothing is built, so
# that a push which changes DAGs alone restarts nothing. Prints the digest, such as sha256:…, and in GitHub Actions sets it
# as the output "digest". Variables:
#
#   REGISTRY_TOKEN   password of the registry; without it, docker must be logged in
#   REGISTRY_USER    its user; in GitHub Actions and GitLab CI that of the job
#   PIP_CONF         content of a pip.conf with a private index: a build secret, which is in no layer
#   REBUILD          true: build it also if it is there, to get a newer base image and newer Debian packages
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
dockerfile=$(dirname -- "$0")/Dockerfile

content=
for file in "$dockerfile" requirements.txt packages.txt; do
  [ -f "$file" ] || fail "There is no file $file. Run this in the project's root folder."
  content="$content $(sha256sum <"$file")"
done
for argument in "$@"; do
  content="$content $(printf %s "$argument" | sha256sum)"
done
tag=$(printf %s "$content" | sha256sum | cut -c 1-32)

# Prints the digest that the registry has for the tag; nothing if it has none, or does not answer.
digest_of_tag() {
  docker buildx imagetools inspect --format '{{json .Manifest}}' "$image:$tag" 2>/dev/null |
    sed -n 's/.*"digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' | head -n 1
}

if [ -n "${REGISTRY_TOKEN:-}" ]; then
  user=${REGISTRY_USER:-${GITHUB_ACTOR:-${CI_REGISTRY_USER:-}}}
  printf %s "$REGISTRY_TOKEN" | docker login "${image%%/*}" --username "$user" --password-stdin >&2
fi
digest=
[ "${REBUILD:-}" = true ] || digest=$(digest_of_tag)
if [ -n "$digest" ]; then
  printf 'The registry has %s:%s already.\n' "$image" "$tag" >&2
else
  if [ -n "${PIP_CONF:-}" ]; then
    set -- --secret id=pip_conf,env=PIP_CONF "$@"
  fi
  docker build --pull --file "$dockerfile" --tag "$image:$tag" "$@" . >&2
  docker push "$image:$tag" >&2
  digest=$(digest_of_tag)
  [ -n "$digest" ] || fail "The registry gave no digest for $image:$tag."
fi
printf '%s\n' "$digest"
if [ -n "${GITHUB_OUTPUT:-}" ]; then printf 'digest=%s\n' "$digest" >>"$GITHUB_OUTPUT"; fi
