package record

import "time"

// Verb is what a request to the API server asked for.
type Verb string

const (
	// VerbEvict is a POST to pods/NAME/eviction.
	VerbEvict Verb = "evict"
	// VerbDelete is a DELETE of the pod, which asks neither budgets nor policies.
	VerbDelete Verb = "delete"
)

// Passage says whether an eviction passed us on its way, as the API server's audit log shows it.
type Passage string

const (
	// Decided: it has a decision of ours, named by ReviewUID.
	Decided Passage = "decided"
	// FailedOpen: we could not be asked, and failurePolicy Ignore let it go on.
	FailedOpen Passage = "failed_open"
	// FailedClosed: we could not be asked, and failurePolicy Fail refused it.
	FailedClosed Passage = "failed_closed"
	// NotCalled: the API server refused it before it asked any webhook.
	NotCalled Passage = "not_called"
	// Unseen: it went on, and nothing shows that we were asked: no webhook was registered for it.
	Unseen Passage = "unseen"
)

// Answer is how the API server answered an eviction, or the deletion of a pod, as its audit log tells it.
type Answer struct {
	// ID is the audit event's; a client can choose its auditID, so the time belongs to the key, too.
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	Verb Verb      `json:"verb"`
	// Passage is empty for deletions.
	Passage   Passage `json:"passage,omitempty"`
	Namespace string  `json:"namespace"`
	Pod       string  `json:"pod"`
	// PodUID is known only from a response object.
	PodUID    string `json:"pod_uid,omitempty"`
	User      string `json:"user"`
	UserAgent string `json:"user_agent,omitempty"`
	DryRun    bool   `json:"dry_run"`
	Code      int32  `json:"code"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	// ReviewUID is the decision's id, from our audit annotation; empty when we were not asked.
	ReviewUID string `json:"review_uid,omitempty"`
	// RefusedBy says who refused, when we did not: budget, webhook NAME, policy NAME, or api-server.
	RefusedBy string `json:"refused_by,omitempty"`
}

// Who refused, as Answer.RefusedBy says it.
const (
	RefuserBudget    = "budget"
	RefuserAPIServer = "api-server"
	// RefuserWebhook stands before the name of another webhook, RefuserPolicy before that of a
	// ValidatingAdmissionPolicy.
	RefuserWebhook = "webhook "
	RefuserPolicy  = "policy "
)

// Succeeded reports whether the API server did what it was asked.
func (a Answer) Succeeded() bool { return a.Code >= 200 && a.Code < 300 }

// Sighting is what the watch saw of a pod that somebody had tried to evict. What is not known is zero.
type Sighting struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"pod_uid"`
	// EvictedByAPI says that the pod has the condition DisruptionTarget with the reason
	// EvictionByEvictionAPI, which the API server writes when it carries out an eviction.
	EvictedByAPI bool `json:"evicted_by_api,omitempty"`
	// DisruptedBy is the reason of that condition when it is another one, such as PreemptionByScheduler.
	DisruptedBy string `json:"disrupted_by,omitempty"`
	// Terminating is when the deletion was asked for; Finished when the pod was seen to have succeeded or
	// failed; Gone when the object was removed, or first seen to be missing.
	Terminating time.Time `json:"terminating,omitzero"`
	Finished    time.Time `json:"finished,omitzero"`
	Gone        time.Time `json:"gone,omitzero"`
}
