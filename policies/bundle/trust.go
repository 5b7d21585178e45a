package bundle

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"
)

// onlyKey is the name of the key for OPA. A key that is named in the configuration verifies whatever
// key a signature names, also none, as `opa sign` leaves it.
const onlyKey = "key"

// verification is OPA's configuration of how signatures are verified; nil without a key.
func verification(o Options) (*opabundle.VerificationConfig, error) {
	if o.PublicKey == "" {
		if o.Algorithm != "" || o.Scope != "" {
			return nil, errors.New("an algorithm or a scope of the signature needs a public key")
		}
		return nil, nil
	}
	data, err := os.ReadFile(o.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	key, err := publicKey(data)
	if err != nil {
		return nil, fmt.Errorf("the public key %s: %w", o.PublicKey, err)
	}
	algorithm, err := algorithmFor(key, o.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("the public key %s: %w", o.PublicKey, err)
	}
	config := map[string]*keys.Config{onlyKey: {Key: string(data), Algorithm: algorithm}}
	return opabundle.NewVerificationConfig(config, onlyKey, o.Scope, nil), nil
}

// publicKey reads what OPA can read, but no private key: that does not belong here.
func publicKey(data []byte) (any, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("more than one PEM block in it; only one key can be used")
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	}
	return nil, fmt.Errorf("it holds a %s; expected a PUBLIC KEY or a CERTIFICATE", block.Type)
}

// algorithmFor is the algorithm of signatures by a key. It never comes from the signature itself.
func algorithmFor(key any, asked string) (string, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if asked == "" {
			return "RS256", nil
		}
		if (strings.HasPrefix(asked, "RS") || strings.HasPrefix(asked, "PS")) && keys.IsSupportedAlgorithm(asked) {
			return asked, nil
		}
		return "", fmt.Errorf("an RSA key does not verify %s; expected RS256, RS384, RS512, PS256, PS384 or PS512", asked)
	case *ecdsa.PublicKey:
		own, ok := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
		if !ok {
			return "", fmt.Errorf("its curve %s has no algorithm; expected P-256, P-384 or P-521", k.Curve.Params().Name)
		}
		if asked != "" && asked != own {
			return "", fmt.Errorf("a key on %s verifies %s, not %s", k.Curve.Params().Name, own, asked)
		}
		return own, nil
	}
	return "", fmt.Errorf("OPA verifies RSA and ECDSA signatures, this is a %T", key)
}
