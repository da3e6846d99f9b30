package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"go.yaml.in/yaml/v3"
)

// TestKubernetes compares the CronJobs with the runbook's schedule, parses what
// they run, and loads their configuration. That they are valid to Kubernetes is
// the business of the test beside them.
func TestKubernetes(t *testing.T) {
	var job struct {
		Metadata struct{ Name string }
		Spec     struct {
			Schedule    string
			JobTemplate struct {
				Spec struct {
					Template struct {
						Spec struct{ Containers []struct{ Args []string } }
					}
				}
			} `yaml:"jobTemplate"`
		}
	}
	schedules := map[string]string{}
	for doc := range strings.SplitSeq(document(t, "deploy/kubernetes/cronjobs.yaml"), "\n---\n") {
		if err := yaml.Unmarshal([]byte(doc), &job); err != nil {
			t.Fatal(err)
		}
		schedules[strings.TrimPrefix(job.Metadata.Name, "escrowctl-")] = job.Spec.Schedule
		if _, err := commandOf(job.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args); err != nil {
			t.Errorf("%s: %v", job.Metadata.Name, err)
		}
	}
	for _, task := range append(runbook.Schedule(), verifyTask()) {
		if task.Spec != "" && schedules[task.Name] != task.Spec {
			t.Errorf("%s is scheduled at %q, the runbook has %q", task.Name, schedules[task.Name], task.Spec)
		}
	}
	var base struct{ Data map[string]string }
	for doc := range strings.SplitSeq(document(t, "deploy/kubernetes/base.yaml"), "\n---\n") {
		if strings.Contains(doc, "kind: ConfigMap") {
			if err := yaml.Unmarshal([]byte(doc), &base); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), config.FileName)
	if err := os.WriteFile(file, []byte(base.Data[config.FileName]), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadOnly(t, file)
	if err != nil || cfg.S3.Bucket == "" || cfg.DRTest.Engine != config.EngineLocal {
		t.Errorf("the configuration gives %v, %+v", err, cfg.S3)
	}
}
