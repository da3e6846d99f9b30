// Package journal is the change management log: who changed what, when, why,
// with whose approval and how it ended. Each entry carries the hash of the one
// before, so that an edit, a removal or an insertion shows; and the post-incident
// reviews are made from it.
package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

const (
	// FileName is the journal's name in its directory.
	FileName = "changes.jsonl"
	headName = "head.json"
	lockWait = 10 * time.Second
)

// Entry is one change. It holds no secret, only fingerprints.
type Entry struct {
	Seq     int       `json:"seq"` // 1, 2, ...
	At      time.Time `json:"at"`
	By      string    `json:"by"`   // user@host
	Type    string    `json:"type"` // of section 6.1: config, application, ...
	Command string    `json:"command,omitempty"`
	Summary string    `json:"summary"`
	Why     string    `json:"why,omitempty"`
	Outcome string    `json:"outcome"` // ok, failed, rolled-back, planned
	// Approvals are who approved, by role.
	Approvals []Approval `json:"approvals,omitempty"`
	Done      []string   `json:"steps_done,omitempty"`
	// Lacking names the approvals and steps of the runbook that are missing.
	Lacking      []string `json:"lacking,omitempty"`
	Fingerprints []string `json:"fingerprints,omitempty"`
	Prev         string   `json:"prev"` // hash of the entry before; "" for the first
	// Hash is SHA-256 over the line without it. It is the last key.
	Hash string `json:"-"`
}

// Approval is one person's consent in one role.
type Approval struct {
	Role string `json:"role"`
	Name string `json:"name"`
}

// Log is a journal in a directory. Several processes may add to it.
type Log struct {
	Dir string
	Now func() time.Time
}

func (l *Log) path() string { return filepath.Join(l.Dir, FileName) }

// head is the newest entry as it was added: it tells when the end of the file
// was cut off.
type head struct {
	Seq  int    `json:"seq"`
	Hash string `json:"hash"`
}

const hashKey = `,"hash":"`

// seal returns the entry's line, without its end, and its hash.
func seal(e Entry) (line []byte, hash string, err error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	line = append(body[:len(body)-1:len(body)-1], hashKey+hash+`"}`...)
	return line, hash, nil
}

// open reads a line. sound says whether its hash is that of its contents.
func open(line []byte) (e Entry, sound bool, err error) {
	if err := json.Unmarshal(line, &e); err != nil {
		return e, false, err
	}
	at := bytes.LastIndex(line, []byte(hashKey))
	if at < 0 {
		return e, false, nil
	}
	e.Hash = strings.TrimSuffix(string(line[at+len(hashKey):]), `"}`)
	sum := sha256.Sum256(append(bytes.Clone(line[:at]), '}'))
	return e, e.Hash == hex.EncodeToString(sum[:]), nil
}

// Add writes the entry at the end and sees it on the disk. Seq, At, Prev and
// Hash are filled in.
func (l *Log) Add(ctx context.Context, e Entry) (Entry, error) {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	lock, err := envfile.Lock(ctx, l.Dir, lockWait)
	if err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	defer lock.Close()
	f, err := nofollow.Open(l.path(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	body, err := nofollow.Read(l.path())
	if err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	// What a killed process left of a line was never acknowledged.
	whole := bytes.LastIndexByte(body, '\n') + 1
	last, err := l.last(body[:whole])
	if err != nil {
		return e, err
	}
	e.Seq, e.Prev, e.At = last.Seq+1, last.Hash, l.Now().UTC()
	line, hash, err := seal(e)
	if err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	e.Hash = hash
	if err := f.Truncate(int64(whole)); err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	if _, err := f.WriteAt(append(line, '\n'), int64(whole)); err != nil {
		return e, errors.Join(fmt.Errorf("journal: %w", err), f.Truncate(int64(whole)))
	}
	if err := f.Sync(); err != nil {
		return e, fmt.Errorf("journal: %w", err)
	}
	return e, l.anchor(head{e.Seq, e.Hash})
}

// last is the entry that the next one follows: the file's last, or what the
// head says of it where lines are gone.
func (l *Log) last(body []byte) (head, error) {
	known, err := l.head()
	if err != nil {
		return known, err
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte{'\n'}), []byte{'\n'})
	for i := len(lines) - 1; i >= 0; i-- {
		if e, _, err := open(lines[i]); err == nil && e.Seq >= known.Seq {
			return head{e.Seq, e.Hash}, nil
		} else if err == nil {
			break
		}
	}
	return known, nil
}

func (l *Log) head() (head, error) {
	var h head
	body, err := nofollow.Read(filepath.Join(l.Dir, headName))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("journal: %w", err)
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return h, fmt.Errorf("journal: %s is damaged: %w", headName, err)
	}
	return h, nil
}

func (l *Log) anchor(h head) error {
	body, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	// The name is always the same, so that what a killed process leaves goes with
	// the next entry. It is made anew, for it may be somebody else's link.
	tmp := filepath.Join(l.Dir, "."+headName+".tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	f, err := nofollow.Open(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.Write(append(body, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, filepath.Join(l.Dir, headName))
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Entries returns all entries that can be read, oldest first.
func (l *Log) Entries() ([]Entry, error) {
	body, err := nofollow.Read(l.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var out []Entry
	for line := range bytes.Lines(body) {
		if e, _, err := open(bytes.TrimSuffix(line, []byte{'\n'})); err == nil {
			out = append(out, e)
		}
	}
	return out, nil
}

// Finding is something wrong with the chain.
type Finding struct {
	Line int    `json:"line"` // of the file; 0 for the file as a whole
	What string `json:"what"`
	// Minor is what proves no edit.
	Minor bool `json:"minor,omitempty"`
}

// Verify reads the whole chain and returns what is wrong with it, and how many
// entries there are. What it cannot see is a file and a head that were both
// replaced: the mirror in the bucket is for that.
func (l *Log) Verify() (entries int, findings []Finding, err error) {
	body, err := nofollow.Read(l.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil, fmt.Errorf("journal: %w", err)
	}
	known, err := l.head()
	if err != nil {
		findings = append(findings, Finding{What: err.Error()})
	}
	note := func(line int, format string, args ...any) {
		findings = append(findings, Finding{Line: line, What: fmt.Sprintf(format, args...)})
	}
	var prev Entry
	line := 0
	for text := range bytes.Lines(body) {
		line++
		if !bytes.HasSuffix(text, []byte{'\n'}) {
			note(line, "the last line is torn: its writer was killed, and the next entry takes its place")
			findings[len(findings)-1].Minor = true
			break
		}
		e, sound, err := open(bytes.TrimSuffix(text, []byte{'\n'}))
		switch {
		case err != nil:
			note(line, "not an entry: edited, or damaged")
			continue
		case !sound:
			note(line, "entry %d was edited: its hash is not that of its contents", e.Seq)
		case e.Seq != prev.Seq+1:
			note(line, "entry %d follows entry %d: %s", e.Seq, prev.Seq, order(e.Seq, prev.Seq))
		case e.Prev != prev.Hash:
			note(line, "entry %d does not follow the entry before it: that one was replaced", e.Seq)
		}
		prev = e
		entries++
	}
	switch {
	case known.Seq > prev.Seq:
		note(0, "the entries %d to %d are gone from the end", prev.Seq+1, known.Seq)
	case known.Seq == prev.Seq && known.Hash != prev.Hash:
		note(0, "the last entry is not the one that was added as number %d", known.Seq)
	case known.Seq == 0 && entries > 0:
		note(0, "%s is missing: whether entries are gone from the end cannot be told", headName)
	}
	return entries, findings, nil
}

func order(seq, prev int) string {
	if seq > prev {
		return "those between are gone"
	}
	return "the order was changed, or an entry stands twice"
}
