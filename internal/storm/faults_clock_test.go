package storm

import (
	"os"
	"path/filepath"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// clockFaults run with the program's clock wrong: the one that names backups and
// tells their age.
func clockFaults() []fault {
	wrong := func(name string, by time.Duration, cells ...cell) fault {
		return fault{group: "clock", name: name, before: func(s *stage) { clockWrong(s, by) }, on: cells}
	}
	stepped := func(name string, by time.Duration, cells ...cell) fault {
		return fault{group: "clock", name: name, before: func(s *stage) { clockWrong(s, 0) }, at: dumped(middle), on: cells,
			act: func(s *stage, run *kit.Running) {
				setClock(s, by)
				release(s, run)
			}}
	}
	return []fault{
		wrong("a day behind", -24*time.Hour, on("backup", 0), on("upload", 0), on("verify --s3", 0), on("restore", 0), on("dr-test", 3, "ahead")),
		wrong("a day ahead", 24*time.Hour, on("backup", 0), on("upload", 0), on("verify --s3", 0), on("restore", 0)),
		stepped("set back in the middle", -24*time.Hour, on("backup", 0)),
		stepped("set ahead in the middle", 24*time.Hour, on("backup", 0)),
		{group: "clock", name: "the hour that comes twice", before: func(s *stage) { inHour(s, 0) }, after: inHourAgain, on: []cell{on("backup", 0)}},
	}
}

func clockFile(s *stage) string { return filepath.Join(s.Dir, "clock") }

func setClock(s *stage, by time.Duration) {
	if err := os.WriteFile(clockFile(s), []byte(by.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// clockWrong runs the command with a clock that is wrong by so much.
func clockWrong(s *stage, by time.Duration) {
	setClock(s, by)
	s.call.Program = storm.Build(s.t, "internal/storm/clocked")
	s.set("STORM_CLOCK=" + clockFile(s))
}

// inHour puts the clock to 02:30 of the night in which Berlin's clocks go back:
// the first time, or an hour later.
func inHour(s *stage, later time.Duration) {
	s.set("TZ=Europe/Berlin")
	at := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC).Add(later)
	clockWrong(s, time.Until(at))
}

// inHourAgain backs up once more when the same hour comes again: another backup.
func inHourAgain(s *stage, _ kit.Result) {
	before := len(s.List(s.t))
	inHour(s, time.Hour)
	call := s.call
	call.Args = []string{"backup"}
	if res := s.Call(s.t, call); res.Code != 0 {
		s.t.Errorf("exit %d: %s", res.Code, res.Stderr)
	}
	if n := len(s.List(s.t)); n != before+1 {
		s.t.Errorf("%d backups, want %d", n, before+1)
	}
}
