package limits

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Limits of one evaluation. They count what the policy itself does, so that the same policy has the same
// answer about the same input on every machine, at any load. docs/limits.md is written from them.
const (
	// DefaultPolicySteps is what one policy may take: about half a second of an idle core. A policy of the
	// library takes some hundreds.
	DefaultPolicySteps = 500_000
	// maxText is the longest text that a builtin may make, in bytes.
	maxText = 1 << 20
	// maxMade is what the builtins of one evaluation may make in sum, in bytes.
	maxMade = 16 << 20
	// MaxNodes is how many values one value may hold, those within its members included.
	MaxNodes = 100_000
	// MaxDepth is how deep a value may be nested.
	MaxDepth = 256
	// MaxDigits is how many digits a number may have, and how large its exponent may be.
	MaxDigits = 1000
	// maxPattern is the length of a regular expression or glob, in bytes, maxProgram its size when each
	// repetition is written out, and maxMatching that times the length of the text.
	maxPattern, maxProgram, maxMatching = 1000, 10_000, 10_000_000
	// maxParsed is the longest JSON or YAML text that a policy may parse, in bytes.
	maxParsed = 256 << 10
)

// What is charged: a step for so many values looked at, bytes or comparisons. They take about as long as one.
const (
	nodesPerStep = 16
	bytesPerStep = 1 << 10
	// comparisonsPerStep is for what is compared each with each, and for patterns.
	comparisonsPerStep = 128
	// nodeBytes is what a value takes in memory, roughly.
	nodeBytes = 64
	// termsPerStep is how large a value an expression may write out for one step: memory is bounded by
	// steps, so a policy with large literals has fewer.
	termsPerStep = 8
)

// What is said of an evaluation that was stopped. A record tells by these texts why a policy failed.
const (
	// NotInTime ends what is said when the review has no time left.
	NotInTime = "not evaluated in the time the API server gives the webhook"
	// TooSlow is said of a policy whose steps take far longer than steps do.
	TooSlow = "its steps take longer than those of any honest policy; are there sets of many numbers or lists? Make texts of the members"
	// StoppedAfter begins what is said of a policy that took all its steps.
	StoppedAfter = "stopped after "
)

// Allowance is what the evaluation of one policy may do. It stops it when that is used up, or the review has no
// time left. OPA asks it at every step, in the goroutine of the evaluation: it is its topdown.Cancel. The builtins
// find it there, and charge what they do. It is not safe for concurrent use.
type Allowance struct {
	// Ctx is the review's.
	Ctx context.Context
	// steps are how many there were; left those to come, and made the bytes that builtins may still make.
	steps, left, made int
	// weight is what a step of the evaluator counts.
	weight int
	looks  int
	began  time.Time
	// Over says that the evaluation was stopped.
	Over bool
	// Why says which limit was met; nil while none was, and when it is the time.
	Why error
	// at is where a builtin was last called.
	at *ast.Location
}

// maxTime ends what no count ends and no review waits for: all steps take a fraction of it.
const maxTime = time.Minute

// looksPerClock is how many steps are taken between two looks at the review's time.
const looksPerClock = 32

// NewAllowance is the allowance of one evaluation: so many steps, each of which counts its weight.
func NewAllowance(ctx context.Context, steps, weight int) *Allowance {
	return &Allowance{Ctx: ctx, steps: steps, left: steps, made: maxMade, weight: max(1, weight), began: time.Now()}
}

// Cancel is part of topdown.Cancel.
func (a *Allowance) Cancel() { a.Over = true }

// Cancelled counts a step, and reports whether there are none left.
func (a *Allowance) Cancelled() bool {
	if a.left -= a.weight; a.left < 0 && !a.Over {
		a.Stop(a.outOfSteps())
	}
	if a.looks++; a.looks%looksPerClock == 1 {
		a.Over = a.Over || a.Ctx.Err() != nil
		if a.looks%(looksPerClock*looksPerClock) == 1 && !a.Over && time.Since(a.began) > maxTime {
			a.Stop(errors.New(TooSlow))
		}
	}
	return a.Over
}

// Stop ends the evaluation at its next step, and says why.
func (a *Allowance) Stop(why error) {
	if a.Over = true; a.Why == nil {
		a.Why = why
	}
}

// spend charges a builtin's work, in steps.
func (a *Allowance) spend(steps int) error {
	if a.left -= steps; a.left < 0 {
		a.Stop(a.outOfSteps())
		return a.Why
	}
	return nil
}

// make charges what a builtin makes, in bytes.
func (a *Allowance) make(bytes int) error {
	if a.made -= bytes; a.made < 0 {
		a.Stop(fmt.Errorf("the functions of this policy make more than %s in one evaluation, which is the limit; make shorter texts and lists", rego.SizeText(maxMade)))
		return a.Why
	}
	return a.spend(bytes / bytesPerStep)
}

func (a *Allowance) outOfSteps() error {
	return fmt.Errorf("%s%d steps, which is the limit of one policy; let it look at less, or give policies more by --policy-steps", StoppedAfter, a.steps)
}

// Explained is what a person is told of an error that ended an evaluation: the limit that was met, when one
// was, with the place where it was, and else OPA's error.
func (a *Allowance) Explained(file string, err error) error {
	if !topdown.IsCancel(err) && a.Why == nil {
		return Describe(err)
	}
	place := file
	var e *topdown.Error
	switch {
	case errors.As(err, &e) && e.Location != nil:
		place = e.Location.String()
	case a.at != nil:
		place = fmt.Sprintf("%s:%d:%d", a.at.File, a.at.Row, a.at.Col)
	}
	if a.Why != nil {
		return fmt.Errorf("%s: %w", place, a.Why)
	}
	return fmt.Errorf("%s: %s", place, NotInTime)
}

// value charges a value that is kept: that of a rule. It bounds how many values it holds, since lists that
// hold each other many times take little memory, but no end of time to compare or to print.
func (a *Allowance) value(v ast.Value) {
	if isScalar(v) {
		return
	}
	m := Measure{Most: MaxNodes}
	if err := m.Add(v); err != nil {
		a.Stop(fmt.Errorf("the value of a rule %w", err))
		return
	}
	_ = a.spend(m.steps()) // it is told at the next step
}

func isScalar(v ast.Value) bool {
	switch v.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null, ast.Var:
		return true
	}
	return false
}

// Measure counts what a value holds. Values that are shared count each time, as they do for whatever walks
// them; it ends at most, however often they are.
type Measure struct {
	// Most is how many values there may be.
	Most int
	// Bytes are those of all texts and numbers.
	Bytes        int
	nodes, depth int
	at           int // the depth at which it is
}

// steps are what walking the value costs.
func (m *Measure) steps() int { return m.nodes/nodesPerStep + m.Bytes/bytesPerStep }

// Add counts a value. The error says which limit it is beyond.
func (m *Measure) Add(v ast.Value) error {
	m.nodes++
	switch v := v.(type) {
	case ast.String:
		m.Bytes += len(v)
		return nil
	case ast.Number:
		m.Bytes += len(v)
		return checkNumber(string(v))
	case *ast.Array:
		if err := m.enter(v.Len()); err != nil {
			return err
		}
		for i := range v.Len() {
			if err := m.Add(v.Elem(i).Value); err != nil {
				return err
			}
		}
		m.at--
	case ast.Set:
		if err := m.enter(v.Len()); err != nil {
			return err
		}
		for _, member := range v.Slice() {
			if err := m.Add(member.Value); err != nil {
				return err
			}
		}
		m.at--
	case ast.Object:
		return m.object(v)
	}
	return nil
}

func (m *Measure) object(v ast.Object) error {
	if err := m.enter(2 * v.Len()); err != nil {
		return err
	}
	err := v.Iter(func(key, value *ast.Term) error {
		if err := m.Add(key.Value); err != nil {
			return err
		}
		return m.Add(value.Value)
	})
	m.at--
	return err
}

// enter begins with the members of a value.
func (m *Measure) enter(members int) error {
	if m.nodes+members > m.Most {
		return fmt.Errorf("holds more than %d values, those of its members included, which is the limit", m.Most)
	}
	if m.at++; m.at > MaxDepth {
		return fmt.Errorf("is nested more than %d deep, which is the limit", MaxDepth)
	}
	m.depth = max(m.depth, m.at)
	return nil
}

// checkNumber refuses a number with which arithmetic takes long: 1e999999999 is short.
func checkNumber(n string) error {
	if len(n) <= 3 {
		return nil
	}
	digits, exponent, _ := strings.Cut(strings.ToLower(n), "e")
	if len(digits) > MaxDigits+2 {
		return fmt.Errorf("has a number of %d digits; at most %d are allowed", len(digits), MaxDigits)
	}
	if exponent = strings.TrimLeft(exponent, "+-0"); len(exponent) > 4 || len(exponent) == 4 && exponent > fmt.Sprint(MaxDigits) {
		return fmt.Errorf("has a number with the exponent %s; at most %d is allowed", rego.Shorten(exponent, 12), MaxDigits)
	}
	return nil
}

// Describe makes one line of OPA's error, with its place first.
func Describe(err error) error {
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		return fmt.Errorf("%s:%d:%d: %s", e.Location.File, e.Location.Row, e.Location.Col, rego.OneLine(e.Message))
	}
	return errors.New(rego.OneLine(err.Error()))
}

// What a violation may hold, and how many there may be.
const (
	MaxMembers      = 500
	MaxMember       = 2_000    // values, those within the detail included
	MaxMemberBytes  = 64 << 10 // of all texts in it
	MaxReasonLength = 2048     // bytes
)

// Size is how many members a collection has; 0 for anything else.
func Size(v ast.Value) int {
	switch v := v.(type) {
	case *ast.Array:
		return v.Len()
	case ast.Object:
		return v.Len()
	case ast.Set:
		return v.Len()
	}
	return 0
}
