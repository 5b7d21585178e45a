package tokens

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/evictgate/evictgate/webhook/access"
)

var page = access.Action{Verb: "get", Path: "/review"}

// server is an API server that knows one token and what its user may do.
type server struct {
	token   string
	status  authenticationv1.TokenReviewStatus
	allowed bool
	// fails is the resource whose review is answered by an error.
	fails string

	asked  authorizationv1.SubjectAccessReviewSpec
	client *fake.Clientset
}

func (s *server) start() Cluster {
	s.client = fake.NewClientset()
	s.client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if review.Spec.Token == s.token {
			review.Status = s.status
		}
		return true, review, s.fail("tokenreviews")
	})
	s.client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		s.asked = review.Spec
		review.Status.Allowed = s.allowed
		return true, review, s.fail("subjectaccessreviews")
	})
	return Cluster{Client: s.client}
}

func (s *server) fail(resource string) error {
	if s.fails != resource {
		return nil
	}
	return apierrors.NewServiceUnavailable("no " + resource)
}

func TestTheAPIServerDecides(t *testing.T) {
	jane := authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "jane"}}
	for name, tt := range map[string]struct {
		server server
		token  string
		user   string
		is     error  // what the error is; nil for none
		text   string // of the error; empty for any
		calls  int
	}{
		"a good token of somebody who may":     {server{token: "good", status: jane, allowed: true}, "good", "jane", nil, "", 2},
		"a good token of somebody who may not": {server{token: "good", status: jane}, "good", "jane", access.ErrForbidden, "jane: not allowed", 2},
		"an unknown token":                     {server{token: "good", status: jane, allowed: true}, "bad", "", access.ErrToken, "", 1},
		"no token":                             {server{token: "good", status: jane, allowed: true}, "", "", access.ErrToken, "", 1},
		"a token of which the API server names the user, but does not vouch for": {
			server{token: "good", status: authenticationv1.TokenReviewStatus{User: jane.User}, allowed: true}, "good", "", access.ErrToken, "", 1,
		},
		"the token cannot be reviewed":  {server{token: "good", status: jane, allowed: true, fails: "tokenreviews"}, "good", "", nil, "review the token: no tokenreviews", 1},
		"the access cannot be reviewed": {server{token: "good", status: jane, allowed: true, fails: "subjectaccessreviews"}, "good", "", nil, "review the access of jane: no subjectaccessreviews", 2},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := tt.server.start()
			user, err := cluster.Allow(t.Context(), tt.token, page)
			if user != tt.user || (err != nil) != (tt.is != nil || tt.text != "") || tt.is != nil && !errors.Is(err, tt.is) || tt.text != "" && err.Error() != tt.text {
				t.Errorf("user %q, error %v", user, err)
			}
			if tt.is == nil && (errors.Is(err, access.ErrToken) || errors.Is(err, access.ErrForbidden)) {
				t.Errorf("%v is taken for an answer", err)
			}
			if n := len(tt.server.client.Actions()); n != tt.calls {
				t.Errorf("the API server was called %d times, want %d", n, tt.calls)
			}
		})
	}
}

// The API server is asked about the whole user: a group or an extra that is lost would be a right that is lost or won.
func TestAccessIsAskedForTheWholeUser(t *testing.T) {
	s := server{token: "good", allowed: true, status: authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
		Username: "system:serviceaccount:shop:ci", UID: "u1", Groups: []string{"system:serviceaccounts", "system:authenticated"},
		Extra: map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/pod-name": {"ci-0"}},
	}}}
	if _, err := s.start().Allow(t.Context(), "good", page); err != nil {
		t.Fatal(err)
	}
	want := authorizationv1.SubjectAccessReviewSpec{
		User: "system:serviceaccount:shop:ci", UID: "u1", Groups: []string{"system:serviceaccounts", "system:authenticated"},
		Extra:                 map[string]authorizationv1.ExtraValue{"authentication.kubernetes.io/pod-name": {"ci-0"}},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/review", Verb: "get"},
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What is asked of the API server is what Rules allow, and all that they allow is asked.
func TestRulesAreWhatIsAsked(t *testing.T) {
	s := server{token: "good", status: authenticationv1.TokenReviewStatus{Authenticated: true}, allowed: true}
	if _, err := s.start().Allow(t.Context(), "good", page); err != nil {
		t.Fatal(err)
	}
	var asked []rbacv1.PolicyRule
	for _, a := range s.client.Actions() {
		asked = append(asked, rbacv1.PolicyRule{Verbs: []string{a.GetVerb()}, APIGroups: []string{a.GetResource().Group}, Resources: []string{a.GetResource().Resource}})
	}
	if covered, missing := validation.Covers(Rules(), asked); !covered {
		t.Errorf("not allowed: %v", missing)
	}
	if covered, more := validation.Covers(asked, Rules()); !covered {
		t.Errorf("allowed and not asked: %v", more)
	}
}

func TestTheTokenOfAFile(t *testing.T) {
	const token = "0123456789abcdef"
	for name, tt := range map[string]struct {
		file  string
		given string
		want  error // nil: the token is accepted
	}{
		"the token":                   {token, token, nil},
		"with the end of its line":    {token + "\n", token, nil},
		"another one":                 {token, "0123456789abcdeg", access.ErrToken},
		"a part of it":                {token, token[:15], access.ErrToken},
		"more than it":                {token, token + "0", access.ErrToken},
		"none":                        {token, "", access.ErrToken},
		"with a blank that is not it": {token, token + "\n", access.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			f := File{Name: filepath.Join(t.TempDir(), "token")}
			write(t, f.Name, tt.file)
			user, err := f.Allow(t.Context(), tt.given, page)
			if !errors.Is(err, tt.want) || (user == "token of "+f.Name) != (tt.want == nil) {
				t.Errorf("user %q, error %v", user, err)
			}
		})
	}
}

// A file that holds no token lets nobody in, and says so before anybody comes.
func TestAFileWithoutAToken(t *testing.T) {
	dir := t.TempDir()
	short, blank := filepath.Join(dir, "short"), filepath.Join(dir, "blank")
	write(t, short, "0123456789abcde\n")
	write(t, blank, strings.Repeat(" ", 20))
	const hint = " holds no token of 16 characters or more; make one with: openssl rand -hex 32"
	for name, text := range map[string]string{short: short + hint, blank: blank + hint} {
		f := File{Name: name}
		if err := f.Check(); err == nil || err.Error() != text {
			t.Errorf("checked: %v", err)
		}
		for _, given := range []string{"", "0123456789abcde"} {
			if user, err := f.Allow(t.Context(), given, page); err == nil || user != "" || errors.Is(err, access.ErrToken) || err.Error() != "token file: "+text {
				t.Errorf("with %q: user %q, error %v", given, user, err)
			}
		}
	}
	missing := File{Name: filepath.Join(dir, "missing")}
	if err := missing.Check(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

// A token that is replaced counts at once; the old one does not any more.
func TestATokenIsReplaced(t *testing.T) {
	f := File{Name: filepath.Join(t.TempDir(), "token")}
	allowed := func(token string) bool {
		_, err := f.Allow(context.Background(), token, page)
		return err == nil
	}
	write(t, f.Name, "0123456789abcdef")
	if err := f.Check(); err != nil || !allowed("0123456789abcdef") {
		t.Fatalf("the first token: %v", err)
	}
	write(t, f.Name, "fedcba9876543210")
	if allowed("0123456789abcdef") || !allowed("fedcba9876543210") {
		t.Error("the old token is accepted, or the new one is not")
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
