package certs

import (
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
)

// Injection is what cert-manager's cainjector makes a caBundle from: the annotation that asks for it.
type Injection string

const (
	// ByHand has no such annotation: somebody writes the caBundle.
	ByHand Injection = ""
	// FromSecret takes ca.crt of a Secret that allows it.
	FromSecret Injection = cmapi.WantInjectFromSecretAnnotation
	// FromCertificate takes ca.crt of the Secret of a Certificate.
	FromCertificate Injection = cmapi.WantInjectAnnotation
	// FromAPIServer takes the CA that the API server itself is called by, which signs no webhook's certificate.
	FromAPIServer Injection = cmapi.WantInjectAPIServerCAAnnotation
)

// InjectionOf is that of an object with these annotations, and the Secret or Certificate, as NAMESPACE/NAME. Of several
// cainjector takes the first in the order above:
// https://github.com/cert-manager/cert-manager/blob/v1.21.2/pkg/controller/cainjector/setup.go
func InjectionOf(annotations map[string]string) (by Injection, from string) {
	for _, by := range []Injection{FromSecret, FromCertificate} {
		if from, ok := annotations[string(by)]; ok {
			return by, from
		}
	}
	if annotations[string(FromAPIServer)] == "true" {
		return FromAPIServer, ""
	}
	return ByHand, ""
}
