// What a release says of itself: licences, notices and the bill of materials. A module of its own, because the
// product needs no library that knows licences.
module github.com/evictgate/evictgate/test/tools/release

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/google/licensecheck v0.3.1
	github.com/spdx/tools-golang v0.5.7
)

require github.com/anchore/go-struct-converter v0.1.0 // indirect
