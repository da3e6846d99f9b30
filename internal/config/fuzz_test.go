package config

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad holds the loader to its promises for any input: it does not panic,
// its error is an *Error whose faults all say what is wrong and how to get out,
// and there is always something to show.
func FuzzLoad(f *testing.F) {
	f.Add("s3:\n  bucket: s3://bucket\n", "S3_BUCKET=s3://b\n", "s3://bucket", "s3.bucket")
	f.Add("backup: {retention: {days: 30d}}\n", "A=\"$B\nC='", "30d", "backup.timeout")
	f.Add("a: &a [*a]\n? {}\n: !!binary x\n---\n- ", "export X: ${Y}\n=", "8MiB", "s3.part_size")
	f.Add("compose: {files: [a, ~], dir: ~/x}\nenv:", "\x00\n\"", "age1", "backup.recipients")
	f.Add("database.url: 'host=db password=''x'''\ndatabase: {<<: {url: x}}", "", "postgres://u:p@h:1,h2:2/db", "database.url")
	f.Fuzz(func(t *testing.T, text, dotenv, value, name string) {
		dir := t.TempDir()
		for file, content := range map[string]string{FileName: text, ".env": dotenv} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		environ := []string{"ESCROWCTL_COMPOSE_ENV_FILE=" + filepath.Join(dir, ".env")}
		for _, k := range keys() {
			if k.name == name {
				environ = append(environ, k.envNames()[0]+"="+value)
			}
		}
		l, err := Load(Options{Dir: dir, Environ: environ, Flags: map[string]string{name: value}, SystemFile: filepath.Join(dir, "none")})
		if l == nil || len(l.Entries()) != len(keys()) {
			t.Fatal("nothing to show")
		}
		_ = shown(l, err)
		if err == nil {
			return
		}
		configErr, ok := err.(*Error)
		if !ok || len(configErr.Faults) == 0 {
			t.Fatalf("error of type %T: %v", err, err)
		}
		for _, fault := range configErr.Faults {
			if fault.Problem == "" || fault.Remedy == "" || fault.Origin.Kind == FromDefault {
				t.Errorf("fault without problem, remedy or origin: %#v", fault)
			}
		}
	})
}
