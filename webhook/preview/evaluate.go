package preview

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/report"
	"github.com/evictgate/evictgate/policies/suite"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// EvaluateOptions say which evictions are decided, and what is wanted beside the decisions.
type EvaluateOptions struct {
	At   time.Time
	User policies.User
	// Annotations are those of the Eviction.
	Annotations map[string]string
	Evictors    *policies.Evictors
	Decide      policies.Options
	// Input asks for what the policies are given, Explain for what each rule found.
	Input, Explain bool
}

// Evaluate decides the eviction of each pod, given as NAMESPACE/NAME, by itself.
func Evaluate(ctx context.Context, world *cluster.Snapshot, set *policies.Set, pods []string, o EvaluateOptions) ([]report.Evaluation, error) {
	requests, err := requestsFor(world, pods, o)
	if err != nil {
		return nil, err
	}
	var list []report.Evaluation
	gatherer := cluster.Gatherer{Store: world.Store, Evictors: o.Evictors}
	for _, request := range requests {
		in, _ := gatherer.Gather(ctx, request, set.Needs(), o.At)
		e, err := evaluate(ctx, set.Read(in), o)
		if err != nil {
			return list, fmt.Errorf("pod %s/%s: %w", request.Namespace, request.Name, err)
		}
		e.Namespace, e.Pod = request.Namespace, request.Name
		list = append(list, e)
	}
	return list, nil
}

func evaluate(ctx context.Context, r *policies.Reading, o EvaluateOptions) (e report.Evaluation, err error) {
	e.Decision = r.Evaluate(ctx, o.Decide)
	if o.Input {
		if e.Input, err = r.JSON(); err != nil {
			return e, err
		}
	}
	if o.Explain {
		e.Explanations, err = suite.Explain(ctx, r, o.Decide)
	}
	return e, err
}

// requestsFor are the evictions that are asked about. All pods that are not there are told at once.
func requestsFor(world *cluster.Snapshot, pods []string, o EvaluateOptions) ([]policies.Request, error) {
	var list []policies.Request
	var missing []error
	for _, arg := range pods {
		namespace, name, ok := strings.Cut(strings.TrimPrefix(arg, "pod/"), "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%q is not NAMESPACE/NAME of a pod", arg)
		}
		if _, ok := world.Pod(namespace, name); !ok {
			missing = append(missing, missingPod(world, namespace, name))
			continue
		}
		list = append(list, policies.Request{UID: "eval", Namespace: namespace, Name: name, DryRun: true, User: o.User, Annotations: o.Annotations})
	}
	return list, errors.Join(missing...)
}

func missingPod(world *cluster.Snapshot, namespace, name string) error {
	near := world.PodsLike(namespace, name, 3)
	if len(near) == 0 {
		return fmt.Errorf("there is no pod %s in namespace %s", name, namespace)
	}
	return fmt.Errorf("there is no pod %s in namespace %s; near are %s", name, namespace, strings.Join(near, ", "))
}
