package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/webhook/access"
)

// readMetrics is what --metrics-auth asks for.
var readMetrics = access.Action{Verb: "get", Path: "/metrics"}

// accessPatience bounds how long the API server may take to say whose a token is.
const accessPatience = 5 * time.Second

// clusterAccess asks the API server whose a token is, and what its user may do.
type clusterAccess struct{ client kubernetes.Interface }

func (c clusterAccess) Allow(ctx context.Context, token string, a access.Action) (string, error) {
	review, err := c.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
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
	may, err := c.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
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

// fileAccess lets those do everything who know the token in a file, which may change at any time.
type fileAccess struct{ name string }

func (f fileAccess) Allow(_ context.Context, token string, _ access.Action) (string, error) {
	want, err := f.token()
	if err != nil {
		return "", err
	}
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256(want)
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return "", access.ErrToken
	}
	return "token of " + f.name, nil
}

// minToken keeps a token from being guessed, in bytes.
const minToken = 16

func (f fileAccess) token() ([]byte, error) {
	raw, err := os.ReadFile(f.name)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	token := bytes.TrimSpace(raw)
	if len(token) < minToken {
		return nil, fmt.Errorf("--token-file: %s holds no token of %d characters or more; make one with: openssl rand -hex 32", f.name, minToken)
	}
	return token, nil
}
