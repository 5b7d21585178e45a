package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
)

// What a record keeps of texts that a client chooses, in bytes. The policies have seen the whole; what is cut is
// listed in Erased. A text that was cut ends in …; a list or a map that was cut lacks members.
const (
	maxUser = 1 << 10
	// maxGroups and maxGroup bound the user's groups: how many, and each.
	maxGroups, maxGroup = 64, 256
	// maxAnnotation bounds the value of one annotation, maxAnnotations all names and values. A name of Kubernetes
	// has maxAnnotationName bytes at most; a longer one is left out.
	maxAnnotation, maxAnnotations, maxAnnotationName = 1 << 10, 8 << 10, 317
	// maxNamed is how many annotations are named that were cut; beyond it Erased names all annotations.
	maxNamed = 16
	// maxOverride bounds the reason of an override, and why it was ignored.
	maxOverride = 1 << 10

	// maxResult bounds the texts of the result together: policies may quote what they read. In a result that has
	// more, each text and each detail has maxFinding, and each list maxFindings members.
	maxResult, maxFinding, maxFindings = 64 << 10, 512, 64
	// maxInput bounds the input; a larger one is left out. Readers take a line of MaxLine.
	maxInput = 8 << 20
)

// boundInput leaves out an input that is too large to be kept.
func (r *Record) boundInput() {
	if len(r.Input) > maxInput {
		r.Input = json.RawMessage("null")
		r.gone("/input")
	}
}

// bound cuts what a client, or a policy that quotes it, has made too long.
func (r *Record) bound() error {
	n := len(r.Erased)
	r.Request.User = boundUser(r.Request.User, r.gone)
	if len(r.RequestedBy) > maxUser {
		r.RequestedBy = cut(r.RequestedBy, maxUser)
		r.gone("/requested_by")
	}
	r.Request.Annotations = boundAnnotations(r.Request.Annotations, "/request/annotations", r.gone)
	if len(r.Erased) > n {
		if err := r.boundInputRequest(); err != nil {
			return err
		}
	}
	r.boundOverride()
	r.boundResult()
	return nil
}

func (r *Record) gone(pointer string) { r.Erased = append(r.Erased, pointer) }

// cut shortens a text to n bytes at most, at a character's end. What it returns does not hold the whole in memory.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const more = "…"
	return strings.ToValidUTF8(text[:n-len(more)], "") + more
}

func boundUser(u policies.User, gone func(string)) policies.User {
	if len(u.Username) > maxUser {
		u.Username = cut(u.Username, maxUser)
		gone("/request/user/username")
	}
	if tooMany(u.Groups) {
		u.Groups = boundGroups(u.Groups)
		gone("/request/user/groups")
	}
	return u
}

func tooMany(groups []string) bool {
	return len(groups) > maxGroups || slices.ContainsFunc(groups, func(g string) bool { return len(g) > maxGroup })
}

func boundGroups(groups []string) []string {
	kept := slices.Clone(groups[:min(len(groups), maxGroups)])
	for i := range kept {
		kept[i] = cut(kept[i], maxGroup)
	}
	return kept
}

// boundAnnotations keeps those first that mean something here, then goes by name.
func boundAnnotations(all map[string]string, at string, gone func(string)) map[string]string {
	if fit(all) {
		return all
	}
	kept, room := map[string]string{}, maxAnnotations
	var pointers []string
	for _, key := range oursFirst(all) {
		value := cut(all[key], maxAnnotation)
		fits := len(key) <= maxAnnotationName && len(key)+len(value) <= room
		if fits {
			kept[strings.Clone(key)] = value
			room -= len(key) + len(value)
		}
		if !fits || len(value) != len(all[key]) {
			pointers = append(pointers, at+"/"+pointerEscapes.Replace(cut(key, maxAnnotationName+1)))
		}
	}
	if len(pointers) > maxNamed {
		pointers = []string{at}
	}
	for _, p := range pointers {
		gone(p)
	}
	return kept
}

func fit(annotations map[string]string) bool {
	room := maxAnnotations
	for key, value := range annotations {
		if room -= len(key) + len(value); room < 0 || len(value) > maxAnnotation || len(key) > maxAnnotationName {
			return false
		}
	}
	return true
}

// oursFirst sorts names, those of evictgate.dev before all others.
func oursFirst(annotations map[string]string) []string {
	keys := slices.Sorted(maps.Keys(annotations))
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
	return keys
}

func rank(key string) int {
	if strings.HasPrefix(key, "evictgate.dev/") {
		return 0
	}
	return 1
}

// boundInputRequest cuts in the input what was cut beside it. Only the request of the input is read.
func (r *Record) boundInputRequest() error {
	var input map[string]json.RawMessage
	if err := json.Unmarshal(r.Input, &input); err != nil {
		return fmt.Errorf("bound the input: %w", err)
	}
	if len(input["request"]) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(input["request"]))
	decoder.UseNumber()
	var request map[string]any
	if err := decoder.Decode(&request); err != nil {
		return fmt.Errorf("bound the input's request: %w", err)
	}
	n := len(r.Erased)
	r.boundInputUser(request)
	r.boundInputAnnotations(request)
	if len(r.Erased) == n {
		return nil
	}
	var err error
	if input["request"], err = json.Marshal(request); err == nil {
		r.Input, err = json.Marshal(input)
	}
	return err
}

func (r *Record) boundInputUser(request map[string]any) {
	user, _ := request["user"].(map[string]any)
	if name, ok := user["username"].(string); ok && len(name) > maxUser {
		user["username"] = cut(name, maxUser)
		r.gone("/input/request/user/username")
	}
	list, _ := user["groups"].([]any)
	groups := make([]string, len(list))
	for i := range list {
		groups[i], _ = list[i].(string)
	}
	if tooMany(groups) {
		user["groups"] = boundGroups(groups)
		r.gone("/input/request/user/groups")
	}
}

func (r *Record) boundInputAnnotations(request map[string]any) {
	values, _ := request["annotations"].(map[string]any)
	annotations := map[string]string{}
	for key, value := range values {
		annotations[key], _ = value.(string)
	}
	if !fit(annotations) {
		request["annotations"] = boundAnnotations(annotations, "/input/request/annotations", r.gone)
	}
}

// boundOverride cuts the reason of an override, which is the value of an annotation.
func (r *Record) boundOverride() {
	if r.Result == nil || r.Result.Override == nil {
		return
	}
	result, o := *r.Result, *r.Result.Override
	for pointer, text := range map[string]*string{"reason": &o.Reason, "ignored": &o.Ignored} {
		if len(*text) > maxOverride {
			*text = cut(*text, maxOverride)
			result.Override = &o
			r.Result = &result
			r.gone("/result/override/" + pointer)
		}
	}
}

// boundResult cuts the texts of a result that has too many of them.
func (r *Record) boundResult() {
	if r.Result == nil || textOfResult(r.Result) <= maxResult {
		return
	}
	d := *r.Result // the answer is made of the other
	r.Result = &d
	d.Violations = boundList(r, "violations", d.Violations, func(at string, v *policies.Violation) {
		r.cutText(at+"/reason", &v.Reason)
		if sizeOf(v.Detail) > maxFinding {
			v.Detail = nil
			r.gone(at + "/detail")
		}
	})
	d.Failures = boundList(r, "failures", d.Failures, func(at string, f *policies.Failure) { r.cutText(at+"/error", &f.Error) })
	d.Causes = boundList(r, "causes", d.Causes, func(at string, c *policies.Cause) { r.cutText(at+"/message", &c.Message) })
	d.Warnings = boundList(r, "warnings", d.Warnings, func(at string, w *string) { r.cutText(at, w) })
	if len(d.Message) > maxResult/8 {
		d.Message = cut(d.Message, maxResult/8)
		r.gone("/result/message")
	}
}

// boundList copies a list of the result, its first members, each cut.
func boundList[T any](r *Record, name string, list []T, each func(at string, member *T)) []T {
	at := "/result/" + name
	kept := slices.Clone(list[:min(len(list), maxFindings)])
	if len(kept) < len(list) {
		r.gone(at)
	}
	for i := range kept {
		each(at+"/"+strconv.Itoa(i), &kept[i])
	}
	return kept
}

func (r *Record) cutText(at string, text *string) {
	if len(*text) > maxFinding {
		*text = cut(*text, maxFinding)
		r.gone(at)
	}
}

// textOfResult is about how many bytes the findings take.
func textOfResult(d *policies.Decision) int {
	n := len(d.Message)
	for _, v := range d.Violations {
		n += len(v.Policy) + len(v.Reason) + sizeOf(v.Detail)
	}
	for _, f := range d.Failures {
		n += len(f.Policy) + len(f.Error)
	}
	for _, c := range d.Causes {
		n += len(c.Field) + len(c.Message)
	}
	for _, w := range d.Warnings {
		n += len(w)
	}
	return n
}

// sizeOf is about how many bytes a detail takes as JSON.
func sizeOf(value any) int {
	switch v := value.(type) {
	case string:
		return len(v) + 2
	case map[string]any:
		n := 2
		for key, member := range v {
			n += len(key) + 4 + sizeOf(member)
		}
		return n
	case []any:
		n := 2
		for _, member := range v {
			n += 1 + sizeOf(member)
		}
		return n
	}
	return 8
}
