package source

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

func TestADirectoryIsBounded(t *testing.T) {
	many := fstest.MapFS{}
	for i := range maxEntries {
		many[fmt.Sprintf("f%d.txt", i)] = &fstest.MapFile{}
	}
	large := fstest.MapFS{"a.rego": {Data: make([]byte, maxSources)}, "b.rego": {Data: []byte("x")}}
	for want, fsys := range map[string]fstest.MapFS{
		"there are more than 20000 files and directories": many,
		"the policies have more than 32 MiB; see b.rego":  large,
	} {
		if _, err := readFS(fsys); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
