package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
)

// file writes text to a file of the test.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	podYAML    = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: web-0, labels: {app: web}}\nstatus: {phase: Running}\n"
	budgetYAML = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {namespace: shop, name: web}\nspec: {selector: {matchLabels: {app: web}}}\n"
	routeYAML  = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: web}\n"
)

// item indents a document as an item of a list.
func item(doc string) string {
	return "- " + strings.TrimSuffix(strings.ReplaceAll(doc, "\n", "\n  "), "  ")
}

func TestReadSnapshot(t *testing.T) {
	const list = "apiVersion: v1\nkind: List\nitems:\n"
	podJSON := `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop","name":"web-0","labels":{"app":"web"}},"status":{"phase":"Running"}}`
	budgetJSON := `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"namespace":"shop","name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}}}}`
	for name, tt := range map[string]struct {
		text    string
		skipped int
	}{
		"a list, as kubectl get prints it":     {list + item(podYAML) + item(budgetYAML), 0},
		"several documents":                    {"---\n" + podYAML + "---\n# nothing\n---\n" + budgetYAML + "---\n", 0},
		"lists and documents":                  {list + item(podYAML) + "---\n" + budgetYAML, 0},
		"a list of one kind, as the API gives": {"apiVersion: v1\nkind: PodList\nitems:\n" + item(podYAML) + "---\n" + budgetYAML, 0},
		"a list in a list":                     {list + item(list+item(podYAML)) + item(budgetYAML), 0},
		"JSON":                                 {`{"apiVersion":"v1","kind":"List","items":[` + podJSON + "," + budgetJSON + `]}`, 0},
		"JSON, one after the other":            {podJSON + "\n" + budgetJSON, 0},
		"unknown kinds, and kinds not read":    {list + item(podYAML) + item(routeYAML) + item(budgetYAML) + item("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ReadSnapshot(file(t, tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if s.Objects != 2 || s.Skipped != tt.skipped {
				t.Errorf("%d objects and %d skipped, want 2 and %d", s.Objects, s.Skipped, tt.skipped)
			}
			pod, ok := s.Pod("shop", "web-0")
			if !ok || pod.Status.Phase != corev1.PodRunning {
				t.Fatalf("the pod is not there: %v", pod)
			}
			if b := s.budgets.matching(pod); len(b) != 1 || b[0].Name != "web" {
				t.Errorf("budgets: %v", b)
			}
		})
	}
}

func TestReadSnapshotTellsWhatIsWrong(t *testing.T) {
	const none = ": no object that a decision reads; make one with: kubectl get pods,pdb,nodes,deploy,rs,sts,ds,ns -A -o yaml"
	for name, tt := range map[string]struct{ text, want string }{
		"an empty file":                    {"", none},
		"nothing that is read":             {routeYAML, none},
		"a broken document":                {podYAML + "---\n" + budgetYAML + "---\nspec: [\n", ": document 3: "},
		"a document that is not an object": {podYAML + "---\na: b\n", ": document 2: Object 'Kind' is missing in"},
		"a value of the wrong type":        {"apiVersion: v1\nkind: List\nitems:\n" + item(podYAML) + item(strings.Replace(budgetYAML, "{app: web}", "[app]", 1)), ": document 1: items[1]: "},
	} {
		t.Run(name, func(t *testing.T) {
			name := file(t, tt.text)
			_, err := ReadSnapshot(name)
			if want := "read snapshot " + name + tt.want; err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	if _, err := ReadSnapshot("/nope"); err == nil || err.Error() != "read snapshot: open /nope: no such file or directory" {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What no decision reads is not kept in memory.
func TestASnapshotIsTrimmed(t *testing.T) {
	p := pod("web-0", nil)
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	p.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "a": "b"}
	got, _ := storeOf(t, p).Pod("shop", "web-0")
	want := pod("web-0", nil)
	want.Annotations = map[string]string{"a": "b"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestGatherSample(t *testing.T) {
	sample := file(t, podYAML+"---\n"+budgetYAML)
	r := policies.Request{
		UID: "suite", Namespace: "shop", Name: "web-0", User: policies.User{Username: "system:serviceaccount:kube-system:descheduler", Groups: []string{"g"}},
		Annotations: map[string]string{"reason": "r"}, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr[int64](1)},
	}
	in, err := GatherSample([]string{sample}, r, now, policies.EverythingNeeded())
	if err != nil {
		t.Fatal(err)
	}
	want := r
	want.Evictor = "descheduler"
	if diff := gocmp.Diff(want, in.Request); diff != "" {
		t.Errorf("request -want +got:\n%s", diff)
	}
	if in.Pod == nil || in.Disruption.Code != 429 || !in.Now.Time.Equal(now) {
		t.Errorf("pod %v, disruption %+v, now %s", in.Pod, in.Disruption, in.Now)
	}
	r.User = policies.User{Username: "admin"}
	if in, _ := GatherSample([]string{sample}, r, now, policies.EverythingNeeded()); in == nil || in.Request.Evictor != "user" {
		t.Errorf("of an administrator: %+v", in)
	}
	r.Name = "gone"
	if _, err := GatherSample([]string{sample}, r, now, policies.EverythingNeeded()); err == nil || err.Error() != "the samples have no pod shop/gone" {
		t.Errorf("without the pod: %v", err)
	}
}
