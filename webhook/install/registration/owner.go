package registration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// fieldManager owns what is written.
	fieldManager = "evictgate"
	// again is the pause after an attempt that failed, recheck that without any event.
	again   = 5 * time.Second
	recheck = 10 * time.Minute
)

// errNotSeenYet: config/least-rights lets failurePolicy be Ignore only while the namespace is being deleted, which an
// API server may learn a moment after us.
var errNotSeenYet = errors.New("the API server does not let failurePolicy be Ignore yet")

// Owner makes a namespace the owner of a ValidatingWebhookConfiguration, and keeps it that. Any number of
// replicas may do so beside each other. It is a manager.Runnable.
type Owner struct {
	Client kubernetes.Interface
	// Namespace is that of the installation, Configuration the name of its ValidatingWebhookConfiguration.
	Namespace, Configuration string
	Log                      *slog.Logger

	told string // what was logged last
}

// Rules are what an Owner must be allowed, for a ClusterRole. Where the admission plugin
// OwnerReferencesPermissionEnforcement is on, delete on the configuration is needed, too.
func Rules(namespace, configuration string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		APIGroups:     []string{corev1.GroupName},
		Resources:     []string{"namespaces"},
		ResourceNames: []string{namespace},
		Verbs:         []string{"get", "list", "watch"},
	}, {
		APIGroups:     []string{"admissionregistration.k8s.io"},
		Resources:     []string{"validatingwebhookconfigurations"},
		ResourceNames: []string{configuration},
		Verbs:         []string{"get", "list", "watch", "patch"},
	}}
}

// NeedLeaderElection says that every replica is an Owner.
func (o *Owner) NeedLeaderElection() bool { return false }

// Start keeps the owner until ctx ends, when it returns nil. What hinders it is logged, each thing once.
func (o *Owner) Start(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	namespaces := o.factory(o.Namespace)
	configurations := o.factory(o.Configuration)
	for _, informer := range []cache.SharedIndexInformer{
		namespaces.Core().V1().Namespaces().Informer(),
		configurations.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer(),
	} {
		if err := o.follow(informer, changed); err != nil {
			return fmt.Errorf("follow the webhook configuration's owner: %w", err)
		}
	}
	namespaces.StartWithContext(ctx)
	configurations.StartWithContext(ctx)
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(pause):
		}
		pause = o.attempt(ctx)
	}
}

// factory makes informers that see one object only.
func (o *Owner) factory(name string) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(o.Client, 0, informers.WithTweakListOptions(func(l *metav1.ListOptions) {
		l.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}))
}

func (o *Owner) follow(informer cache.SharedIndexInformer, changed chan<- struct{}) error {
	tell := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, obj any) { tell(obj) }, DeleteFunc: tell,
	})
	return err
}

// attempt brings the configuration into line once, and says when to look again.
func (o *Owner) attempt(ctx context.Context) time.Duration {
	done, err := o.settle(ctx)
	switch {
	case ctx.Err() != nil:
		return recheck
	case apierrors.IsConflict(err): // somebody else was faster, perhaps another replica
		return time.Second
	case errors.Is(err, errNotSeenYet):
		return time.Second
	case err != nil:
		o.tell(slog.LevelWarn, "the webhook configuration is not tied to its namespace", "configuration", o.Configuration, "error", err.Error())
		return again
	case done != "":
		o.tell(slog.LevelInfo, done, "configuration", o.Configuration, "namespace", o.Namespace)
	default: // all is well, so what hinders it next is news
		o.told = ""
	}
	return recheck
}

// tell logs what it did not log last.
func (o *Owner) tell(level slog.Level, text string, args ...any) {
	if line := fmt.Sprint(text, args); line != o.told {
		o.told = line
		o.Log.Log(context.Background(), level, text, args...)
	}
}

// settle looks at both objects, and writes what is to be changed. It says what is new.
func (o *Owner) settle(ctx context.Context) (done string, err error) {
	hooks := o.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	configuration, err := hooks.Get(ctx, o.Configuration, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", errors.New("it does not exist, so that no eviction is decided: apply it")
	}
	if err != nil {
		return "", fmt.Errorf("get it: %w", err)
	}
	namespace, err := o.Client.CoreV1().Namespaces().Get(ctx, o.Namespace, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("get namespace %s: %w", o.Namespace, err)
	}
	change, err := changeFor(configuration, namespace)
	if err != nil || change == nil {
		return "", err
	}
	kind, patch, err := change.patch(configuration)
	if err != nil {
		return "", err
	}
	_, err = hooks.Patch(ctx, o.Configuration, kind, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if apierrors.IsForbidden(err) && len(change.ignore) > 0 && strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
		return "", fmt.Errorf("%w: %w", errNotSeenYet, err)
	}
	if apierrors.IsForbidden(err) {
		return "", fmt.Errorf("%w; allow the service account patch on it, and delete where the API server's admission plugin OwnerReferencesPermissionEnforcement is on, or serve with --own-configuration=false", err)
	}
	return change.what, err
}
