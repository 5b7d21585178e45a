// Package hooks has the names by which the API server knows the webhooks, and the paths where they are served.
package hooks

import "regexp"

const (
	// Evictions is the webhook that decides evictions: refusals name it to the client, and the API server puts it before
	// the keys of the audit annotations.
	Evictions = "evictions.evictgate.dev"
	// EvictionsPath is where it is served.
	EvictionsPath = "/validate-eviction"
	// Policies is the webhook that checks EvictionPolicies before they are stored.
	Policies = "policies.evictgate.dev"
	// PoliciesPath is where it is served.
	PoliciesPath = "/validate-evictionpolicy"
)

// Paths has the path of each webhook by its name.
var Paths = map[string]string{Evictions: EvictionsPath, Policies: PoliciesPath}

// secretPart is what stands behind the path of a webhook.
var secretPart = regexp.MustCompile(`((?:` + EvictionsPath + `|` + PoliciesPath + `)/)[^/?#\s"]+`)

// MaskPath takes the secret part of a webhook's path out of a text. The API server names the path where it could not
// call the webhook, to the client and in its audit log.
func MaskPath(text string) string { return secretPart.ReplaceAllString(text, "${1}…") }
