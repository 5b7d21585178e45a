//go:build linux

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// file is one of a volume.
type file struct {
	content []byte
	mode    os.FileMode
	owner   int64 // user id
}

// volume is one of a pod, with what its directory holds now.
type volume struct {
	source corev1.Volume
	dir    string
	now    map[string]file
	tokens map[string]*token // by path
}

// token is a service account token with the time when the next is asked for.
type token struct {
	text  string
	renew time.Time
}

func newVolume(source corev1.Volume, dir string) *volume {
	return &volume{source: source, dir: dir, tokens: map[string]*token{}}
}

// sync makes the directory hold what the cluster says now. An error names the volume and what is missing,
// in the words of a kubelet, and the directory stays as it was.
func (v *volume) sync(ctx context.Context, p *pod) error {
	files, err := v.render(ctx, p)
	if err == nil && v.now == nil {
		err = v.create(p)
	}
	if err == nil && v.source.EmptyDir == nil && !maps.EqualFunc(v.now, files, equalFile) {
		err = swap(v.dir, files, fsGroup(p.pod()))
	}
	if err != nil {
		return fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.source.Name, err)
	}
	if v.now = files; files == nil {
		v.now = map[string]file{}
	}
	return nil
}

func equalFile(a, b file) bool {
	return bytes.Equal(a.content, b.content) && a.mode == b.mode && a.owner == b.owner
}

// create makes the directory: everybody may write to an emptyDir.
func (v *volume) create(p *pod) error {
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return err
	}
	if v.source.EmptyDir == nil {
		return nil
	}
	if group := fsGroup(p.pod()); group != nil {
		if err := os.Chown(v.dir, 0, int(*group)); err != nil {
			return err
		}
	}
	return os.Chmod(v.dir, 0o777|os.ModeSetgid)
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// render says which files the volume is to hold.
func (v *volume) render(ctx context.Context, p *pod) (map[string]file, error) {
	files := map[string]file{}
	switch s := v.source.VolumeSource; {
	case s.Secret != nil:
		return files, p.addSecret(files, s.Secret.SecretName, s.Secret.Items, s.Secret.Optional, mode(s.Secret.DefaultMode))
	case s.ConfigMap != nil:
		return files, p.addConfigMap(files, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode(s.ConfigMap.DefaultMode))
	case s.DownwardAPI != nil:
		return files, p.addFields(files, s.DownwardAPI.Items, mode(s.DownwardAPI.DefaultMode))
	case s.Projected != nil:
		for _, source := range s.Projected.Sources {
			if err := v.project(ctx, p, files, source, mode(s.Projected.DefaultMode)); err != nil {
				return nil, err
			}
		}
		return files, nil
	}
	return nil, nil // emptyDir
}

func (v *volume) project(ctx context.Context, p *pod, files map[string]file, source corev1.VolumeProjection, m os.FileMode) error {
	switch {
	case source.Secret != nil:
		return p.addSecret(files, source.Secret.Name, source.Secret.Items, source.Secret.Optional, m)
	case source.ConfigMap != nil:
		return p.addConfigMap(files, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional, m)
	case source.DownwardAPI != nil:
		return p.addFields(files, source.DownwardAPI.Items, m)
	}
	return v.addToken(ctx, p, files, source.ServiceAccountToken, m)
}

func mode(of *int32) os.FileMode {
	if of == nil {
		return 0o644
	}
	return os.FileMode(*of)
}

func (p *pod) addSecret(files map[string]file, name string, items []corev1.KeyToPath, optional *bool, m os.FileMode) error {
	s, err := p.agent.secret(p.namespace, name)
	if err != nil {
		return unlessOptional(err, optional)
	}
	return addKeys(files, s.Data, items, optional, m)
}

func (p *pod) addConfigMap(files map[string]file, name string, items []corev1.KeyToPath, optional *bool, m os.FileMode) error {
	c, err := p.agent.configMap(p.namespace, name)
	if err != nil {
		return unlessOptional(err, optional)
	}
	data := maps.Clone(c.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, text := range c.Data {
		data[key] = []byte(text)
	}
	return addKeys(files, data, items, optional, m)
}

// addKeys adds all keys under their own names, or the chosen ones under the names given.
func addKeys(files map[string]file, data map[string][]byte, items []corev1.KeyToPath, optional *bool, m os.FileMode) error {
	if len(items) == 0 {
		for key, content := range data {
			files[key] = file{content: content, mode: m}
		}
	}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok {
			if err := unlessOptional(fmt.Errorf("references non-existent key: %s", item.Key), optional); err != nil {
				return err
			}
			continue
		}
		f := file{content: content, mode: m}
		if item.Mode != nil {
			f.mode = mode(item.Mode)
		}
		files[item.Path] = f
	}
	return nil
}

func (p *pod) addFields(files map[string]file, items []corev1.DownwardAPIVolumeFile, m os.FileMode) error {
	for _, item := range items {
		if item.FieldRef == nil {
			return errors.New("resourceFieldRef is not supported in a volume")
		}
		text, err := field(p.pod(), item.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		files[item.Path] = file{content: []byte(text), mode: m}
	}
	return nil
}

// addToken asks for a token bound to the pod, and for the next after four fifths of its life, as a kubelet
// does. A renewal that fails leaves the old token in place.
func (v *volume) addToken(ctx context.Context, p *pod, files map[string]file, source *corev1.ServiceAccountTokenProjection, m os.FileMode) error {
	t := v.tokens[source.Path]
	if t == nil || time.Now().After(t.renew) {
		fresh, err := p.requestToken(ctx, source)
		if err != nil && t == nil {
			return err
		}
		if err == nil {
			t = fresh
			v.tokens[source.Path] = t
		}
	}
	f := file{content: []byte(t.text), mode: m}
	f.mode, f.owner = tokenMode(p.pod(), m)
	files[source.Path] = f
	return nil
}

func (p *pod) requestToken(ctx context.Context, source *corev1.ServiceAccountTokenProjection) (*token, error) {
	pod := p.pod()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	asked := time.Now()
	answer, err := p.agent.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("fetch a token: %w", err)
	}
	life := answer.Status.ExpirationTimestamp.Sub(asked)
	return &token{text: answer.Status.Token, renew: asked.Add(life * 4 / 5)}, nil
}

// tokenMode: nobody but the containers' user can read a token, where there is one user.
func tokenMode(pod *corev1.Pod, m os.FileMode) (os.FileMode, int64) {
	if fsGroup(pod) != nil {
		return 0o640, 0
	}
	var users []int64
	for _, c := range pod.Spec.Containers {
		var own, whole *int64
		if c.SecurityContext != nil {
			own = c.SecurityContext.RunAsUser
		}
		if pod.Spec.SecurityContext != nil {
			whole = pod.Spec.SecurityContext.RunAsUser
		}
		user := first(own, whole)
		if user == nil {
			return m, 0
		}
		users = append(users, *user)
	}
	if slices.Max(users) != slices.Min(users) {
		return m, 0
	}
	return 0o600, users[0]
}

// swap writes the files into a new directory beside the old one and makes ..data point at it in one step, so
// that a reader sees the old files or the new ones and never some of each.
func swap(dir string, files map[string]file, group *int64) error {
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data)
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for path, f := range files {
		if err := f.write(filepath.Join(fresh, path), group); err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Base(fresh), data+"_tmp"); err != nil {
		return err
	}
	if err := os.Rename(data+"_tmp", data); err != nil {
		return err
	}
	if err := link(dir, files); err != nil || old == "" {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

func (f file) write(path string, group *int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.content, 0o600); err != nil {
		return err
	}
	gid := 0
	if group != nil {
		gid = int(*group)
	}
	return errors.Join(os.Chown(path, int(f.owner), gid), os.Chmod(path, f.mode)) // a mode bit may go with the owner
}

// link gives every file its name in the volume, by way of ..data, and takes away the names of those that
// are gone.
func link(dir string, files map[string]file) error {
	want := map[string]bool{}
	for path := range files {
		name, _, _ := strings.Cut(path, "/")
		want[name] = true
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") && !want[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
