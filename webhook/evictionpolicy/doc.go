// Package evictionpolicy is the life of an EvictionPolicy in a cluster.
//
// Somebody applies one. The API server checks it against the schema of the CustomResourceDefinition, and
// sends it to Validator, which compiles it as the server would and refuses it with every problem at its
// place. What is stored reaches Watch in every replica, which hands all policies over as units. Whoever
// compiles them gives its verdicts to Status, which writes them into the objects, together with how often
// each policy refused, warned or failed.
//
// A policy that cannot be checked is refused. One may still be stored unchecked, when the webhook was away,
// or may break when another source changes. So Validator is a courtesy, and the verdict is what counts.
package evictionpolicy
