// Command evictgate decides Kubernetes evictions by policy, and says why.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name time zones, and an image from scratch has none

	_ "golang.org/x/crypto/x509roots/fallback" // nor has it CA roots, for bundles, uploads and PostgreSQL; a system's own come first
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], printer{out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}
