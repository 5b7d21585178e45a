// Command evictgate decides Kubernetes evictions by policy, and says why.
package main

import (
	"os"
	_ "time/tzdata" // policies name time zones, and an image from scratch has none

	_ "golang.org/x/crypto/x509roots/fallback" // nor has it CA roots, for bundles, uploads and PostgreSQL; a system's own come first

	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
)

func main() {
	confined.Main()
	os.Exit(start(os.Args[1:], output.Printer{Out: os.Stdout, Err: os.Stderr}))
}
