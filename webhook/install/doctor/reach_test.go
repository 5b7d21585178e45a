package doctor

import "testing"

func TestCommandsReachTheClusterThatWasLookedAt(t *testing.T) {
	production := Reach{Kubeconfig: "prod.yaml", Context: "production"}
	for name, c := range map[string]struct {
		reach         Reach
		command, want string
	}{
		"no flags":       {Reach{}, "kubectl get pods", "kubectl get pods"},
		"both":           {production, "kubectl get pods", "kubectl --kubeconfig prod.yaml --context production get pods"},
		"Helm":           {production, "helm upgrade gate", "helm --kubeconfig prod.yaml --kube-context production upgrade gate"},
		"two commands":   {Reach{Context: "p"}, "kubectl describe pod a; kubectl logs a", "kubectl --context p describe pod a; kubectl --context p logs a"},
		"a pipe":         {Reach{Context: "p"}, "kubectl get --raw /metrics | grep kubectl", "kubectl --context p get --raw /metrics | grep kubectl"},
		"a name with it": {Reach{Context: "p"}, "kubectl logs deployment/kubectl x", "kubectl --context p logs deployment/kubectl x"},
		"a space":        {Reach{Kubeconfig: "my files/it's"}, "kubectl get pods", `kubectl --kubeconfig 'my files/it'\''s' get pods`},
		"an ARN":         {Reach{Context: "arn:aws:eks:eu-west-1:1:cluster/a"}, "kubectl get pods", "kubectl --context arn:aws:eks:eu-west-1:1:cluster/a get pods"},
		"no command":     {production, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			list := []Finding{{Command: c.command}}
			if c.reach.Aim(list); list[0].Command != c.want {
				t.Errorf("got  %s\nwant %s", list[0].Command, c.want)
			}
		})
	}
}
