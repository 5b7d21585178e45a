// Package tokens checks bearer tokens: with the API server, or against one in a file.
package tokens

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/webhook/access"
)

// Cluster asks the API server whose a token is, and what its user may do.
type Cluster struct{ Client kubernetes.Interface }

// Allow makes a TokenReview and a SubjectAccessReview.
func (c Cluster) Allow(ctx context.Context, token string, a access.Action) (string, error) {
	review, err := c.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("review the token: %w", err)
	}
	if !review.Status.Authenticated {
		return "", access.ErrToken
	}
	user := review.Status.User
	extra := map[string]authorizationv1.ExtraValue{}
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := c.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("review the access of %s: %w", user.Username, err)
	}
	if !may.Status.Allowed {
		return user.Username, fmt.Errorf("%s: %w", user.Username, access.ErrForbidden)
	}
	return user.Username, nil
}

// Rules are what Cluster must be allowed: those of system:auth-delegator, to which the manifests bind: whose token it is, and
// what they may do.
func Rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}},
		{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}},
	}
}

// File lets those do everything who know the token in a file, which may change at any time.
type File struct{ Name string }

// Allow compares the tokens, without telling by the time it takes how much of them agrees.
func (f File) Allow(_ context.Context, token string, _ access.Action) (string, error) {
	want, err := f.token()
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256(want)
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return "", access.ErrToken
	}
	return "token of " + f.Name, nil
}

// Check says what is wrong with the file.
func (f File) Check() error {
	_, err := f.token()
	return err
}

// minToken keeps a token from being guessed, in bytes.
const minToken = 16

func (f File) token() ([]byte, error) {
	raw, err := os.ReadFile(f.Name)
	if err != nil {
		return nil, err
	}
	token := bytes.TrimSpace(raw)
	if len(token) < minToken {
		return nil, fmt.Errorf("%s holds no token of %d characters or more; make one with: openssl rand -hex 32", f.Name, minToken)
	}
	return token, nil
}
