package schedule

import (
	"errors"
	"fmt"
	"strings"
)

// The lines between which our rows stand in a crontab.
const (
	blockBegin = "# BEGIN escrowctl: written by 'escrowctl cron install', changes here are lost"
	blockEnd   = "# END escrowctl"
)

// ErrNoBlock says that a crontab has no rows of ours between markers.
var ErrNoBlock = errors.New("there is no block of escrowctl's")

// block finds our lines, the markers included, as the bytes from start to end.
func block(crontab string) (start, end int, err error) {
	start, end = -1, -1
	at, n := 0, 0
	for line := range strings.Lines(crontab) {
		n++
		// Whoever changed the words behind the name still means the marker.
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(text, "# BEGIN escrowctl"):
			if start >= 0 {
				return 0, 0, fmt.Errorf("line %d: a second %q: remove one of the blocks by hand", n, text)
			}
			start = at
		case strings.HasPrefix(text, blockEnd):
			if start < 0 || end >= 0 {
				return 0, 0, fmt.Errorf("line %d: %q without its beginning: remove the line by hand", n, text)
			}
			end = at + len(line)
		}
		at += len(line)
	}
	switch {
	case start < 0:
		return 0, 0, ErrNoBlock
	case end < 0:
		return 0, 0, fmt.Errorf("the end marker (%q) of the block is missing: add it after the last row of escrowctl's", blockEnd)
	}
	return start, end, nil
}

// InstallBlock puts the rows between markers, in place of those that are there,
// else at the end. All other bytes stay; only a last line without a newline,
// which cron would not run, gets one.
func InstallBlock(crontab string, rows []string) (string, error) {
	body := blockBegin + "\n"
	for _, r := range rows {
		body += r + "\n"
	}
	body += blockEnd + "\n"
	start, end, err := block(crontab)
	switch {
	case errors.Is(err, ErrNoBlock):
		if crontab != "" && !strings.HasSuffix(crontab, "\n") {
			crontab += "\n"
		}
		return crontab + body, nil
	case err != nil:
		return "", err
	}
	return crontab[:start] + body + crontab[end:], nil
}

// RemoveBlock takes our rows and their markers out; ErrNoBlock if there are
// none.
func RemoveBlock(crontab string) (string, error) {
	start, end, err := block(crontab)
	if err != nil {
		return "", err
	}
	return crontab[:start] + crontab[end:], nil
}
