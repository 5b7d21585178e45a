package suite

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// explained is what becomes of the only policy of a set, as lines.
func explained(t *testing.T, in *policies.Input, files ...policies.File) []string {
	t.Helper()
	set, err := source.Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Explain(t.Context(), set.Read(in), policies.Options{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d explanations: %v", len(list), err)
	}
	if list[0].Excluded != "" {
		return []string{list[0].Excluded}
	}
	var lines []string
	for _, r := range list[0].Rules {
		for _, v := range r.Violations {
			lines = append(lines, fmt.Sprintf("%s %s fired: %s", r.Effect, r.Place, v.Reason))
		}
		if r.Error != "" {
			lines = append(lines, fmt.Sprintf("%s %s failed: %s", r.Effect, r.Place, r.Error))
		}
		if r.Unmet != nil {
			lines = append(lines, unmetLines(string(r.Effect)+" ", *r.Unmet)...)
		}
	}
	return lines
}

func unmetLines(head string, u Unmet) []string {
	lines := []string{fmt.Sprintf("%s%s %s | %s", head, u.Place, u.Expression, u.Why)}
	for _, b := range u.Because {
		lines = append(lines, unmetLines("  "+strings.Repeat(" ", len(head)-len(strings.TrimLeft(head, " "))), b)...)
	}
	return lines
}

func TestExplain(t *testing.T) {
	for name, tt := range map[string]struct {
		rules string
		want  []string
	}{
		"a comparison": {
			"delay contains \"x\" if {\n\tready := input.owner.ready_replicas\n\tready <= input.parameters.least\n}",
			[]string{"delay x.rego:5:2 ready <= input.parameters.least | 3 <= 1 is false"},
		},
		"the right side is looked up": {
			"delay contains \"x\" if \"db\" == input.owner.name",
			[]string{`delay x.rego:3:23 "db" == input.owner.name | "db" == "web" is false`},
		},
		"what is null": {
			"delay contains \"x\" if input.node.labels.zone == \"a\"",
			[]string{`delay x.rego:3:23 input.node.labels.zone == "a" | input.node is null`},
		},
		"what is not there": {
			"delay contains \"x\" if input.pod.metadata.labels.nope == \"a\"",
			[]string{`delay x.rego:3:23 input.pod.metadata.labels.nope == "a" | input.pod.metadata.labels.nope is undefined`},
		},
		"an empty collection": {
			"delay contains peer.name if some peer in input.peers",
			[]string{"delay x.rego:3:29 some peer in input.peers | input.peers has no member"},
		},
		"the farthest of several values": {
			"delay contains \"x\" if {\n\tsome n in [3, 7, 5]\n\tn > 4\n\tn == 6\n}",
			[]string{"delay x.rego:6:2 n == 6 | 7 == 6 is false, nor for 1 other value"},
		},
		"a negation": {
			"delay contains \"x\" if not input.owner.name == \"web\"",
			[]string{`delay x.rego:3:23 not input.owner.name == "web" | "web" == "web" is true`},
		},
		"a negated helper": {
			"delay contains \"x\" if not _up\n\n_up if input.owner.ready_replicas > 1",
			[]string{"delay x.rego:3:23 not _up | _up is true"},
		},
		"a helper, and what it stopped at": {
			"delay contains \"x\" if _down\n\n_down if input.owner.ready_replicas < 1\n\n_down if input.owner.name == \"db\"",
			[]string{
				"delay x.rego:3:23 _down | _down is undefined",
				"  x.rego:5:10 input.owner.ready_replicas < 1 | 3 < 1 is false",
				`  x.rego:7:10 input.owner.name == "db" | "web" == "db" is false`,
			},
		},
		"a function, for its own arguments": {
			"delay contains \"x\" if {\n\t_big(9)\n\t_big(2)\n}\n\n_big(n) if n > 5",
			[]string{"delay x.rego:5:2 _big(2) | _big(2) is undefined or false", "  x.rego:8:12 n > 5 | 2 > 5 is false"},
		},
		"a function that is negated": {
			"delay contains \"x\" if not _big(9)\n\n_big(n) if n > 5",
			[]string{"delay x.rego:3:23 not _big(9) | _big(9) is true"},
		},
		"a set of helpers": {
			"delay contains h if some h in _holds\n\n_holds contains \"a\" if input.owner.name == \"db\"",
			[]string{"delay x.rego:3:21 some h in _holds | _holds has no member", `  x.rego:5:24 input.owner.name == "db" | "web" == "db" is false`},
		},
		"every": {
			"delay contains \"x\" if every n in [1, 2] { n < 2 }",
			[]string{"delay x.rego:3:23 every n in [1, 2] { n < 2 } | it does not hold for every member"},
		},
		"a call": {
			"delay contains \"x\" if startswith(input.owner.name, \"d\")",
			[]string{`delay x.rego:3:23 startswith(input.owner.name, "d") | startswith("web", "d") is false`},
		},
		"over several lines, under other values": {
			"delay contains \"x\" if {\n\t_ready == 3 with input as {\n\t\t\"owner\": {\"ready_replicas\": 4},\n\t}\n}\n\n_ready := input.owner.ready_replicas",
			[]string{`delay x.rego:4:2 _ready == 3 with input as { "owner": {"ready_replicas": 4}, } | 4 == 3 is false`},
		},
		"rules that fire, beside one that does not": {
			"deny contains {\"reason\": $\"{input.owner.name} is held\", \"detail\": {}}\n\ndelay contains \"x\" if input.owner.name == \"db\"\n\nwarn contains $\"n is {n}\" if some n in [1, 2]",
			[]string{
				"deny x.rego:3:1 fired: web is held",
				`delay x.rego:5:23 input.owner.name == "db" | "web" == "db" is false`,
				"warn x.rego:7:1 fired: n is 1", "warn x.rego:7:1 fired: n is 2",
			},
		},
		"a builtin that fails": {
			"delay contains \"x\" if time.parse_rfc3339_ns(input.owner.name) > 3",
			[]string{`delay x.rego:3:1 failed: x.rego:3:23: time.parse_rfc3339_ns: parsing time "web" as "2006-01-02T15:04:05Z07:00": cannot parse "web" as "2006"`},
		},
		"a member without a reason": {
			"delay contains {\"reason\": input.owner.uid, \"detail\": {}}",
			[]string{`delay x.rego:3:1 failed: x.rego: a member of delay has no reason: map[detail:map[] reason:]; write {"reason": "…", "detail": {…}}`},
		},
		"a rule that the parameters alone decide": {
			"delay contains \"x\" if some w in _windows\n\n_windows contains w if {\n\tsome w in input.parameters.windows\n\tw.open\n}",
			[]string{
				"delay x.rego:3:23 some w in _windows | _windows has no member",
				"  x.rego:6:2 some w in input.parameters.windows | input.parameters.windows is undefined",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputFor()
			in.Owner = &policies.Owner{Kind: "Deployment", Name: "web", ReadyReplicas: new(int32(3))}
			var got []string
			for _, line := range explained(t, in, bind("x", "parameters: {least: 1}\n"+inline("x", tt.rules))) {
				got = append(got, strings.NewReplacer("x.yaml (x spec.rego)", "x.rego", "x.yaml:", "x.rego:").Replace(line))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestExplainSaysWhyAPolicyIsNotAsked(t *testing.T) {
	now := metav1.Now()
	for name, tt := range map[string]struct {
		match  string
		change func(*policies.Input)
		want   string
	}{
		"another namespace": {
			"{namespaceSelector: {matchLabels: {team: a}}}", func(*policies.Input) {},
			"spec.match does not select this eviction: its namespaceSelector (team=a) does not select namespace shop",
		},
		"another pod": {
			"{podSelector: {matchLabels: {app: db}}}", func(*policies.Input) {},
			"spec.match does not select this eviction: its podSelector (app=db) does not select the pod",
		},
		"another evictor": {
			"{evictors: [{kind: karpenter}]}", func(*policies.Input) {},
			"spec.match does not select this eviction: its evictors do not name admin (user)",
		},
		"a pod in another state": {
			"{podState: {crashLooping: true}}", func(*policies.Input) {},
			"spec.match does not select this eviction: its podState does not fit the pod",
		},
		"an exclude": {
			"{excludes: [{evictors: [{kind: karpenter}]}, {evictors: [{user: admin}]}]}", func(*policies.Input) {},
			"spec.match.excludes[1] leaves this eviction out",
		},
		"a pod that is not known":   {"{}", func(in *policies.Input) { in.Pod = nil }, "the pod is not known"},
		"a pod that is Pending":     {"{}", func(in *policies.Input) { in.Pod.Status.Phase = "Pending" }, "the pod is Pending, so it is admitted without asking policies"},
		"a pod that is terminating": {"{}", func(in *policies.Input) { in.Pod.DeletionTimestamp = &now }, "the pod is terminating, so it is admitted without asking policies"},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputFor()
			tt.change(in)
			if diff := cmp.Diff([]string{tt.want}, explained(t, in, bind("x", "library: require_budget\nmatch: "+tt.match))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
