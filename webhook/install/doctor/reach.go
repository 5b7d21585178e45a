package doctor

import (
	"regexp"
	"strings"
)

// Reach is by which flags the cluster is reached.
type Reach struct{ Kubeconfig, Context string }

// programs is where a command calls a program that has to know the cluster.
var programs = regexp.MustCompile(`(^|[;|] )(kubectl|helm) `)

// Aim gives every command the flags, so that it fixes the cluster that was looked at.
func (r Reach) Aim(list []Finding) {
	kubeconfig := flag("--kubeconfig", r.Kubeconfig)
	for i := range list {
		list[i].Command = programs.ReplaceAllStringFunc(list[i].Command, func(program string) string {
			if strings.HasSuffix(program, "helm ") {
				return program + kubeconfig + flag("--kube-context", r.Context)
			}
			return program + kubeconfig + flag("--context", r.Context)
		})
	}
}

// flag is one with a space after it; nothing without a value.
func flag(name, value string) string {
	if value == "" {
		return ""
	}
	return name + " " + quoted(value) + " "
}

// plain is what a shell takes as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quoted is a word for a shell.
func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
