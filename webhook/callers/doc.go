// Package callers knows the API server by the path it calls.
//
// Behind the path of each of our webhooks the webhook configuration may hold a secret: 32 to 64 hexadecimal
// digits, as in /validate-eviction/SECRET. Only who may read the configuration knows it. Whoever may write the
// configuration could as well take the webhook away, so what stands there is believed: a caller by a path that
// the configuration holds, or held within the last hour, is the API server.
//
// [Follow] does no more than that; somebody else writes the path. [Keep] also makes the secret, writes it, changes
// it from time to time and puts it back when something takes it out. Its replicas agree through one Secret, by
// compare-and-swap, and none leads:
//
//  1. A new secret is written to the Secret as next. Every replica accepts it from then on.
//  2. After a while, longer than a watch may lag behind, the webhooks of the configuration get its path.
//  3. When the configuration holds it, next becomes current, and current previous. The previous one stays valid
//     for an hour, for API servers that learn of the change late.
//
// A replica may end after any of these steps: the next one that looks goes on. A review with a secret that a
// replica does not know has it read configuration and Secret anew, at most once a second.
//
// Replicas of a version that knows no secret answer 404 to its path, which fails the eviction. So while there is
// one of them, in an upgrade or on the way back, the plain path is kept.
package callers
