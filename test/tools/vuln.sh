#!/usr/bin/env bash
# Asks the Go vulnerability database about the code that is called and about the modules of bin/evictgate. Exits 1
# when called code has a known vulnerability. When the database cannot be read it says so, and nothing is checked:
# that is 0 at home, and 2 with CI=true, where nobody might read it. VULN_DB is another database (a URL or
# file:///DIR), PACKAGES what is looked at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
govulncheck=v1.9.0
database=${VULN_DB:-https://vuln.go.dev}
read -ra packages <<<"${PACKAGES:-./...}"
tool=bin/govulncheck-$govulncheck
if [ ! -x "$tool" ]; then
  GOBIN="$PWD/bin" GOFLAGS="${GOFLAGS:-} -buildvcs=false" go install "golang.org/x/vuln/cmd/govulncheck@$govulncheck"
  mv bin/govulncheck "$tool"
fi
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

scan() { # scan ARGUMENTS...: govulncheck's own exit code; 3 is that it found something
  local code=0
  "$tool" -db "$database" "$@" 2>"$errors" || code=$?
  if grep -qE 'fetching vulnerabilities:|unrecognized vulndb format' "$errors"; then
    echo "vuln: the vulnerability database $database cannot be read from here, so nothing was checked" >&2
    [ "${CI:-}" != true ] || exit 2
    exit 0
  fi
  cat "$errors" >&2
  return "$code"
}

# The program first, since that is done at once. It has no symbols, so that what is found there may never be
# called: it is told, but the code decides.
if [ -x bin/evictgate ] && [ -z "${PACKAGES:-}" ]; then
  echo "vuln: modules of bin/evictgate, called or not"
  scan -mode binary -scan module bin/evictgate || [ $? = 3 ]
fi
echo "vuln: code that is called, in ${packages[*]}"
scan "${packages[@]}" || exit 1
