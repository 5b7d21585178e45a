package webhook

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
)

// What a review may hold of its sender's text. The API server bounds none of it: it lets an Eviction of 3 MB of
// annotations pass. Nothing is cut before the policies see it, since a policy might admit because of what is
// missing; a review beyond these bounds is refused with a sentence instead. Records keep less: see audit.Record.
const (
	// maxAnnotationBytes is Kubernetes' own bound on the annotations of an object, names and values together.
	maxAnnotationBytes = 256 << 10
	maxAnnotations     = 1000
	// maxGroups and maxGroupBytes leave room for the users of large directories.
	maxGroups     = 4000
	maxGroupBytes = 256 << 10
	// maxUserName leaves room for a SPIFFE ID, which has 2048 bytes at most.
	maxUserName = 4096
	// maxUID bounds the review's UID, which is a UUID.
	maxUID = 128
	// maxNamespaceName and maxPodName are Kubernetes' bounds.
	maxNamespaceName = 63
	maxPodName       = 253
	// maxDeleteOptions bounds the texts of the delete options together.
	maxDeleteOptions = 4096
)

// checkNames refuses a review that is about no object there can be, or that has no UID to be answered by: then it
// is answered without one.
func (in *incoming) checkNames() error {
	r := &in.Request
	switch {
	case len(r.UID) > maxUID:
		n := len(r.UID)
		r.UID = ""
		return fmt.Errorf("request.uid has %d bytes; at most %d are taken", n, maxUID)
	case strings.ContainsFunc(string(r.UID), notPrintableASCII):
		return fmt.Errorf("request.uid is %.100q; expected printable ASCII without spaces, such as a UUID", r.UID)
	case len(r.Namespace) > maxNamespaceName:
		return fmt.Errorf("request.namespace has %d bytes; a namespace's name has at most %d", len(r.Namespace), maxNamespaceName)
	case len(r.Name) > maxPodName:
		return fmt.Errorf("request.name has %d bytes; a pod's name has at most %d", len(r.Name), maxPodName)
	}
	return checkUser(r.UserInfo)
}

func notPrintableASCII(r rune) bool { return r <= ' ' || r > '~' }

func checkUser(u policies.User) error {
	bytes := 0
	for _, group := range u.Groups {
		bytes += len(group)
	}
	switch {
	case len(u.Username) > maxUserName:
		return fmt.Errorf("the user's name has %d bytes; at most %d are taken", len(u.Username), maxUserName)
	case len(u.Groups) > maxGroups:
		return fmt.Errorf("the user has %d groups; at most %d are taken", len(u.Groups), maxGroups)
	case bytes > maxGroupBytes:
		return fmt.Errorf("the names of the user's groups have %d bytes; at most %d are taken", bytes, maxGroupBytes)
	}
	return nil
}

// checkSize refuses an Eviction with more text than an honest one has.
func (e *eviction) checkSize() error {
	bytes := 0
	for key, value := range e.Metadata.Annotations {
		bytes += len(key) + len(value)
	}
	switch {
	case len(e.Metadata.Annotations) > maxAnnotations:
		return fmt.Errorf("the Eviction has %d annotations; at most %d are taken", len(e.Metadata.Annotations), maxAnnotations)
	case bytes > maxAnnotationBytes:
		return fmt.Errorf("the Eviction has %d bytes of annotations; at most %d are taken", bytes, maxAnnotationBytes)
	}
	if n := textOf(e.DeleteOptions); n > maxDeleteOptions {
		return fmt.Errorf("the Eviction has %d bytes of text in deleteOptions; at most %d are taken", n, maxDeleteOptions)
	}
	return nil
}

// textOf counts the bytes that a client chooses in delete options.
func textOf(o *metav1.DeleteOptions) int {
	if o == nil {
		return 0
	}
	n := len(o.Kind) + len(o.APIVersion)
	for _, value := range o.DryRun {
		n += len(value) + 1 // an empty one counts, too
	}
	if p := o.PropagationPolicy; p != nil {
		n += len(*p)
	}
	if p := o.Preconditions; p != nil {
		if p.UID != nil {
			n += len(*p.UID)
		}
		if p.ResourceVersion != nil {
			n += len(*p.ResourceVersion)
		}
	}
	return n
}

// maxPlain bounds a text of others in an audit annotation, in runes.
const maxPlain = 1024

// plain is a text of others as it may stand in a log: on one line, without characters that change how the rest is
// shown, and not too long.
func plain(text string) string {
	if len(text) <= maxPlain && !strings.ContainsFunc(text, invisible) {
		return text
	}
	text = text[:min(len(text), utf8.UTFMax*maxPlain+1)] // more runes than are kept
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if invisible(r) {
			return ' '
		}
		return r
	}, text))
	if utf8.RuneCountInString(text) <= maxPlain {
		return text
	}
	return string([]rune(text)[:maxPlain-1]) + "…"
}

// invisible is a control character, one that changes the direction of writing, or an end of a line.
func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}
