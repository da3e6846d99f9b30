package health

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

func TestGrafana(t *testing.T) {
	t.Parallel()
	const password = "hunter2-hunter2"
	g, err := platform.NewGrafana(password, "")
	if err != nil {
		t.Fatal(err)
	}
	url := testenv.Serve(t, g)
	opt := GrafanaOptions{User: "admin", Limit: 30 * time.Second, Client: httpx.New()}
	run := func(url, password string) check.Result {
		opt.URL, opt.Password = url, password
		return look(t, Grafana(opt))
	}
	garbage := func(text string, code int) string {
		return testenv.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		}))
	}
	want{check.OK, "database ok, all 6 dashboards there", "", ""}.check(t, run(url, password))
	want{check.OK, "dashboards not looked at: no grafana.admin_password", "", ""}.check(t, run(url, ""))
	wrong := run(url, "wrong-hunter2")
	want{check.Unknown, "HTTP 401", "", "correct grafana.admin_password"}.check(t, wrong)
	if strings.Contains(wrong.Summary, "hunter2") {
		t.Error("the password is shown")
	}
	for text, code := range map[string]int{"<html>": 200, "{}": 500, "": 200, "null": 200, `{"database":1}`: 200, "[]": 200} {
		want{check.Unknown, "", "ServiceDown", "docker compose logs"}.check(t, run(garbage(text, code), password))
	}
	want{check.Critical, `database "failing"`, "ServiceDown", "docker compose logs"}.check(t, run(garbage(`{"database":"failing"}`, 503), password))
	want{check.Critical, `database ""`, "ServiceDown", "docker compose logs"}.check(t, run(garbage(`{"ok":true}`, 200), password))
	want{check.Critical, "HTTP 503", "ServiceDown", "docker compose logs"}.check(t, run(garbage(`{"database":"ok"}`, 503), password))
	want{check.Unknown, "connection refused", "ServiceDown", "set grafana.url"}.check(t, run("http://127.0.0.1:9", password))
	opt.Limit = testLimit
	want{check.Unknown, "no answer within", "ServiceDown", "set grafana.url"}.check(t, run("http://"+testenv.Silent(t), password))
}
