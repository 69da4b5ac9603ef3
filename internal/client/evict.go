package client

import (
	"context"
	"encoding/json"
	"fmt"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Evict asks for the eviction of a pod. An answer with code 429 means: not now; its message says why.
func (c *Client) Evict(ctx context.Context, namespace, pod string) error {
	body, err := json.Marshal(&policyv1.Eviction{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod},
	})
	if err != nil {
		return fmt.Errorf("encode the eviction of %s: %w", pod, err)
	}
	_, err = read(c.short.Post().AbsPath(Core("Pod", "pods", "pod").path(namespace), pod, "eviction").
		SetHeader("Content-Type", "application/json").MaxRetries(0).Body(body).Do(ctx))
	return err
}
