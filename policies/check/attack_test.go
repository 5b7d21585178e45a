package check

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/policytest"
)

// The sample attacks, in our own form.
func TestAttacksAreRefused(t *testing.T) {
	list, err := filepath.Glob("testdata/attack/*.rego")
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	in, err := policies.ParseInput([]byte(policytest.Eviction))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before := allocated()
			set, problems := Files([]policies.File{{Name: file, Data: data}}, file)
			failed := len(problems) > 0
			if set != nil {
				failed = failed || len(set.Evaluate(t.Context(), in, policies.Options{}).Failures) > 0
			}
			if made := allocated() - before; !failed || made > mostMade {
				t.Errorf("failed: %t; made %d MiB", failed, made>>20)
			}
		})
	}
}

// mostMade is what one file makes at most, dead values included.
const mostMade = 512 << 20

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
