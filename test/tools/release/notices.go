package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// writeNotices prints what a copy of the program must carry: of every component each text once, under the
// components and files that have it.
func writeNotices(w io.Writer, components []component) error {
	fmt.Fprint(w, `Third-party notices of evictgate

Evictgate is licensed under the Apache License 2.0, see LICENSE. It contains the components below, each under its
own terms, which follow the list. "go mod download MODULE@VERSION" fetches the source of each.

`)
	var order []string
	users := map[string][]string{}
	for _, c := range components {
		ids, err := c.licences()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s@%s: %s\n", c.path, c.version, strings.Join(ids, ", "))
		for _, t := range c.texts {
			body := string(bytes.TrimSpace(t.body))
			if users[body] == nil {
				order = append(order, body)
			}
			users[body] = append(users[body], c.path+" "+t.name)
		}
	}
	for _, body := range order {
		_, err := fmt.Fprintf(w, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(users[body], "\n"), body)
		if err != nil {
			return err
		}
	}
	return nil
}
