//go:build linux

// Command enter becomes a container's program; its argument is a container.Spec in JSON.
package main

import (
	"fmt"
	"os"

	"github.com/evictgate/evictgate/test/harness/node/container"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "enter: want one argument")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "cannot start the container:", container.Enter(os.Args[1]))
	os.Exit(128)
}
