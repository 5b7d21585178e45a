package certs

import "testing"

func TestInjectionOf(t *testing.T) {
	secret, certificate, apiServer := string(FromSecret), string(FromCertificate), string(FromAPIServer)
	for name, tt := range map[string]struct {
		annotations map[string]string
		by          Injection
		from        string
	}{
		"none":                  {nil, ByHand, ""},
		"a Secret":              {map[string]string{secret: "a/b"}, FromSecret, "a/b"},
		"a Certificate":         {map[string]string{certificate: "a/b"}, FromCertificate, "a/b"},
		"the API server":        {map[string]string{apiServer: "true"}, FromAPIServer, ""},
		"not the API server":    {map[string]string{apiServer: "false"}, ByHand, ""},
		"cainjector's order":    {map[string]string{certificate: "a/b", secret: "c/d", apiServer: "true"}, FromSecret, "c/d"},
		"a Certificate is next": {map[string]string{certificate: "a/b", apiServer: "true"}, FromCertificate, "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			if by, from := InjectionOf(tt.annotations); by != tt.by || from != tt.from {
				t.Errorf("%s %s, expected %s %s", by, from, tt.by, tt.from)
			}
		})
	}
}
