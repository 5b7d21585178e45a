package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

// reader answers every live read with the same.
type reader struct {
	obj runtime.Object
	err error
}

func (r reader) Object(context.Context, string, string, string) (runtime.Object, error) {
	return r.obj, r.err
}

// onePod is a cache that knows a pod, but not its namespace yet.
const onePod = `apiVersion: v1
kind: Pod
metadata: {name: young, namespace: shop, uid: u1}
status: {phase: Running}
`

const byNamespace = `package eviction.guarded

deny contains {"reason": "the namespace is guarded", "detail": {}} if input.namespace.labels.guarded == "true"

delay contains {"reason": "the pod is loud", "detail": {}} if input.request.annotations.loud == "true"
`

func TestANamespaceThatIsNotKnownYetLetsNothingPass(t *testing.T) {
	guarded := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"guarded": "true"}}}
	free := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	away := errors.New("connection refused")
	for name, tt := range map[string]struct {
		reader    reader
		loud      bool
		code      int32
		message   string
		confirmed []string
	}{
		"it is guarded": {reader{obj: guarded}, false, http.StatusForbidden, "the namespace is guarded", []string{"namespace"}},
		"it is not":     {reader{obj: free}, false, http.StatusOK, "", []string{"namespace"}},
		"nobody says":   {reader{err: away}, false, http.StatusTooManyRequests, "evictgate could not decide this eviction: the Namespace of the pod is not known for sure", nil},
		"nobody says, but a refusal stands as is": {reader{err: away}, true, http.StatusTooManyRequests, "the pod is loud", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var lines bytes.Buffer
			g := newGate(t, &lines)
			g.Cluster = &cluster.Gatherer{Store: storeWith(t, onePod), Objects: tt.reader}
			set, err := source.Compile([]policies.File{{Name: "guarded.rego", Data: []byte(byNamespace)}})
			if err != nil {
				t.Fatal(err)
			}
			g.Policies = func() *policies.Set { return set }
			body := review("young", nil)
			if tt.loud {
				body = bytes.Replace(body, []byte(`"metadata":{`), []byte(`"metadata":{"annotations":{"loud":"true"},`), 1)
			}
			got := answer(t, post(front(g), hooks.EvictionsPath, body))
			code, message := int32(http.StatusOK), ""
			if !got.Allowed {
				code, message = got.Result.Code, got.Result.Message
			}
			if code != tt.code || !strings.Contains(message, tt.message) {
				t.Errorf("answered %d %q", code, message)
			}
			g.Records.Close()
			var r record.Record
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			var confirmed []string
			if r.Basis != nil {
				confirmed = r.Basis.Confirmed
			}
			if !slices.Equal(confirmed, tt.confirmed) {
				t.Errorf("the record has %v as confirmed", confirmed)
			}
		})
	}
}

func storeWith(t *testing.T, objects string) *cluster.Store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(file, []byte(objects), 0o600); err != nil {
		t.Fatal(err)
	}
	snapshot, err := cluster.ReadSnapshot(file)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Store
}
