#!/usr/bin/env bash
# Installs the programs that tests start beside our own: PostgreSQL, Chromium, buildah, iproute2 and OpenSSL. As root
# on Debian it asks apt-get; elsewhere it says what to install, and which tests are skipped without it. With CI=true
# it fails then.
set -euo pipefail

has_postgresql() {
  command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}
has_chromium() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}
has_builder() {
  [ -n "$("$(dirname "${BASH_SOURCE[0]}")/../suites/image/build.sh" which)" ]
}
has_iproute2() {
  command -v ip >/dev/null
}
has_openssl() {
  command -v openssl >/dev/null
}

missing=()
has_postgresql || missing+=(postgresql)
has_chromium || missing+=(chromium fonts-dejavu-core)
has_builder || missing+=(buildah)
has_iproute2 || missing+=(iproute2)
has_openssl || missing+=(openssl)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}"
  # The server that the package would start is of no use: tests start their own.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null || echo "apt-get failed" >&2
fi

failed=0
has_postgresql || { failed=1; echo "PostgreSQL is missing: install postgresql; without it the tests of the store on PostgreSQL are skipped" >&2; }
has_chromium || { failed=1; echo "Chromium is missing: install chromium; without it the tests of the page in a browser are skipped" >&2; }
has_builder || { failed=1; echo "no image builder is here: install buildah; without it the tests of the image and of the installation are skipped" >&2; }
has_iproute2 || { failed=1; echo "ip is missing from PATH: install iproute2; without it the tests on nodes of their own are skipped" >&2; }
has_openssl || { failed=1; echo "openssl is missing: install openssl; without it the tests of the installation are skipped" >&2; }
[ "${CI:-}" != true ] || exit "$failed"
