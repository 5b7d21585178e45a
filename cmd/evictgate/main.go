// Command evictgate decides Kubernetes evictions by policy, and says why.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name time zones, and an image from scratch has none
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], printer{out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}
