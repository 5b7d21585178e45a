package webhook

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/webhook/listen"
)

func TestTheDocumentedLimitsAreThePrograms(t *testing.T) {
	raw, err := os.ReadFile("../docs/serving-limits.md")
	if err != nil {
		t.Fatal(err)
	}
	const largeCost = copies*maxBody + valueCost*maxValues // what a large review takes in memory at most
	page := strings.Join(strings.Fields(string(raw)), " ")
	for _, want := range []string{
		fmt.Sprintf("| one review | %d MiB (%d bytes) |", maxBody>>20, maxBody),
		fmt.Sprintf("| JSON values in a review | %d |", maxValues),
		fmt.Sprintf("| small reviews, up to %d KiB, decided at once | %d |", smallBody>>10, inFlight),
		fmt.Sprintf("| small reviews that arrive or wait | %d |", smallWaiting),
		fmt.Sprintf("while they arrive | %d MiB, counting each twice |", largeArriving>>20),
		fmt.Sprintf("| larger reviews decided at once | half the processors, 1 to %d |", largeMost),
		fmt.Sprintf("| larger reviews that arrive or wait | %d |", largeWaiting),
		fmt.Sprintf("| webhook | %d |", webhookConnections),
		fmt.Sprintf("| metrics, health | %d each |", sideConnections),
		fmt.Sprintf("a header has %d KiB", listen.MaxHeader>>10),
		fmt.Sprintf("small ones are decided %d at a time", inFlightTight),
		fmt.Sprintf("first %d KiB, where the API server writes it", maxHead>>10),
		fmt.Sprintf("| of callers that are not known: small and larger reviews decided at once | %d; %d |", strangersInFlight, strangersLarge),
		fmt.Sprintf("come to %d MiB at most", (smallWaiting*smallBody+(inFlight+strangersInFlight)*smallCost+largeArriving+(largeMost+strangersLarge)*largeCost)>>20),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/serving-limits.md lacks %q", want)
		}
	}
	for _, reason := range shedReasons() {
		if !strings.Contains(page, "`"+reason+"`") {
			t.Errorf("docs/serving-limits.md does not say what reason %s of evictgate_reviews_shed_total is", reason)
		}
	}
	if !strings.Contains(tooLarge.text, fmt.Sprint(maxBody)) || !strings.Contains(tooManyValues.text, fmt.Sprint(maxValues)) {
		t.Error("a sentence names another limit")
	}
}
