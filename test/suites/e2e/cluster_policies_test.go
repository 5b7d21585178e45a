package e2e

import (
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/test/harness/gate"
)

func TestTheProgramServesTheClustersPolicies(t *testing.T) {
	plane := ownPlane(t)
	if err := plane.InstallCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	g, err := gate.Start(t.Context(), gate.Options{
		Plane: plane, Binary: shared.binary, Policies: &metav1.LabelSelector{},
		Args: []string{"--policies", "cluster", "--policies", "default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Stop() })
	if _, stderr, err := apply(t.Context(), plane, inline("broken", typeError)); err == nil || !strings.Contains(stderr, "spec.rego: 3:72: input.pod.metadata has no field lables; did you mean labels?") {
		t.Errorf("%v: %s", err, stderr)
	}
	mustApply(t, plane, inline("closed", strings.ReplaceAll(typeError, " if input.pod.metadata.lables.app", "")))
	awaitPolicy(t, plane, "closed", "ready", isReady)
	pod(t, plane, "web")
	refused := 0
	for refused < 4 {
		if s := status(t, tryEvict(t, plane, "web", nil)); s.Code != http.StatusForbidden {
			t.Fatalf("%+v", s)
		}
		refused++
	}
	// The commands that only look see the same policies.
	for _, args := range [][]string{{"policy", "eval", "default/web"}, {"preview", "pod/default/web"}} {
		out, err := exec.Command(shared.binary, append(args, "--kubeconfig", plane.Kubeconfig, "--policies", "cluster")...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "denied 403") || !strings.Contains(string(out), "(policy closed)") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if err := g.Terminate(); err != nil { // before its interval of half a minute
		t.Error(err)
	}
	awaitPolicy(t, plane, "closed", "counted", func(p *v1alpha1.EvictionPolicy) bool { return p.Status.Counts.Refused == 4 })
}
