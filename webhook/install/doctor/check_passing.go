package doctor

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// checkPassing says whether evictions pass through the gate, and if not, why.
func checkPassing(f *Facts, l *findings) {
	const check = "gate"
	if f.Probes.Err != nil {
		l.skip(check, "%s", f.Probes.why())
		return
	}
	var failed []Probe
	decided, undecided := 0, 0
	for _, p := range f.Probes.Value {
		switch {
		case !p.passed():
			failed = append(failed, p)
		case p.Explanation.Outcome == policies.Undecided:
			undecided++
			fallthrough
		default:
			decided++
		}
	}
	switch {
	case decided == 0 && len(failed) == 0:
		l.skip(check, "no eviction was tried")
		return
	case len(failed) > 0:
		explainFailure(f, failed[len(failed)-1], l)
	}
	if decided == 0 {
		return
	}
	if len(failed) > 0 {
		l.problem(check, "%d of %d dry-run evictions did not pass through the gate", len(failed), len(failed)+decided).
			cure("see the finding before; a single replica may be the cause").run("%s", f.listPods())
		return
	}
	if undecided > 0 {
		l.problem(check, "%d of %d dry-run evictions were left undecided", undecided, decided).
			cure("see which policy fails").run("kubectl -n %s logs deployment/%s --tail=20", f.Namespace, f.Name)
		return
	}
	text := fmt.Sprintf("%d dry-run evictions in namespace %s were decided, the slowest in %s", decided, f.ProbeNamespace, slowest(f.Probes.Value).Round(time.Millisecond))
	if n := endpoints(f.Servers.Value); n > 1 {
		text += fmt.Sprintf("; of %d API servers only those that were reached are tested", n)
	}
	l.ok(check, "%s", text)
}

// passed reports whether somebody decided, and nobody who was to be asked was missing.
func (p Probe) passed() bool {
	return p.Explanation != nil && !strings.Contains(p.Message, calling)
}

// calling is how the API server says that it could not call a webhook.
const calling = "failed calling webhook"

func (p Probe) took() time.Duration { return p.Received.Sub(p.Sent) }

func slowest(probes []Probe) (d time.Duration) {
	for _, p := range probes {
		d = max(d, p.took())
	}
	return d
}

// explainFailure says why an eviction was not decided by us.
func explainFailure(f *Facts, p Probe, l *findings) {
	const check = "gate"
	called := strings.Contains(p.Message, calling) && strings.Contains(p.Message, `"`+hooks.Evictions+`"`)
	switch host := calledHost(p.Message); {
	case called && f.foreign(host):
		anotherGate(f, host, p, l)
	case called:
		reason := failureReason(f, p.Message)
		reason.tell(l.problem(check, "the API server cannot ask the gate: %s (%s)", reason.what, p.Message))
	case strings.Contains(p.Message, "expression '") && strings.Contains(p.Message, "resulted in error"):
		l.problem(check, "a matchCondition of the webhook cannot be evaluated: %s", p.Message).
			cure("correct the expression").run("kubectl edit validatingwebhookconfiguration %s", f.Target.Configuration)
	case p.Code == http.StatusForbidden && strings.Contains(p.Message, "cannot create resource"):
		l.skip(check, "no permission to try: %s; ask for create on pods/eviction %s in namespace %s", p.Message, probePod, f.ProbeNamespace)
	case p.Code == http.StatusNotFound && strings.HasPrefix(p.Message, "namespaces "):
		l.skip(check, "there is no namespace %s to try it in; name one by --probe-namespace", f.ProbeNamespace)
	case p.Code == http.StatusNotFound:
		notCalled(f, p, l)
	case p.Code == 0:
		l.problem(check, "the API server gives no answer: %s", p.Message).cure("see that it is reached, and raise --timeout")
	default:
		l.problem(check, "the API server answers %d: %s", p.Code, p.Message).cure("see who refuses it")
	}
}

// calledURL is how the API server says whom it called.
var calledURL = regexp.MustCompile(`Post "https://([^/"]+)`)

// calledHost is the host and port of it; empty when the call did not get that far.
func calledHost(message string) string {
	if found := calledURL.FindStringSubmatch(message); found != nil {
		return found[1]
	}
	return ""
}

// foreign reports whether a host is known not to be ours: every installation's webhook has the same name.
func (f *Facts) foreign(host string) bool {
	hook := f.hook(hooks.Evictions)
	return hook != nil && host != "" && host != hostOf(hook.ClientConfig)
}

// anotherGate blames whose webhook it is.
func anotherGate(f *Facts, host string, p Probe, l *findings) {
	others := f.others(host)
	if len(others) == 0 {
		l.problem("gate", "the API server cannot ask another gate, at %s: %s", host, p.Message).
			cure("see which configuration names that host").run("kubectl get validatingwebhookconfigurations -o yaml")
		return
	}
	cureLeftover(l.problem("gate", "the API server cannot ask another gate, which ValidatingWebhookConfiguration %s names: %s", others[0], p.Message), others[0])
}

// notCalled looks for the reason in what is known of the configuration.
func notCalled(f *Facts, p Probe, l *findings) {
	const check = "gate"
	hook := f.hook(hooks.Evictions)
	switch {
	case f.Configuration.missing():
		l.problem(check, "evictions pass undecided: there is no configuration").cure("see the finding about the configuration")
	case f.Configuration.Err != nil:
		l.problem(check, "evictions in namespace %s pass undecided; why cannot be seen without the configuration", f.ProbeNamespace).
			cure("ask for get on validatingwebhookconfigurations")
	case hook == nil || !slices.ContainsFunc(hook.Rules, matchesEvictions):
		l.problem(check, "evictions pass undecided: no webhook matches them").cure("see the finding about the configuration")
	case f.exemptsProbe(hook):
		l.skip(check, "namespace %s, where it was tried, is exempt by the namespaceSelector; name another one by --probe-namespace", f.ProbeNamespace)
	case !isEmpty(hook.ObjectSelector):
		l.problem(check, "evictions pass undecided: the objectSelector leaves them out").cure("remove the objectSelector")
	case ignores(hook) && p.took() >= timeoutOf(hook):
		reason := slow(f.listPods())
		reason.tell(l.problem(check, "evictions pass undecided: %s within timeoutSeconds %s, and failurePolicy is Ignore", reason.what, orDefault(hook.TimeoutSeconds)))
	case ignores(hook):
		l.problem(check, "evictions in namespace %s pass undecided: the API server gets no answer and failurePolicy is Ignore, or %s", f.ProbeNamespace, leftOut(hook)).
			cure("see whether the replicas answer, and what the API server's metric apiserver_admission_webhook_fail_open_count counts").
			run("kubectl get --raw /metrics | grep apiserver_admission_webhook_fail_open_count")
	default:
		l.problem(check, "evictions in namespace %s pass undecided: %s", f.ProbeNamespace, leftOut(hook)).
			cure("see what runs at the webhook's address, and whether conditions are meant as they are; try another namespace by --probe-namespace")
	}
}

// leftOut is what else keeps an eviction from being decided, or from being told who did.
func leftOut(hook *admissionregistrationv1.ValidatingWebhook) string {
	text := "what answers is not a replica, or one of a version that does not know annotation " + webhook.ExplainAnnotation
	if len(hook.MatchConditions) > 0 {
		return "a matchCondition leaves them out (" + conditionsOf(hook) + "), or " + text
	}
	return text
}

// timeoutOf is how long the API server waits.
func timeoutOf(hook *admissionregistrationv1.ValidatingWebhook) time.Duration {
	if hook.TimeoutSeconds == nil {
		return 10 * time.Second
	}
	return time.Duration(*hook.TimeoutSeconds) * time.Second
}

// listPods is the command that shows where the replicas are.
func (f *Facts) listPods() string { return fmt.Sprintf("kubectl -n %s get pods -o wide", f.Namespace) }

func conditionsOf(hook *admissionregistrationv1.ValidatingWebhook) string {
	var list []string
	for _, c := range hook.MatchConditions {
		list = append(list, c.Name+": "+c.Expression)
	}
	return some(list, 3)
}

func (f *Facts) exemptsProbe(hook *admissionregistrationv1.ValidatingWebhook) bool {
	exempt, _ := f.exempt(hook)
	return slices.Contains(exempt, f.ProbeNamespace)
}

// reason is one kind of failed call, and its cure.
type reason struct {
	what, cure, command string
}

func (r reason) tell(finding *Finding) {
	finding.cure("%s", r.cure)
	finding.Command = r.command
}

// failureReason reads the API server's own words. Of several that fit, the first counts.
func failureReason(f *Facts, message string) reason {
	pods := f.listPods()
	logs := fmt.Sprintf("kubectl -n %s logs deployment/%s --tail=20", f.Namespace, f.Name)
	again, command := f.again()
	edit := fmt.Sprintf("kubectl edit validatingwebhookconfiguration %s", f.Target.Configuration)
	trusted := reason{what: "it does not trust the certificate", cure: "the caBundle lacks the CA of the serving certificate; see the findings about the certificate", command: logs}
	if f.Configuration.Value != nil {
		var bundle Finding
		f.cureBundle(&bundle)
		trusted.cure, trusted.command = bundle.Cure, bundle.Command
	}
	for _, known := range []struct {
		words []string
		reason
	}{
		{[]string{"service", "not found"}, reason{"the Service does not exist", again, command}},
		{[]string{"no service port"}, reason{"the Service lacks the port", "correct the port of the Service or of the webhook's clientConfig", edit}},
		{[]string{"no endpoints available"}, reason{"no replica is ready", "see why the pods are not ready", pods}},
		{[]string{"certificate signed by unknown authority"}, trusted},
		{[]string{"certificate is not trusted"}, trusted},
		{[]string{"certificate has expired", " is after "}, reason{"the serving certificate has ended", "see the findings about certificate and clocks; a certificate from files must be renewed by who issues it", logs}},
		{[]string{"is not yet valid", " is before "}, reason{"the serving certificate is not valid yet", "correct the clock of the replicas' nodes or of the API server", logs}},
		{[]string{"x509", "certificate is valid for"}, wrongName(f, logs)},
		{[]string{"x509", "doesn't contain any IP SANs"}, wrongName(f, logs)},
		{[]string{"x509", "not valid for any names"}, wrongName(f, logs)},
		{[]string{"tls: certificate required"}, refusedClient(f)},
		{[]string{"tls: bad certificate"}, refusedClient(f)},
		{[]string{"tls: unknown certificate authority"}, refusedClient(f)},
		{[]string{"tls: expired certificate"}, reason{"the certificate that the API server shows (--client-ca) has expired",
			"replace the files that its AdmissionConfiguration names by a new one of the same CA, and restart it", logs}},
		{[]string{"tls: internal error"}, reason{"the replica has no certificate to serve yet", "see what it waits for", logs}},
		{[]string{"gave HTTP response to HTTPS client"}, reason{"what answers there speaks no TLS", "correct the port of the Service or of the webhook's clientConfig", edit}},
		{[]string{"connection refused"}, reason{"nothing listens at the address", "see that replicas run, and that --listen and the port of the Service agree", pods}},
		{[]string{"no such host"}, reason{"the host in the webhook's URL is not known", "correct clientConfig.url, or the DNS of the API server's machine", edit}},
		{[]string{"no route to host"}, reason{"the network has no way to the address", "see the network of the API server's machine", pods}},
		{[]string{"Address is not allowed"}, reason{"the cloud's API server does not reach addresses of pods", // EKS with an overlay network
			"have the replicas listen on their nodes (config/host-network, or the chart's hostNetwork), or give pods addresses of the cloud's network", pods}},
		{[]string{"No agent available"}, reason{"the tunnel from the API server into the cluster is down", "see the konnectivity agents, and whether the network lets them out to the API server",
			"kubectl -n kube-system get pods -o wide"}},
		{[]string{"context deadline exceeded"}, slow(pods)},
		{[]string{"Client.Timeout exceeded"}, slow(pods)},
		{[]string{"i/o timeout"}, slow(pods)},
		{[]string{"could not find the requested resource"}, reason{"the path is not served there", "set the path in the webhook's clientConfig to " + hooks.EvictionsPath, edit}},
		{[]string{"EOF"}, reason{"the connection ended before the answer", "see whether a replica ends or restarts", pods}},
		{[]string{"connection reset"}, reason{"the connection was cut off", "see whether a replica ends or restarts", pods}},
	} {
		if !slices.ContainsFunc(known.words, func(word string) bool { return !strings.Contains(message, word) }) {
			return known.reason
		}
	}
	return reason{"it failed", "see the replicas and their log", logs}
}

func wrongName(f *Facts, logs string) reason {
	return reason{"the serving certificate is for another name", fmt.Sprintf("issue it for %s: by the Certificate's dnsNames, or by --dns-names", f.calledBy()), logs}
}

func refusedClient(f *Facts) reason {
	return reason{"the replica asks for a client certificate (--client-ca), and does not take what the API server shows",
		"give the API server a certificate of that CA by its AdmissionConfiguration, or serve without --client-ca", fmt.Sprintf("kubectl -n %s get deployment %s -o yaml", f.Namespace, f.Name)}
}

func slow(pods string) reason {
	return reason{"no answer came in time", "see whether the API server's machine reaches the pods (network policy, firewall, security group of the port that they listen at), and whether they are overloaded", pods}
}

// checkReplicas compares those that answered.
func checkReplicas(f *Facts, l *findings) {
	if f.Probes.Err != nil {
		return
	}
	var replicas, revisions []string
	for _, p := range f.Probes.Value {
		if p.Explanation != nil {
			replicas = append(replicas, p.Explanation.Replica)
			revisions = append(revisions, p.Explanation.Revision)
		}
	}
	slices.Sort(replicas)
	slices.Sort(revisions)
	replicas, revisions = slices.Compact(replicas), slices.Compact(revisions)
	if len(replicas) == 0 {
		return
	}
	ready := f.readyPods()
	silent := slices.DeleteFunc(distinct(ready, func(p corev1.Pod) []string { return []string{p.Name} }), func(name string) bool { return slices.Contains(replicas, name) })
	switch {
	case len(ready) == 0:
		l.ok("gate.replicas", "%s answered", some(replicas, 5))
	case len(silent) > 0:
		l.note("gate.replicas", "%d of %d ready replicas answered %d tries, since the API server keeps its connections; not seen: %s", len(ready)-len(silent), len(ready), len(f.Probes.Value), some(silent, 5))
	default:
		l.ok("gate.replicas", "all %d ready replicas answered", len(ready))
	}
	if len(revisions) > 1 {
		l.warn("gate.revision", "replicas decide by different policies: revisions %s", some(revisions, 5)).
			cure("wait half a minute; if it stays, see which replica cannot load its policies").
			run("kubectl -n %s logs -l app.kubernetes.io/name=%s --prefix --tail=20", f.Namespace, f.Name)
		return
	}
	l.ok("gate.revision", "policies of revision %s decide", revisions[0])
}
