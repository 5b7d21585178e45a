package callers

import (
	"crypto/rand"
	"encoding/hex"
	"net/url"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
)

// A secret has so many hexadecimal digits; those that are made here have the fewest: 128 random bits.
const minLength, maxLength = 32, 64

// newSecret makes one.
func newSecret() string {
	raw := make([]byte, minLength/2)
	_, _ = rand.Read(raw) // never fails: https://pkg.go.dev/crypto/rand#Read
	return hex.EncodeToString(raw)
}

// valid reports whether a text can be a secret.
func valid(secret string) bool {
	if len(secret) < minLength || len(secret) > maxLength {
		return false
	}
	for _, c := range []byte(secret) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// secretOf is the secret at the end of a path; empty when there is none.
func secretOf(path string) string {
	if last := path[strings.LastIndexByte(path, '/')+1:]; valid(last) {
		return last
	}
	return ""
}

// Carried is the secret that a webhook of a configuration is called by, when plain is its path without one: empty
// when it has none. It is not ours when it calls anything else.
func Carried(to admissionv1.WebhookClientConfig, plain string) (secret string, ours bool) {
	path := pathOf(to)
	switch {
	case strings.HasSuffix(path, plain):
		return "", true
	case secretOf(path) != "" && strings.HasSuffix(strings.TrimSuffix(path, "/"+secretOf(path)), plain):
		return secretOf(path), true
	}
	return "", false
}

// pathOf is where a webhook is called. A proxy may stand before us that adds to the path's beginning.
func pathOf(to admissionv1.WebhookClientConfig) string {
	if to.Service != nil {
		if to.Service.Path == nil {
			return ""
		}
		return *to.Service.Path
	}
	if to.URL == nil {
		return ""
	}
	u, err := url.Parse(*to.URL)
	if err != nil {
		return ""
	}
	return u.Path
}

// withSecret is the client configuration as it is when it is called by a secret, and none if that is empty. It
// must be ours.
func withSecret(to admissionv1.WebhookClientConfig, plain, secret string) admissionv1.WebhookClientConfig {
	path := pathOf(to)
	path = path[:strings.LastIndex(path, plain)] + plain
	if secret != "" {
		path += "/" + secret
	}
	var changed admissionv1.WebhookClientConfig
	if to.Service != nil {
		service := *to.Service
		service.Path = &path
		changed.Service = &service
		return changed
	}
	u, err := url.Parse(*to.URL)
	if err == nil {
		u.Path, u.RawPath = path, ""
		text := u.String()
		changed.URL = &text
	}
	return changed
}
