package policies

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

func TestMatch(t *testing.T) {
	labelled := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	scope := func(s v1alpha1.Scope) *v1alpha1.Match { return &v1alpha1.Match{Scope: s} }
	excludes := func(s ...v1alpha1.Scope) *v1alpha1.Match { return &v1alpha1.Match{Excludes: s} }
	evictors := func(e ...v1alpha1.EvictorMatch) v1alpha1.Scope { return v1alpha1.Scope{Evictors: e} }
	noNamespace := func(in *Input) { in.Namespace = nil }
	// The eviction is of pod app=web in namespace tier=prod, by user admin of group ops.
	for name, tt := range map[string]struct {
		match          *v1alpha1.Match
		change         func(*Input)
		want           bool
		readsNamespace bool
	}{
		"no match matches":                    {match: nil, want: true},
		"an empty match matches":              {match: &v1alpha1.Match{}, want: true},
		"the namespace's label":               {match: scope(v1alpha1.Scope{NamespaceSelector: labelled("tier", "prod")}), want: true, readsNamespace: true},
		"another namespace":                   {match: scope(v1alpha1.Scope{NamespaceSelector: labelled("tier", "test")}), want: false, readsNamespace: true},
		"any namespace":                       {match: scope(v1alpha1.Scope{NamespaceSelector: &metav1.LabelSelector{}}), want: true, readsNamespace: true},
		"a namespace that is not known":       {match: scope(v1alpha1.Scope{NamespaceSelector: &metav1.LabelSelector{}}), change: noNamespace, want: false, readsNamespace: true},
		"the pod's label":                     {match: scope(v1alpha1.Scope{PodSelector: labelled("app", "web")}), want: true},
		"another pod":                         {match: scope(v1alpha1.Scope{PodSelector: labelled("app", "db")}), want: false},
		"namespace and pod must both fit":     {match: scope(v1alpha1.Scope{NamespaceSelector: labelled("tier", "prod"), PodSelector: labelled("app", "db")}), want: false, readsNamespace: true},
		"the kind of evictor":                 {match: scope(evictors(v1alpha1.EvictorMatch{Kind: "user"})), want: true},
		"one of several evictors":             {match: scope(evictors(v1alpha1.EvictorMatch{Kind: "kured"}, v1alpha1.EvictorMatch{User: "admin"})), want: true},
		"none of several evictors":            {match: scope(evictors(v1alpha1.EvictorMatch{Kind: "kured"}, v1alpha1.EvictorMatch{User: "root"})), want: false},
		"a group":                             {match: scope(evictors(v1alpha1.EvictorMatch{Group: "ops"})), want: true},
		"all that an evictor states must fit": {match: scope(evictors(v1alpha1.EvictorMatch{Kind: "user", User: "admin", Group: "dev"})), want: false},
		"an exclude that fits":                {match: excludes(v1alpha1.Scope{PodSelector: labelled("app", "web")}), want: false},
		"an exclude that does not fit":        {match: excludes(v1alpha1.Scope{PodSelector: labelled("app", "db")}), want: true},
		"one of two excludes fits":            {match: excludes(v1alpha1.Scope{PodSelector: labelled("app", "db")}, evictors(v1alpha1.EvictorMatch{Group: "ops"})), want: false},
		"an exclude fits only as a whole":     {match: excludes(v1alpha1.Scope{PodSelector: labelled("app", "web"), Evictors: []v1alpha1.EvictorMatch{{Kind: "kured"}}}), want: true},
		"an exclude by namespace":             {match: excludes(v1alpha1.Scope{NamespaceSelector: labelled("tier", "prod")}), want: false, readsNamespace: true},
		"an exclude by an unknown namespace":  {match: excludes(v1alpha1.Scope{NamespaceSelector: labelled("tier", "prod")}), change: noNamespace, want: true, readsNamespace: true},
		"an exclude beats the scope":          {match: &v1alpha1.Match{Scope: v1alpha1.Scope{PodSelector: labelled("app", "web")}, Excludes: []v1alpha1.Scope{evictors(v1alpha1.EvictorMatch{User: "admin"})}}, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMatcher(tt.match)
			if err != nil {
				t.Fatal(err)
			}
			in := inputFor()
			if tt.change != nil {
				tt.change(in)
			}
			if got := m.matches(in); got != tt.want {
				t.Errorf("matches is %t, want %t", got, tt.want)
			}
			if got := slices.Contains(m.reads(), "input.namespace.labels"); got != tt.readsNamespace {
				t.Errorf("it reads %q; the namespace's labels should be there: %t", m.reads(), tt.readsNamespace)
			}
		})
	}
}

// A binding that matches by namespace makes its labels read, though no rule reads them.
func TestAMatchByNamespaceIsARef(t *testing.T) {
	set := compiled(t, bind("a", "match:\n  namespaceSelector:\n    matchLabels: {tier: prod}\n"+inline("x", `deny contains "held"`)))
	if refs := set.Refs(); len(refs) != 1 || refs[0] != "input.namespace.labels" {
		t.Errorf("refs are %q", refs)
	}
	for tier, want := range map[string]Outcome{"prod": Denied, "test": Admitted} {
		in := inputFor(func(in *Input) { in.Namespace.Labels = map[string]string{"tier": tier} })
		if d := set.Evaluate(t.Context(), in, Options{}); d.Outcome != want {
			t.Errorf("namespace with tier %s: %s, want %s", tier, d.Outcome, want)
		}
	}
}

// Pods that do no useful work can be let go, whatever the policy says.
func TestMatchByPodState(t *testing.T) {
	looping := func(in *Input) {
		in.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{}, {State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	}
	loopingInit := func(in *Input) {
		in.Pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	}
	unready := func(ago time.Duration) func(*Input) {
		return func(in *Input) {
			in.Pod.Status.Conditions[0].Status = corev1.ConditionFalse
			in.Pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-ago))
		}
	}
	withoutCondition := func(ago time.Duration) func(*Input) {
		return func(in *Input) {
			in.Pod.Status.Conditions = nil
			in.Pod.CreationTimestamp = metav1.NewTime(noon.Add(-ago))
		}
	}
	crash := &v1alpha1.PodState{CrashLooping: true}
	hour := &v1alpha1.PodState{UnreadyFor: &metav1.Duration{Duration: time.Hour}}
	both := &v1alpha1.PodState{CrashLooping: true, UnreadyFor: hour.UnreadyFor}
	for name, tt := range map[string]struct {
		state  *v1alpha1.PodState
		change []func(*Input)
		want   bool
	}{
		"a healthy pod does not crash-loop":     {crash, nil, false},
		"a container in CrashLoopBackOff":       {crash, []func(*Input){looping}, true},
		"an init container in CrashLoopBackOff": {crash, []func(*Input){loopingInit}, true},
		"a ready pod":                           {hour, nil, false},
		"unready for a second less":             {hour, []func(*Input){unready(time.Hour - time.Second)}, false},
		"unready for just so long":              {hour, []func(*Input){unready(time.Hour)}, true},
		"never ready since it was made":         {hour, []func(*Input){withoutCondition(2 * time.Hour)}, true},
		"young and never ready":                 {hour, []func(*Input){withoutCondition(time.Minute)}, false},
		"all that is given must hold":           {both, []func(*Input){looping}, false},
		"all that is given holds":               {both, []func(*Input){looping, unready(time.Hour)}, true},
		"a pod nobody knows is in no state":     {crash, []func(*Input){func(in *Input) { in.Pod = nil }}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMatcher(&v1alpha1.Match{Scope: v1alpha1.Scope{PodState: tt.state}})
			if err != nil {
				t.Fatal(err)
			}
			if got := m.matches(inputFor(tt.change...)); got != tt.want {
				t.Errorf("matches is %t, want %t", got, tt.want)
			}
		})
	}
}

func TestAnEmptyPodStateIsAMistake(t *testing.T) {
	for _, state := range []v1alpha1.PodState{{}, {UnreadyFor: &metav1.Duration{Duration: -time.Hour}}} {
		if _, err := newMatcher(&v1alpha1.Match{Scope: v1alpha1.Scope{PodState: &state}}); err == nil {
			t.Errorf("%+v is accepted", state)
		}
	}
}
