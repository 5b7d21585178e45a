package main

import (
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// webhookPath is evictgate's; the API server adds the timeout of the webhook's configuration.
const webhookPath = "/validate-eviction?timeout=5s"

// reviewOf is the body that a 1.37 API server sends when the cluster autoscaler evicts the pod.
func reviewOf(pod types.NamespacedName) ([]byte, error) {
	gvk := metav1.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}
	gvr := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	grace, dryRun := int64(600), false
	object, err := json.Marshal(policyv1.Eviction{
		TypeMeta:      metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &grace},
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: uuid.NewUUID(), Operation: admissionv1.Create, Namespace: pod.Namespace, Name: pod.Name,
			Kind: gvk, RequestKind: &gvk,
			Resource: gvr, SubResource: "eviction",
			RequestResource: &gvr, RequestSubResource: "eviction",
			UserInfo: authenticationv1.UserInfo{
				Username: "system:serviceaccount:kube-system:cluster-autoscaler",
				UID:      "9d1f6c1e-5b0c-4c39-8a52-6d0c8f7ad3b4",
				Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
				Extra: map[string]authenticationv1.ExtraValue{
					"authentication.kubernetes.io/credential-id": {"JTI=7ee52be0-9045-4653-aa5e-0da57b8dccdc"},
					"authentication.kubernetes.io/node-name":     {"node-0001"},
					"authentication.kubernetes.io/node-uid":      {"5b3d8b0a-6b14-4f4e-8d5c-0b1b6b0ad0f1"},
					"authentication.kubernetes.io/pod-name":      {"cluster-autoscaler-7f9c6d5b8-q2x4z"},
					"authentication.kubernetes.io/pod-uid":       {"1c0e8a52-9c6f-4a25-8f0e-2f7a3f1f9a77"},
				},
			},
			Object:  runtime.RawExtension{Raw: object},
			DryRun:  &dryRun,
			Options: runtime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
		},
	})
}

func reviewsOf(pods []types.NamespacedName) ([][]byte, error) {
	bodies := make([][]byte, len(pods))
	for i, pod := range pods {
		body, err := reviewOf(pod)
		if err != nil {
			return nil, fmt.Errorf("encode the review of %s: %w", pod, err)
		}
		bodies[i] = body
	}
	return bodies, nil
}
