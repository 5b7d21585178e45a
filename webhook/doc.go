// Package webhook is the life of one eviction.
//
// Somebody posts an Eviction to pods/NAME/eviction. The API server authenticates and authorises them,
// checks the names, and then, before it looks at the pod or at any budget, sends an AdmissionReview to
// Front. Front refuses what cannot be a review, and gives the review a deadline shorter than the one
// the API server stated in ?timeout=. Bounds read it whole when there is room for it, and let it wait until there
// is room to decide it. Gate then does, in this order:
//
//	caller      Door asks whether the API server sent it, by its path or certificate (package callers); for
//	            others the decision is made and answered, and nothing else comes of it
//	review      decode reads the AdmissionReview; request checks that it is the CREATE of a policy
//	            Eviction on pods/eviction, and reduces it to a policies.Request
//	turn        when policies look at the pod's peers, evictions of one workload are decided one after the
//	            other (package history)
//	input       cluster.Gatherer finds the pod, its budgets, owner, node and namespace; a refusal by a
//	            budget that the cache sees is confirmed by a live read, and so is what the cache cannot vouch
//	            for when the eviction may be admitted; history.Ledger adds what happened before
//	reading     policies.Set.Read converts what the policies read of the input, for them and the record
//	decision    Reading.Evaluate asks every bound policy, or remembers what it answered when all that
//	            it reads was the same, and weighs their violations with the budgets' answer and with an
//	            override that the Eviction asks for
//	answer      respond makes the AdmissionResponse; the record, the metrics, the Events, the counts of
//	            the policies and the log line come from the same Decision, each once
//
// Where --tracing-endpoint is given, the review is a span below the API server's call of the webhook, and each
// step one below that (package tracing).
//
// When the eviction is admitted, the API server goes on and has the last word: it finds the pod (404),
// checks the budgets itself (429 or 500), marks the pod with the condition DisruptionTarget and deletes
// it with its grace period: the kubelet stops the containers while the pod leaves the EndpointSlices,
// and at last the pod is gone. When it is refused, nothing has changed yet. Package fate watches which of
// these it was, and for how long a pod is refused.
package webhook
