package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// OverrideAnnotation is the annotation of an Eviction that asks to override policies; its value states
// the reason.
const OverrideAnnotation = "evictgate.dev/override"

// OverrideRule says who may override policies. Budgets cannot be overridden: the API server asks them
// itself.
type OverrideRule struct {
	Users, Groups []string
	// Refused is why nobody may override now, whoever they say they are; empty otherwise.
	Refused string
}

func (r OverrideRule) allows(u User) bool {
	return slices.Contains(r.Users, u.Username) || slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(r.Groups, g) })
}

// judge says what an Eviction's request to override comes to, when policies are those that refuse; nil
// when it makes none.
func (r OverrideRule) judge(request *Request, policies []string) *Override {
	reason, asked := request.Annotations[OverrideAnnotation]
	if !asked {
		return nil
	}
	o := &Override{Reason: rego.OneLine(reason)}
	switch {
	case r.Refused != "":
		o.Ignored = r.Refused
	case !r.allows(request.User):
		o.Ignored = fmt.Sprintf("user %s may not override policies", request.User.Username)
	case o.Reason == "":
		o.Ignored = overrideWithoutReason
	default:
		o.Used, o.Policies = len(policies) > 0, policies
	}
	return o
}

// overrideWithoutReason is why the request of somebody who may override is ignored.
const overrideWithoutReason = "it states no reason"

// Authorised reports whether who asked may override policies.
func (o *Override) Authorised() bool { return o.Ignored == "" || o.Ignored == overrideWithoutReason }

func (o *Override) used() bool { return o != nil && o.Used }

// text is what the client is told; empty when there is nothing to say.
func (o *Override) text() string {
	switch {
	case o == nil:
		return ""
	case o.Ignored != "":
		return fmt.Sprintf("annotation %s is ignored: %s", OverrideAnnotation, o.Ignored)
	case o.Used:
		return fmt.Sprintf("policies overridden (%s) for this reason: %s", strings.Join(o.Policies, ", "), reasonOf(o.Reason))
	}
	return fmt.Sprintf("annotation %s was not needed: no policy refuses", OverrideAnnotation)
}

// policyNames lists the policies that refuse, or failed, sorted.
func policyNames(denies, delays []Violation, failed []string) []string {
	names := slices.Clone(failed)
	for _, v := range slices.Concat(denies, delays) {
		names = append(names, v.Policy)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
