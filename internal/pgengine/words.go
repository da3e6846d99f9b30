package pgengine

import (
	"strings"
	"unicode/utf8"
)

// LastLines are the last lines of what a server said, on one line, for a
// message.
func LastLines(text []byte) string {
	const shown = 5
	var said []string
	for _, line := range strings.Split(string(text), "\n") {
		if line = printable(line); line != "" {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "it said nothing"
	}
	return strings.Join(said[max(0, len(said)-shown):], "; ")
}

// Crash is the line of a server's log by which it says that one of its
// processes was killed, as the kernel does when memory runs out; "" if there is
// none.
func Crash(text []byte) string {
	for _, line := range strings.Split(string(text), "\n") {
		if strings.Contains(line, "was terminated by signal") {
			return printable(line)
		}
	}
	return ""
}

// printable takes out what is no text: Docker puts eight bytes before each
// piece of a container's output.
func printable(line string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return -1
		}
		return r
	}, line))
}
