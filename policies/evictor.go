package policies

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"
)

// EvictorRule says which users are an evictor. One of Users, or one of Groups, must fit; a `*` in them
// stands for any text.
type EvictorRule struct {
	Evictor string   `json:"evictor"`
	Users   []string `json:"users,omitempty"`
	Groups  []string `json:"groups,omitempty"`
}

// Evictors names who evicts, from what the API server authenticated: the first rule that fits, else
// "node", "service-account" or "user". The zero value has no rule.
type Evictors struct {
	rules []compiledRule
}

type compiledRule struct {
	evictor       string
	users, groups []glob
}

// The evictors of users whom no rule names.
const (
	evictorNode           = "node"
	evictorServiceAccount = "service-account"
	evictorUser           = "user"
)

// defaultEvictors are the service accounts that the usual installations of these clients use, in
// whatever namespace: whoever may create service accounts can take such a name, so a policy that must
// not be got around asks for the user or the group, or is given stricter rules.
var defaultEvictors = []EvictorRule{
	{Evictor: "cluster-autoscaler", Users: serviceAccounts("*cluster-autoscaler*")},
	{Evictor: "karpenter", Users: serviceAccounts("*karpenter*")},
	{Evictor: "descheduler", Users: serviceAccounts("*descheduler*")},
	{Evictor: "vpa-updater", Users: serviceAccounts("*vpa-updater*")},
	{Evictor: "kured", Users: serviceAccounts("*kured*")},
	{Evictor: "cluster-api", Users: serviceAccounts("*capi-*")},
	{Evictor: "machine-config", Users: serviceAccounts("*machine-config*")},
	// KEP-4563: the controller that carries out EvictionRequests nobody else answers. It evicts for
	// others, whose names are in the Eviction of group lifecycle.k8s.io, not here.
	{Evictor: "eviction-request", Users: []string{
		"system:serviceaccount:kube-system:evictionrequest-controller",
		"system:serviceaccount:kube-system:imperative-evict*",
	}},
}

var defaultRules = sync.OnceValue(DefaultEvictors)

func serviceAccounts(name string) []string { return []string{"system:serviceaccount:*:" + name} }

// DefaultEvictors are the rules that hold when none are given.
func DefaultEvictors() *Evictors {
	e, _ := newEvictors(defaultEvictors) // a test holds that they compile
	return e
}

// evictorsFile is what a file of rules holds.
type evictorsFile struct {
	// Evictors come before the default rules.
	Evictors []EvictorRule `json:"evictors"`
	// Defaults is whether the default rules hold, too; true when it is not given.
	Defaults *bool `json:"defaults,omitempty"`
}

// ReadEvictors reads a YAML file of rules: a list `evictors`, which comes before the default rules, and
// `defaults: false` to do without those. Without a file name the default rules hold.
func ReadEvictors(file string) (*Evictors, error) {
	if file == "" {
		return DefaultEvictors(), nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the evictors: %w", err)
	}
	e, err := parseEvictors(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return e, nil
}

// parseEvictors reads what such a file holds.
func parseEvictors(raw []byte) (*Evictors, error) {
	var f evictorsFile
	if err := yaml.UnmarshalStrict(raw, &f); err != nil {
		return nil, err
	}
	rules := f.Evictors
	if f.Defaults == nil || *f.Defaults {
		rules = append(rules, defaultEvictors...)
	}
	return newEvictors(rules)
}

func newEvictors(rules []EvictorRule) (*Evictors, error) {
	e := &Evictors{}
	for i, r := range rules {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("evictors[%d]: %w", i, err)
		}
		e.rules = append(e.rules, compiledRule{r.Evictor, globs(r.Users), globs(r.Groups)})
	}
	return e, nil
}

// evictorName keeps the names fit for a metric's label and an audit annotation.
var evictorName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (r EvictorRule) validate() error {
	switch {
	case !evictorName.MatchString(r.Evictor):
		return fmt.Errorf("evictor is %q; expected a name of lower case letters, digits and dashes, at most 63", r.Evictor)
	case len(r.Users)+len(r.Groups) == 0:
		return errors.New("neither users nor groups are given, so the rule would fit nobody")
	case slices.Contains(r.Users, "") || slices.Contains(r.Groups, ""):
		return errors.New("an empty user or group fits nobody; take it out")
	}
	return nil
}

// glob is a text in which * stands for any text, cut at its stars.
type glob []string

func globs(names []string) []glob {
	list := make([]glob, len(names))
	for i, name := range names {
		list[i] = strings.Split(name, "*")
	}
	return list
}

func (g glob) matches(s string) bool {
	last := len(g) - 1
	if last == 0 {
		return s == g[0]
	}
	s, ok := strings.CutPrefix(s, g[0])
	for i := 1; ok && i < last; i++ {
		_, s, ok = strings.Cut(s, g[i]) // the first place leaves most for the rest
	}
	return ok && strings.HasSuffix(s, g[last])
}

func anyMatches(list []glob, s string) bool {
	return slices.ContainsFunc(list, func(g glob) bool { return g.matches(s) })
}

// Of names the evictor that a user is. Without Evictors the default rules hold.
func (e *Evictors) Of(u User) string {
	if e == nil {
		e = defaultRules()
	}
	for _, r := range e.rules {
		inGroup := func(group string) bool { return anyMatches(r.groups, group) }
		if anyMatches(r.users, u.Username) || slices.ContainsFunc(u.Groups, inGroup) {
			return r.evictor
		}
	}
	switch {
	case strings.HasPrefix(u.Username, "system:serviceaccount:"):
		return evictorServiceAccount
	case strings.HasPrefix(u.Username, "system:node:"):
		return evictorNode
	}
	return evictorUser
}

// Names lists the evictors there can be, sorted.
func (e *Evictors) Names() []string {
	names := []string{evictorNode, evictorServiceAccount, evictorUser}
	for _, r := range e.rules {
		names = append(names, r.evictor)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// EvictorNames are the evictors that are known when no rules are given.
func EvictorNames() []string {
	names := []string{evictorUser, evictorNode, evictorServiceAccount}
	for _, rule := range defaultEvictors {
		names = append(names, rule.Evictor)
	}
	return names
}
