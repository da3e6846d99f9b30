// Package kubernetes holds no code but this test. It is a module of its own, so
// that Kubernetes' types do not become dependencies of escrowctl.
package kubernetes

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// objects decodes every manifest strictly: a field that the API does not have,
// or a value of the wrong type, is an error.
func objects(t *testing.T) []any {
	t.Helper()
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	var out []any
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range bytes.Split(text, []byte("\n---\n")) {
			var head struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal(doc, &head); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			into := map[string]any{
				"v1 ServiceAccount": &corev1.ServiceAccount{}, "v1 ConfigMap": &corev1.ConfigMap{}, "v1 Secret": &corev1.Secret{},
				"networking.k8s.io/v1 NetworkPolicy": &networkingv1.NetworkPolicy{}, "batch/v1 CronJob": &batchv1.CronJob{},
			}[head.APIVersion+" "+head.Kind]
			if into == nil {
				t.Fatalf("%s: unknown kind %s %s", file, head.APIVersion, head.Kind)
			}
			if err := yaml.UnmarshalStrict(doc, into); err != nil {
				t.Fatalf("%s: %s: %v", file, head.Kind, err)
			}
			out = append(out, into)
		}
	}
	return out
}

// TestManifests: what the API checks only on a cluster, for every CronJob.
func TestManifests(t *testing.T) {
	accounts, configs, secrets := []string{}, []string{}, []string{}
	var jobs []*batchv1.CronJob
	policies := 0
	for _, o := range objects(t) {
		switch o := o.(type) {
		case *corev1.ServiceAccount:
			accounts = append(accounts, o.Name)
		case *corev1.ConfigMap:
			configs = append(configs, o.Name)
		case *corev1.Secret:
			secrets = append(secrets, o.Name)
		case *networkingv1.NetworkPolicy:
			policies++
			if o.Spec.PodSelector.MatchLabels["app.kubernetes.io/name"] != "escrowctl" || len(o.Spec.Ingress) != 0 || len(o.Spec.PolicyTypes) != 2 {
				t.Errorf("the network policy is %+v", o.Spec)
			}
		case *batchv1.CronJob:
			jobs = append(jobs, o)
		}
	}
	if len(jobs) != 5 || policies != 1 {
		t.Errorf("%d CronJobs, %d policies", len(jobs), policies)
	}
	for _, j := range jobs {
		spec := j.Spec.JobTemplate.Spec
		pod := spec.Template.Spec
		c := pod.Containers[0]
		switch {
		case j.Spec.TimeZone == nil || *j.Spec.TimeZone != "Etc/UTC":
			t.Errorf("%s: not in UTC", j.Name)
		case j.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent:
			t.Errorf("%s: may run twice at once", j.Name)
		case pod.RestartPolicy != corev1.RestartPolicyNever: // a pod failure policy demands it
			t.Errorf("%s: restart policy %s", j.Name, pod.RestartPolicy)
		case spec.ActiveDeadlineSeconds == nil:
			t.Errorf("%s: may run for ever", j.Name)
		case !slices.Contains(accounts, pod.ServiceAccountName):
			t.Errorf("%s: no service account %s", j.Name, pod.ServiceAccountName)
		case spec.Template.Labels["app.kubernetes.io/name"] != "escrowctl":
			t.Errorf("%s: the network policy does not select its pods", j.Name)
		case pod.SecurityContext == nil || !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation:
			t.Errorf("%s: not confined", j.Name)
		case len(c.EnvFrom) != 1 || !slices.Contains(secrets, c.EnvFrom[0].SecretRef.Name):
			t.Errorf("%s: its secret is %+v", j.Name, c.EnvFrom)
		}
		mounted := func(v corev1.Volume) bool {
			return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name })
		}
		for _, v := range pod.Volumes {
			if !mounted(v) || v.ConfigMap != nil && !slices.Contains(configs, v.ConfigMap.Name) {
				t.Errorf("%s: volume %s", j.Name, v.Name)
			}
		}
		if len(pod.Volumes) != len(c.VolumeMounts) {
			t.Errorf("%s: %d volumes, %d mounts", j.Name, len(pod.Volumes), len(c.VolumeMounts))
		}
	}
}
