package store_test

import (
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/store"
)

func TestParse(t *testing.T) {
	for raw, want := range map[string]store.Address{
		"s3://bucket":               {Bucket: "bucket"},
		"s3://bucket/":              {Bucket: "bucket"},
		"s3://my.bucket-1/a/b/":     {Bucket: "my.bucket-1", Prefix: "a/b"},
		"s3://Old_Bucket/a b+c%20d": {Bucket: "Old_Bucket", Prefix: "a b+c%20d"},
		"file:///var/backups":       {Dir: "/var/backups"},
		"file:///var//x/../b/":      {Dir: "/var/b"},
		"file:///a%20b":             {Dir: "/a b"},
	} {
		got, err := store.Parse(raw)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", raw, got, err, want)
			continue
		}
		if again, err := store.Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q) = %+v, %v, and so not what it was made of", got.String(), again, err)
		}
	}
	for _, raw := range []string{
		"", "bucket", "/dir", "s3:bucket", "s3://", "s3:///p", "s3://b", "s3://host:9000/b", "s3://buck\net", "s3://bucket/a//b",
		"s3://bucket/../x", "s3://bucket/a/./b", "s3://bucket/\x01", "s3://bucket/" + strings.Repeat("x", 900),
		"file://host/x", "file://x", "file:x", "file:///x?y", "gs://bucket", "s3://AKIA:hunter2@bucket/p", "AKIA:hunter2@host", "file://u:hunter2@h/x",
	} {
		got, err := store.Parse(raw)
		if err == nil {
			t.Errorf("Parse(%q) = %+v", raw, got)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Parse(%q) shows the secret: %v", raw, err)
		}
	}
}
