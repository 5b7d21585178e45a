package doctor

import (
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/evictgate/evictgate/webhook/callers"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// How the replicas know the API server; see `evictgate serve --secret-path`.
const (
	pathKeep   = "keep"
	pathFollow = "follow"
)

// checkCallers says whether the replicas can tell the API server from others who reach their port. The secret itself
// is never shown.
func checkCallers(f *Facts, l *findings) {
	const check = "callers"
	if f.hook(hooks.Evictions) == nil {
		return
	}
	args := f.Arguments.Value
	if args != nil && args.ClientCA {
		l.ok(check, "the API server is known by its client certificate: nobody else is let in")
		return
	}
	plain, broken := f.withoutSecret()
	switch {
	case len(broken) > 0:
		l.warn(check, "what stands behind the path of %s is not a secret, and everybody who calls is taken for a stranger: %s", strings.Join(broken, " and "), unknownCaller).
			cure("put the same 32 to 64 digits of 0-9 and a-f behind the paths of both webhooks; docs/certificates.md says how")
	case len(plain) == 0 && args != nil && args.SecretPath != pathKeep && args.SecretPath != pathFollow:
		l.warn(check, "the path of the webhooks has a secret part, and --secret-path=%s says not to heed it: %s", args.SecretPath, unknownCaller).
			cure("serve without --secret-path")
	case len(plain) == 0:
		l.ok(check, "the API server is known by the secret part of its path, %s/…", hooks.EvictionsPath)
	default:
		status := Warning
		if args != nil && args.SecretPath == pathFollow { // as it is installed: the path is written in a step of its own
			status = Note
		}
		f.cureCallers(l.add(check, status, "the API server cannot be told from others who reach the port: the path of %s has no secret part: %s", strings.Join(plain, " and "), unknownCaller))
	}
}

// unknownCaller is what that means.
const unknownCaller = "evictions are decided, but not counted, and holds, overrides, Events and live reads are off"

// withoutSecret names our webhooks whose path has no secret part, and those with something else there.
func (f *Facts) withoutSecret() (plain, broken []string) {
	for name, path := range hooks.Paths {
		hook := f.hook(name)
		if hook == nil || hook.ClientConfig.Service == nil && hook.ClientConfig.URL == nil {
			continue
		}
		secret, ours := callers.Carried(hook.ClientConfig, path)
		switch {
		case ours && secret == "":
			plain = append(plain, name)
		case !ours && strings.Contains(fullPathOf(hook.ClientConfig), path+"/"):
			broken = append(broken, name)
		}
	}
	slices.Sort(plain)
	slices.Sort(broken)
	return plain, broken
}

// cureCallers says who is to write the secret.
func (f *Facts) cureCallers(finding *Finding) {
	args := f.Arguments.Value
	older := f.knowsNoSecret()
	switch {
	case args != nil && args.SecretPath == pathKeep && len(older) > 0:
		finding.cure("a replica writes it when all pods have the annotation %s=true, which %s lack: let the update finish, or add it to the Deployment's template", callers.Annotation, some(older, 3))
	case args != nil && args.SecretPath == pathKeep:
		finding.cure("a replica should have written it within seconds: its log says why it did not; a GitOps tool that puts the plain path back is to leave it alone, as docs/platforms.md says").
			run("kubectl -n %s logs deployment/%s | grep 'secret path'", f.Namespace, f.Name)
	default:
		finding.cure("write it into the configuration, or demand client certificates by --client-ca; docs/certificates.md says how")
	}
}

// knowsNoSecret names the pods of a version without secret paths.
func (f *Facts) knowsNoSecret() []string {
	var names []string
	for _, pod := range f.Pods.Value {
		if pod.Annotations[callers.Annotation] != "true" {
			names = append(names, pod.Name)
		}
	}
	slices.Sort(names)
	return names
}

// pathOf is the path that is called, without the secret part.
func pathOf(c admissionregistrationv1.WebhookClientConfig) string {
	path := fullPathOf(c)
	for _, plain := range []string{hooks.EvictionsPath, hooks.PoliciesPath} {
		if strings.HasPrefix(path, plain+"/") {
			return plain
		}
	}
	return path
}
