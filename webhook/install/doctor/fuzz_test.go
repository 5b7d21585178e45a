package doctor

import "testing"

// FuzzCABundle reads what is in somebody's caBundle or Secret.
func FuzzCABundle(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN X-----\na: b\n\n-----END X-----\nrest"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := certificatesIn(raw)
		for _, c := range list {
			if c == nil {
				t.Errorf("a certificate is nil (%v)", err)
			}
		}
	})
}
