// Command release says what evictgate is made of: it checks the licence of every linked module, writes the
// notices that a copy of the program must carry, and its bill of materials. `make verify`, `make image` and
// `make sbom` run it.
//
//	release licences           checks; what is printed is wrong
//	release notices            prints the third-party notices
//	release sbom PROGRAM       prints the bill of materials of a built program, as SPDX 2.3
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	root := flag.String("root", "../../..", "the project's directory")
	flag.Parse()
	if err := run(context.Background(), *root, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, args []string, to io.Writer) error {
	components, err := linked(ctx, root)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(to)
	switch {
	case len(args) == 1 && args[0] == "licences":
		err = check(components)
	case len(args) == 1 && args[0] == "notices":
		err = writeNotices(out, components)
	case len(args) == 2 && args[0] == "sbom":
		err = writeSBOM(ctx, out, args[1], components)
	default:
		err = errors.New("usage: release licences | notices | sbom PROGRAM")
	}
	return errors.Join(err, out.Flush())
}
