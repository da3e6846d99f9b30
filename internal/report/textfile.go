package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxTextfile bounds what is read of an existing textfile, in bytes; ours have
// a few KiB.
const maxTextfile = 1 << 20

// textfile replaces escrowctl_<job>.prom by rename, so that node_exporter never
// reads half of one. What stands after a failed run of the runs before: the last
// success and every other metric named ..._last_success...
func (r *Reporter) textfile(rep Report) *Problem {
	path := filepath.Join(r.opt.TextfileDir, base(rep.Job)+".prom")
	before, damage, err := readTextfile(path)
	if err != nil {
		return textfileProblem(err)
	}
	last := unix(rep.EndedAt)
	if !rep.Success {
		last = lastSuccess(before, rep)
	}
	reg, faults := r.registry(rep, &last)
	families, err := reg.Gather()
	if err != nil {
		return textfileProblem(err)
	}
	if !rep.Success {
		families = keepLastSuccess(families, before)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return textfileProblem(err)
		}
	}
	r.sweep(path)
	if err := replaceFile(path, b.Bytes()); err != nil {
		return textfileProblem(err)
	}
	if err := errors.Join(damage, faults); err != nil {
		return &Problem{Kind: Local, Destination: ToTextfile, Cause: err}
	}
	return nil
}

// staleTemp is the age at which a temporary file goes: writing one takes no
// second.
const staleTemp = time.Hour

// sweep removes the temporary files that killed runs left beside the textfile.
func (r *Reporter) sweep(path string) {
	entries, _ := os.ReadDir(filepath.Dir(path)) // the write will tell
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(e.Name(), "."+filepath.Base(path)) {
			continue
		}
		if r.opt.Now().Sub(info.ModTime()) > staleTemp {
			_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
}

func textfileProblem(err error) *Problem {
	return &Problem{Kind: Local, Destination: ToTextfile, Cause: err, Remedy: "check that report.textfile_dir is there, writable and has room"}
}

// replaceFile writes beside path, syncs and renames. The mode is the one that
// node_exporter, another user, needs, whatever umask cron has.
func replaceFile(path string, body []byte) error {
	f, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.Write(body); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// lastSuccess is the latest that the textfile or the caller knows of and that can
// be; 0 if none, on which an alert for its age fires as it should.
func lastSuccess(before map[string]*dto.MetricFamily, rep Report) float64 {
	var last float64
	if !rep.LastSuccess.IsZero() {
		last = unix(rep.LastSuccess)
	}
	for _, m := range before[base(rep.Job)+"_"+lastSuccessName].GetMetric() {
		// NaN would make every comparison of an alert false, and a time to come
		// would keep it quiet until then.
		if v := m.GetGauge().GetValue(); v > last && v <= unix(rep.EndedAt) {
			last = v
		}
	}
	return last
}

// keepLastSuccess adds the families of before that tell of the last success and
// that this run does not set.
func keepLastSuccess(families []*dto.MetricFamily, before map[string]*dto.MetricFamily) []*dto.MetricFamily {
	for name, f := range before {
		set := slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
		if strings.Contains(name, "_last_success") && !set {
			families = append(families, f)
		}
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families
}

// readTextfile parses what the run before left. A file that cannot be parsed is
// damage, to be told and replaced; one that cannot be read is an error.
func readTextfile(path string) (families map[string]*dto.MetricFamily, damage, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is no regular file", path) // opening a pipe would hang
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err = parser.TextToMetricFamilies(io.LimitReader(f, maxTextfile))
	if err != nil {
		return nil, fmt.Errorf("%s was damaged and is replaced; the last success before is taken from the run records, if there: %w", path, err), nil
	}
	return families, nil, nil
}
