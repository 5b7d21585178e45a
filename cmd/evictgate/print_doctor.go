package main

import (
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/webhook/install/doctor"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// doctor prints a line for each check; what is to be mended stands below, under the number in the line.
func (p printer) doctor(format string, r doctorReport) error {
	if done, err := p.structured(format, r); done {
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
	p.cutTable(append([][]string{{"STATUS", "CHECK", "WHAT"}}, rows...))
	if n > 0 {
		p.printf("\nWhat is wrong, and how to mend it:\n")
	}
	n = 0
	for _, f := range r.Findings {
		if f.Bad() {
			n++
			p.doctorFinding(n, f)
		}
	}
	p.printf("\n%s\n", doctorSummary(r))
	return nil
}

func (p printer) doctorFinding(n int, f doctor.Finding) {
	mark := fmt.Sprintf("[%d]", n)
	p.point(2, mark, "%s", f.Text)
	indent := 2 + len(mark) + 1
	if f.Cure != "" {
		p.point(indent, "->", "%s", f.Cure)
	}
	if f.Command != "" { // it is copied, so it is not wrapped
		p.printf("%*s$ %s\n", indent, "", render.Line(f.Command))
	}
}

func doctorSummary(r doctorReport) string {
	text := "nothing wrong was found"
	if r.NotChecked > 0 {
		text += " in what could be read"
	}
	if r.Problems+r.Warnings > 0 {
		text = fmt.Sprintf("%d %s, %d %s", r.Problems, plural("problem", r.Problems), r.Warnings, plural("warning", r.Warnings))
	}
	if r.NotChecked > 0 {
		text += fmt.Sprintf("; %d not checked", r.NotChecked)
	}
	return text
}

// doctorRoles prints both roles as kubectl apply takes them.
func (p printer) doctorRoles(cluster *rbacv1.ClusterRole, namespaced *rbacv1.Role) error {
	first, err := yaml.Marshal(cluster)
	if err != nil {
		return err
	}
	second, err := yaml.Marshal(namespaced)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "%s---\n%s", first, second)
	return err
}
