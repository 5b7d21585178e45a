package limits

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies/internal/policytest"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Every builtin that policies can use is charged, or costs the same whatever it is given.
func TestEveryBuiltinHasItsPlace(t *testing.T) {
	for name := range bounds {
		if ast.BuiltinMap[name] == nil {
			t.Errorf("there is no builtin %s, but it has a limit", name)
		}
	}
	for _, group := range left {
		for name := range names(group.names) {
			if ast.BuiltinMap[name] == nil {
				t.Errorf("there is no builtin %s, but it is left out", name)
			}
		}
	}
	for name := range unlimited {
		if ast.BuiltinMap[name] == nil || bounds[name].charge != nil {
			t.Errorf("builtin %s is not there, or has a limit, but is called unlimited", name)
		}
	}
	for _, b := range Capabilities().Builtins {
		if b := ast.BuiltinMap[b.Name]; b.CanSkipBctx && !unlimited[b.Name] && topdown.GetBuiltin(b.Name) != nil {
			t.Errorf("builtin %s is not limited", b.Name)
		}
	}
}

// TestLimitsPage holds docs/limits.md to the limits.
func TestLimitsPage(t *testing.T) {
	policytest.Generated(t, "../../../docs/limits.md", []byte(limitsPage()))
}

func limitsPage() string {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line("# What a policy may take\n")
	line("Whatever a policy says, asking it ends within these limits. They count what the policy itself does, so the same")
	line("policy has the same answer about the same eviction on every machine, busy or not. A policy that meets one fails:")
	line("the failure names the line and the limit, the other policies still count, and `--on-error` decides.\n")
	line("| for one evaluation of one policy | at most |\n| --- | --- |")
	line("| steps: one for each expression, %d values looked at, %d bytes or %d comparisons | %d (`--policy-steps`) |", nodesPerStep, bytesPerStep, comparisonsPerStep, DefaultPolicySteps)
	line("| what a step counts: 1, and 1 more for every %d terms of the largest list, set or object with variables that its rules write out | |", termsPerStep)
	line("| what builtins make, in sum | %s |", rego.SizeText(maxMade))
	line("| a text | %s |", rego.SizeText(maxText))
	line("| values in one value, those of its members included: of a rule, or given to a builtin | %d |", MaxNodes)
	line("| depth of such a value | %d |", MaxDepth)
	line("| digits of a number, and its exponent | %d |", MaxDigits)
	line("| violations of one effect | %d |", MaxMembers)
	line("| values in a violation, and bytes of its texts; beyond, its detail is left out | %d, %s |", MaxMember, rego.SizeText(MaxMemberBytes))
	line("| a reason; beyond, it is cut | %d bytes |", MaxReasonLength)
	line("| evaluations at once, of those that are not remembered | 2 for each processor (GOMAXPROCS) |\n")
	line("The review's own deadline is kept by the clock. An evaluation that does not come back by then is given up: the")
	line("review is undecided, and that policy is not asked again until the evaluation comes back or another revision of the")
	line("policies is loaded. So is one whose steps take longer than steps do: it is stopped after %s where no review waits.\n", maxTime)
	line("| for one module | at most |\n| --- | --- |")
	line("| size | %s |", rego.SizeText(maxModule))
	line("| words and signs | %d |", maxTokens)
	line("| rules, each clause counted | %d |", maxRules)
	line("| brackets in brackets | %d |", maxNested)
	line("| comprehensions and template strings in one another | %d |", maxClosures)
	line("| template strings in template strings | %d |", maxTemplates)
	line("| values that a rule stands for, its variables put in | %d |", maxWritten)
	line("| problems told of one file | %d |\n", rego.MaxProblems)
	line("## Builtins with a limit of their own\n")
	line("All others are charged by the size of what they are given.\n")
	line("| builtins | at most |\n| --- | --- |")
	for _, group := range boundsInGroups {
		if group.bound.says != "" {
			line("| %s | %s |", code(group.names), group.bound.says)
		}
	}
	line("\n## Builtins that are left out\n")
	line("Beside these, whatever is not deterministic but the time.\n")
	line("| builtins | why |\n| --- | --- |")
	for _, group := range left {
		line("| %s | %s |", code(group.names), group.why)
	}
	return s.String()
}

func code(list string) string { return "`" + strings.Join(strings.Fields(list), "`, `") + "`" }
