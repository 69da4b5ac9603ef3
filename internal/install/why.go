package install

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// why looks at the platform's pods for the reason that an installation does not get ready.
func (i *Installer) why() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	pods, err := i.dynamic.Resource(podResource).Namespace(i.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=virtctl"})
	if err != nil {
		return "its pods cannot be read"
	}
	if len(pods.Items) == 0 {
		return "no pod of it exists; see `kubectl -n " + i.Namespace + " describe deployment virt-operator`"
	}
	var reasons []string
	for k := range pods.Items {
		if reason := podTrouble(&pods.Items[k]); reason != "" {
			reasons = append(reasons, pods.Items[k].GetName()+": "+reason)
		}
	}
	if len(reasons) == 0 {
		return "all its pods run; see `virtctl status`"
	}
	return strings.Join(reasons, "; ")
}

// podTrouble says why a pod does not run, or "".
func podTrouble(pod *unstructured.Unstructured) string {
	if status, message := conditionText(pod, "PodScheduled"); status == "False" {
		return "not scheduled: " + message
	}
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", field)
		for _, s := range statuses {
			status, ok := s.(map[string]any)
			if !ok {
				continue
			}
			reason, _, _ := unstructured.NestedString(status, "state", "waiting", "reason")
			message, _, _ := unstructured.NestedString(status, "state", "waiting", "message")
			last, _, _ := unstructured.NestedString(status, "lastState", "terminated", "message")
			switch {
			case reason == "ErrImagePull" || reason == "ImagePullBackOff" || reason == "ErrImageNeverPull":
				image, _ := status["image"].(string)
				return fmt.Sprintf("image %s cannot be had (%s): push it to that registry or load it on the nodes (docs/images.md); %s", image, reason, message)
			case reason == "CrashLoopBackOff":
				return "crashes: " + strings.TrimSpace(last)
			case reason != "" && reason != "ContainerCreating" && reason != "PodInitializing":
				return reason + ": " + message
			}
		}
	}
	return ""
}
