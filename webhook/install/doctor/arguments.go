package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
)

// ServeArguments are the arguments with which a Deployment runs evictgate serve.
func ServeArguments(d *appsv1.Deployment) ([]string, error) {
	for _, c := range d.Spec.Template.Spec.Containers {
		if len(c.Args) > 0 && c.Args[0] == "serve" {
			return expanded(c, d.Namespace)[1:], nil
		}
	}
	return nil, fmt.Errorf("no container of Deployment %s has the argument serve", d.Name)
}

// expanded are the arguments of a container with its variables put in, as far as the Deployment says what they are.
func expanded(c corev1.Container, namespace string) []string {
	var known []string
	for _, v := range c.Env {
		switch from := v.ValueFrom; {
		case from == nil:
			known = append(known, "$("+v.Name+")", v.Value)
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
			known = append(known, "$("+v.Name+")", namespace)
		}
	}
	var args []string
	for _, arg := range c.Args {
		args = append(args, strings.NewReplacer(known...).Replace(arg))
	}
	return args
}

// WithPolicies adds to a list what each policy reads beyond what serving does anyway.
func WithPolicies(ctx context.Context, list []Access, units []source.Unit, screen func(context.Context, []source.Unit) error) []Access {
	for _, unit := range units {
		sources := source.New()
		sources.Screen = screen
		sources.Add(evictionpolicy.Source, false)
		sources.Put(evictionpolicy.Source, []source.Unit{unit}, nil)
		set, _, err := sources.Compile(ctx)
		if err != nil || set == nil { // it is not in force, which another check says
			continue
		}
		for _, a := range Accesses("", cluster.RBAC(set.Needs())) {
			i := slices.IndexFunc(list, func(other Access) bool { return other.ResourceAttributes == a.ResourceAttributes })
			switch {
			case i < 0:
				a.For = []string{unit.Name}
				list = append(list, a)
			case len(list[i].For) > 0:
				list[i].For = append(list[i].For, unit.Name)
			}
		}
	}
	return list
}
