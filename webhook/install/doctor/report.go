package doctor

import (
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies/output"
)

// Report is what was found of an installation.
type Report struct {
	Namespace     string    `json:"namespace"`
	Configuration string    `json:"webhook_configuration"`
	At            time.Time `json:"at"`
	Problems      int       `json:"problems"`
	Warnings      int       `json:"warnings"`
	NotChecked    int       `json:"not_checked"`
	Findings      []Finding `json:"findings"`
}

// NewReport counts what was found.
func NewReport(facts *Facts, target Target, found []Finding) Report {
	return Report{
		Namespace: facts.Namespace, Configuration: target.Configuration, At: facts.Now.UTC().Truncate(time.Second), Findings: found,
		Problems: Count(found, Problem), Warnings: Count(found, Warning), NotChecked: Count(found, NotChecked),
	}
}

// Print prints a line for each check; what is to be fixed stands below, under the number in the line.
func (r Report) Print(p output.Printer, format string) error {
	if done, err := p.Structured(format, r); done {
		return err
	}
	var rows [][]string
	n := 0
	for _, f := range r.Findings {
		text := f.Text
		if f.Bad() {
			n++
			text = fmt.Sprintf("[%d]", n)
		}
		rows = append(rows, []string{string(f.Status), f.Check, text})
	}
	p.CutTable(append([][]string{{"STATUS", "CHECK", "WHAT"}}, rows...))
	if n > 0 {
		p.Printf("\nWhat is wrong, and how to fix it:\n")
	}
	n = 0
	for _, f := range r.Findings {
		if f.Bad() {
			n++
			f.print(p, n)
		}
	}
	p.Printf("\n%s\n", r.summary())
	return nil
}

func (f Finding) print(p output.Printer, n int) {
	mark := fmt.Sprintf("[%d]", n)
	p.Point(2, mark, "%s", f.Text)
	indent := 2 + len(mark) + 1
	if f.Cure != "" {
		p.Point(indent, "->", "%s", f.Cure)
	}
	if f.Command != "" { // it is copied, so it is not wrapped
		p.Printf("%*s$ %s\n", indent, "", output.Line(f.Command))
	}
}

func (r Report) summary() string {
	text := "nothing wrong was found"
	if r.NotChecked > 0 {
		text += " in what could be read"
	}
	if r.Problems+r.Warnings > 0 {
		text = fmt.Sprintf("%d %s, %d %s", r.Problems, output.Plural("problem", r.Problems), r.Warnings, output.Plural("warning", r.Warnings))
	}
	if r.NotChecked > 0 {
		text += fmt.Sprintf("; %d not checked", r.NotChecked)
	}
	return text
}

// PrintRoles prints both roles as kubectl apply takes them.
func PrintRoles(p output.Printer, cluster *rbacv1.ClusterRole, namespaced *rbacv1.Role) error {
	first, err := yaml.Marshal(cluster)
	if err != nil {
		return err
	}
	second, err := yaml.Marshal(namespaced)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Out, "%s---\n%s", first, second)
	return err
}
