package record

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

func TestAMaskThatCannotBeIsRefusedWithASentence(t *testing.T) {
	for path, want := range map[string]string{
		"":                                  "mask : expected a path below input or request, such as input.pod.spec.containers[].env",
		"result.message":                    "mask result.message: expected a path below input or request, such as input.pod.spec.containers[].env",
		"input":                             "mask input: it is too wide; name the parts of it",
		"request":                           "mask request: it is too wide; name the parts of it",
		"inputs.pod":                        `mask inputs.pod: s.pod: expected .name, ["key"] or []`,
		"input.":                            `mask input.: .: expected a name after the dot; other keys are written ["key"]`,
		"input.pod.":                        `mask input.pod.: .: expected a name after the dot; other keys are written ["key"]`,
		`input["pod]`:                       `mask input["pod]: ["pod]: expected ["key"] with both quotes and the bracket`,
		`input.pod["metadata"`:              `mask input.pod["metadata": ["metadata": expected ["key"] with both quotes and the bracket`,
		"input.pod[0]":                      `mask input.pod[0]: [0]: expected .name, ["key"] or []`,
		"input.pod.metdata":                 `mask input.pod.metdata: input["pod"] has no field metdata`,
		"input.pod.spec.containers.env":     `mask input.pod.spec.containers.env: input["pod"]["spec"]["containers"] is a list; write [] after it`,
		"input.pod[]":                       `mask input.pod[]: input["pod"] is not a list`,
		"input.request.user.username.first": `mask input.request.user.username.first: input["request"]["user"]["username"] holds no keys, so none that is "first"`,
		"request.name":                      "mask request.name: it says which decision the record is of, and cannot be taken out",
		"input.pod.metadata.uid":            "mask input.pod.metadata.uid: it says which decision the record is of, and cannot be taken out",
		"input.disruption.detail":           "mask input.disruption.detail: the result says the same, and is not masked",
		"input.pod.metadata.annotations.example.com/secret": `mask input.pod.metadata.annotations.example.com/secret: .com/secret: expected a name after the dot; other keys are written ["key"]`,
	} {
		if _, err := ReadMask(path); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", path, err, want)
		}
	}
	if _, err := ReadMasks([]string{"x", "input.node.labels", "y"}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two are wrong: %v", err)
	}
}

// secretive is a decision that has the word secret in many places.
func secretive(t *testing.T) (*policies.Input, *policies.Reading, *policies.Decision) {
	t.Helper()
	set, err := source.Compile([]policies.File{{Name: "x.rego", Data: []byte(`package eviction.x

warn contains {"reason": "r", "detail": {}} if {
	input.pod
	input.request
	input.node
	input.peers
}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	env := []corev1.EnvVar{{Name: "PASSWORD", Value: "secret"}}
	in := &policies.Input{
		Now: metav1.NewTime(noon),
		Request: policies.Request{
			UID: "u", Namespace: "shop", Name: "web-0", User: policies.User{Username: "secret", Groups: []string{"secret", "b"}},
			Annotations: map[string]string{policies.OverrideAnnotation: "secret", "example.com/a~b": "secret", "plain": "yes"},
		},
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web-0", Annotations: map[string]string{"example.com/secret": "secret", "b": "c"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Env: env}, {Name: "b"}, {Name: "c", Env: env}}},
		},
		Node:  &policies.Node{Labels: map[string]string{"rack": "secret"}},
		Peers: []policies.Peer{{Name: "web-1", Node: "secret"}, {Name: "web-2", Node: "secret"}},
	}
	reading := set.Read(in)
	d := reading.Evaluate(t.Context(), policies.Options{Override: policies.OverrideRule{Users: []string{"secret"}}})
	return in, reading, d
}

func TestWhatAMaskTakesOutIsNowhereInTheRecord(t *testing.T) {
	for name, tt := range map[string]struct {
		masks, want []string
	}{
		"an annotation of the pod":         {[]string{`input.pod.metadata.annotations["example.com/secret"]`}, []string{"/input/pod/metadata/annotations/example.com~1secret"}},
		"all annotations of the pod":       {[]string{"input.pod.metadata.annotations"}, []string{"/input/pod/metadata/annotations"}},
		"the environment of containers":    {[]string{"input.pod.spec.containers[].env"}, []string{"/input/pod/spec/containers/0/env", "/input/pod/spec/containers/2/env"}},
		"the value of variables":           {[]string{"input.pod.spec.containers[].env[].value"}, []string{"/input/pod/spec/containers/0/env/0/value", "/input/pod/spec/containers/2/env/0/value"}},
		"every container":                  {[]string{"input.pod.spec.containers[]"}, []string{"/input/pod/spec/containers/0", "/input/pod/spec/containers/1", "/input/pod/spec/containers/2"}},
		"the pod":                          {[]string{"input.pod"}, []string{"/input/pod"}},
		"nothing that is there":            {[]string{`input.pod.metadata.annotations["other"]`, "input.pod.spec.initContainers[].env", `request.annotations["none"]`, "input.claims[].name"}, nil},
		"the same twice":                   {[]string{"input.node.labels.rack", `input["node"]["labels"]["rack"]`}, []string{"/input/node/labels/rack"}},
		"an annotation of the Eviction":    {[]string{`request.annotations["example.com/a~b"]`}, []string{"/input/request/annotations/example.com~1a~0b", "/request/annotations/example.com~1a~0b"}},
		"the same by its other name":       {[]string{`input.request.annotations["example.com/a~b"]`}, []string{"/input/request/annotations/example.com~1a~0b", "/request/annotations/example.com~1a~0b"}},
		"the reason of an override":        {[]string{`request.annotations["evictgate.dev/override"]`}, []string{"/input/request/annotations/evictgate.dev~1override", "/request/annotations/evictgate.dev~1override", "/result/override/reason"}},
		"all annotations of the Eviction":  {[]string{"request.annotations"}, []string{"/input/request/annotations", "/request/annotations", "/result/override/reason"}},
		"the user":                         {[]string{"request.user"}, []string{"/input/request/user", "/request/user/username", "/requested_by", "/request/user/groups"}},
		"the user's name":                  {[]string{"input.request.user.username"}, []string{"/input/request/user/username", "/request/user/username", "/requested_by"}},
		"the user's groups":                {[]string{"input.request.user.groups"}, []string{"/input/request/user/groups", "/request/user/groups"}},
		"a field of every peer, and a pod": {[]string{"input.peers[].node", "input.pod"}, []string{"/input/peers/0/node", "/input/peers/1/node", "/input/pod"}},
	} {
		t.Run(name, func(t *testing.T) {
			in, reading, d := secretive(t)
			plain, err := New(in, reading, d, nil)
			if err != nil {
				t.Fatal(err)
			}
			before := decoded(t, plain)
			masks, err := ReadMasks(tt.masks)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Recording{Masks: masks}.Record(in, reading, d, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.Erased); diff != "" {
				t.Errorf("erased: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(without(t, before, tt.want), decoded(t, r), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the record: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(before, decoded(t, plain)); diff != "" {
				t.Errorf("the decision itself was changed:\n%s", diff)
			}
		})
	}
}

// decoded is a record as JSON reads it, but for erased.
func decoded(t *testing.T, r Record) map[string]any {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "erased")
	return v
}

// without is the value without what JSON pointers lead to: what is below the input is deleted, members of
// lists are null, and the rest of a record, whose keys are always there, is empty.
func without(t *testing.T, value map[string]any, pointers []string) map[string]any {
	t.Helper()
	raw, _ := json.Marshal(value)
	var copied map[string]any
	if err := json.Unmarshal(raw, &copied); err != nil {
		t.Fatal(err)
	}
	for _, pointer := range pointers {
		keys := strings.Split(pointer, "/")[1:]
		var at any = copied
		for i, key := range keys {
			key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
			last := i == len(keys)-1
			switch v := at.(type) {
			case map[string]any:
				if _, ok := v[key]; !ok {
					t.Fatalf("%s was not there", pointer)
				}
				_, text := v[key].(string)
				switch {
				case !last:
				case keys[0] == "input", len(keys) == 3 && keys[1] == "annotations":
					delete(v, key)
				case text:
					v[key] = ""
				default:
					v[key] = nil
				}
				at = v[key]
			case []any:
				i := slices.Index([]string{"0", "1", "2", "3"}, key)
				if last {
					v[i] = nil
				}
				at = v[i]
			}
		}
	}
	return copied
}

func TestAMaskedSecretIsGoneAltogether(t *testing.T) {
	in, reading, d := secretive(t)
	d.Warnings = nil // messages are not masked
	masks, err := ReadMasks([]string{
		"request.user", "request.annotations", `input.pod.metadata.annotations["example.com/secret"]`,
		"input.pod.spec.containers[].env", "input.node.labels", "input.peers[].node",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, full := range []bool{false, true} {
		r, err := Recording{Masks: masks, Full: full}.Record(in, reading, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Erased = nil
		raw, err := r.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "secret") {
			t.Errorf("full %v: %s", full, raw)
		}
	}
}

// What is hostile in an input goes through a mask unchanged.
func TestAMaskChangesNothingElse(t *testing.T) {
	masks, err := ReadMasks([]string{`input.node.labels["gone"]`})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		labels := rapid.MapOfN(rapid.String(), rapid.String(), 0, 4).Draw(t, "labels")
		number := rapid.SampledFrom([]string{"1", "1.0", "1e400", "123456789012345678901234567890", "-0"}).Draw(t, "number")
		labels["gone"] = "x"
		list, _ := json.Marshal(labels)
		r := Record{Input: json.RawMessage(`{"n":` + number + `,"node":{"labels":` + string(list) + `}}`)}
		if err := masks.apply(&r); err != nil {
			t.Fatalf("apply: %v", err)
		}
		delete(labels, "gone")
		list, _ = json.Marshal(labels)
		if diff := cmp.Diff(`{"n":`+number+`,"node":{"labels":`+string(list)+`}}`, string(r.Input)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

func TestWholeInputsAreRecorded(t *testing.T) {
	in, reading, d := secretive(t)
	r, err := Recording{Full: true}.Record(in, reading, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got policies.Input
	if err := json.Unmarshal(r.Input, &got); err != nil {
		t.Fatal(err)
	}
	in.Parameters = map[string]any{}
	if diff := cmp.Diff(in, &got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-gathered +recorded:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"input"}, r.InputRefs); diff != "" {
		t.Error(diff)
	}
}
