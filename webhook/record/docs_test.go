package record

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestTheDocumentHasTheBounds holds docs/record-limits.md to what is built.
func TestTheDocumentHasTheBounds(t *testing.T) {
	raw, err := os.ReadFile("../../docs/record-limits.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, row := range []string{
		fmt.Sprintf("| name of the user | %d bytes |", maxUser),
		fmt.Sprintf("| groups of the user | %d, each %d bytes |", maxGroups, maxGroup),
		fmt.Sprintf("| value of an annotation | %d bytes |", maxAnnotation),
		fmt.Sprintf("| annotations | %d bytes of names and values, those of `evictgate.dev` first; of more than %d ", maxAnnotations, maxNamed),
		fmt.Sprintf("| reason of an override | %d bytes |", maxOverride),
		fmt.Sprintf("| texts of the result | %d bytes; in one with more, %d bytes for each text and detail, and %d members in each list |", maxResult, maxFinding, maxFindings),
		fmt.Sprintf("| the input | %d MiB |", maxInput>>20),
		fmt.Sprintf("| for standard output | %d records that hold %d MiB |", queueLength, maxQueued>>20),
		fmt.Sprintf("`--record-queue` records of %d MiB", maxWaitingBytes>>20),
		fmt.Sprintf("| to be sent at once | %d MiB |", maxBatchBytes>>20),
	} {
		if !strings.Contains(text, row) {
			t.Errorf("the document lacks %q", row)
		}
	}
}
