package storm

import (
	"strings"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// twoAtOnce begins a second run while the first is in its midst, on the same host
// and on another: one of them does its work, and the other does not spoil it.
func twoAtOnce() []fault {
	meets := func(name string, at func(*stage) <-chan struct{}, host func(*stage) *kit.Host, args string, code int, says string, cells ...cell) fault {
		return fault{group: "two at once", name: name, at: at, on: cells, act: func(s *stage, _ *kit.Running) {
			s.meet(host(s), args, code, says)
			s.clear()
		}}
	}
	same := func(s *stage) *kit.Host { return s.Host }
	other := (*stage).second
	const held = "another run is in progress"
	return []fault{
		meets("backup, here", dumped(middle), same, "backup", 75, held, on("backup", 0)),
		meets("prune, here", dumped(middle), same, "backup prune", 75, held, on("backup", 0)),
		meets("upload, here", gate("Part"), same, "backup upload", 75, held, on("backup", 0)),
		meets("backup, here", gate("Part"), same, "backup", 75, held, on("upload", 0)),
		meets("verify, here", gate("Get"), same, "backup verify latest --local", 75, held, on("verify --s3", 0)),
		meets("restore, here", loaded(2<<20), same, "backup restore latest --to "+copyDB, 75, held, on("restore", 0)),
		meets("dr-test, here", gate("Get"), same, "dr-test --engine local --from local", 0, "PASS", on("dr-test", 0)),
		meets("backup, elsewhere", dumped(middle), other, "backup", 75, "from another host", on("backup", 0)),
		meets("backup, elsewhere", gate("Part"), (*stage).elsewhere, "backup", 0, "", on("upload", 0)),
		meets("restore, elsewhere", loaded(2<<20), other, "backup restore latest --s3 --to "+copyDB, 2, "not empty", on("restore", 0)),
	}
}

// meet runs a second command.
func (s *stage) meet(h *kit.Host, args string, code int, says string) {
	s.t.Helper()
	res := h.Run(s.t, strings.Fields(args)...)
	if all := res.Stdout + res.Stderr; res.Code != code || !strings.Contains(all, says) {
		s.t.Errorf("%s beside it: exit %d, want %d with %q: %s", args, res.Code, code, says, all)
	}
}

// elsewhere is another host, whose way to the bucket has no fault.
func (s *stage) elsewhere() *kit.Host {
	h := s.second()
	h.Env = append(h.Env, "AWS_ENDPOINT_URL_S3="+s.S3.Endpoint)
	return h
}
