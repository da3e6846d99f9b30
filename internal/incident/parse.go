package incident

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// maxDocument bounds what is read as a review, in bytes: a long one has some
// tens of kilobytes.
const maxDocument = 1 << 20

// Document is a review as people have written it. Headings may be of any level
// and form, sections in any order, lines may end as on Windows, and lists may
// stand where the template has tables.
type Document struct {
	Title    string
	fields   map[string]field // by the label in lower case
	sections map[string]*section
}

// field is a labelled value at the head of a document.
type field struct {
	value string
	line  int
}

// section is a part of the runbook's: the lines below its heading.
type section struct {
	line  int // of its heading
	lines []line
}

// line is a line of text without comments and fenced code; code says that it
// was code. number counts from 1.
type line struct {
	number int
	text   string
	code   bool
}

// Read reads a review from a file. What is no regular file, too long, or no text
// is refused.
func Read(path string) (*Document, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path) // opening a pipe would hang
	case info.Size() > maxDocument:
		return nil, fmt.Errorf("%s has %d bytes: a review has at most %d", path, info.Size(), maxDocument)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc, err := Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return doc, nil
}

// Parse reads a review. The error says why it is no text of Markdown; what is
// wrong with it as a review, Check says.
func Parse(body []byte) (*Document, error) {
	if len(body) > maxDocument {
		return nil, fmt.Errorf("it has %d bytes: a review has at most %d", len(body), maxDocument)
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if err := text(body); err != nil {
		return nil, err
	}
	d := &Document{fields: map[string]field{}, sections: map[string]*section{}}
	d.read(lines(string(body)))
	return d, nil
}

// text says why a body is no text.
func text(body []byte) error {
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return fmt.Errorf("it is empty")
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("\xfe\xff")):
		return fmt.Errorf("it is UTF-16: save it as UTF-8")
	case bytes.HasPrefix(body, []byte("PK\x03\x04")):
		return fmt.Errorf("it is an archive or an office document: export it as Markdown")
	case bytes.HasPrefix(body, []byte("%PDF")):
		return fmt.Errorf("it is a PDF: keep the Markdown that it was made of")
	}
	number := 1
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRune(body[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Errorf("line %d: byte 0x%02x is no UTF-8: is it a text?", number, body[i])
		case r == '\n':
			number++
		case r == '\t', r == '\r', r == '\f':
		case unicode.Is(unicode.Cc, r):
			return fmt.Errorf("line %d: control character %U: is it a text?", number, r)
		}
		i += size
	}
	return nil
}

var fence = regexp.MustCompile("^ {0,3}(```+|~~~+)")

// lines cuts a text at its line ends of any kind and takes comments out. The
// marks of fenced code are left out, what stands between is marked.
func lines(text string) []line {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	var out []line
	open := ""       // the fence that must end
	comment := false // in <!-- ... -->
	for i, s := range strings.Split(text, "\n") {
		s = strings.TrimRight(s, " \t\f")
		if !comment {
			m := fence.FindStringSubmatch(s)
			if m != nil && open == "" {
				open = m[1]
				continue
			}
			if open != "" {
				if m != nil && strings.HasPrefix(m[1], open) && strings.TrimSpace(s) == m[1] {
					open = ""
					continue
				}
				out = append(out, line{i + 1, s, true})
				continue
			}
		}
		s, comment = uncommented(s, comment)
		out = append(out, line{i + 1, s, false})
	}
	return out
}

// uncommented returns a line without its comments, and whether one goes on.
func uncommented(s string, within bool) (string, bool) {
	var b strings.Builder
	for {
		if within {
			_, rest, ends := strings.Cut(s, "-->")
			if !ends {
				return b.String(), true
			}
			s = rest
		}
		before, rest, begins := strings.Cut(s, "<!--")
		b.WriteString(before)
		if !begins {
			return b.String(), false
		}
		s, within = rest, true
	}
}

var (
	atx    = regexp.MustCompile(`^ {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?$`)
	setext = regexp.MustCompile(`^ {0,3}(=+|-{2,})$`)
	bold   = regexp.MustCompile(`^(?:\*\*|__)([^*_]+)(?:\*\*:?|__:?)$`)
)

// heading returns the heading that stands at i, its level and how many lines it
// takes; 0 if there is none. A line of bold letters alone, or above a rule, is
// one if it names a section: people write them so, and other text too.
func heading(all []line, i int) (title string, level, taken int) {
	const deepest = 7
	l := all[i]
	if l.code {
		return "", 0, 0
	}
	if m := atx.FindStringSubmatch(l.text); m != nil {
		return m[2], len(m[1]), 1
	}
	if m := bold.FindStringSubmatch(strings.TrimSpace(l.text)); m != nil && sectionOf(m[1]) != "" {
		return m[1], deepest, 1
	}
	if i+1 < len(all) && !all[i+1].code && strings.TrimSpace(l.text) != "" && !strings.ContainsAny(l.text[:1], "|->*+") {
		if m := setext.FindStringSubmatch(all[i+1].text); m != nil {
			switch {
			case m[1][0] == '=':
				return l.text, 1, 2
			case sectionOf(l.text) != "":
				return l.text, 2, 2
			}
		}
	}
	return "", 0, 0
}

// read sorts the lines into head and sections.
func (d *Document) read(all []line) {
	var in *section
	within := 0 // level of the heading of in
	begun := false
	for i := 0; i < len(all); {
		title, level, taken := heading(all, i)
		if taken == 0 {
			switch {
			case in != nil:
				in.lines = append(in.lines, all[i])
			case !begun:
				d.field(all[i])
			}
			i++
			continue
		}
		id := sectionOf(title)
		switch {
		case id != "":
			begun = true
			if d.sections[id] == nil {
				d.sections[id] = &section{line: all[i].number}
			}
			in, within = d.sections[id], level
		case in == nil && d.Title == "":
			d.Title = strings.TrimSpace(title)
		case in != nil && level <= within:
			in = nil // a section that is none of the runbook's
		}
		i += taken
	}
}

// sectionOf returns the section that a heading begins; "" for none. Numbers and
// markup before the words do not count, nor what follows them.
func sectionOf(title string) string {
	words := strings.ToLower(strings.TrimLeftFunc(title, func(r rune) bool { return !unicode.IsLetter(r) }))
	words = strings.Join(strings.FieldsFunc(words, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), " ")
	for _, item := range runbook.ReviewItems() {
		for _, begin := range beginnings(item.ID) {
			if words == begin || strings.HasPrefix(words, begin+" ") || strings.HasPrefix(words, begin+"s") {
				return item.ID
			}
		}
	}
	return ""
}

// beginnings are the words with which the heading of a section may begin.
func beginnings(id string) []string {
	return map[string][]string{
		runbook.ReviewTimeline:    {"timeline", "time line", "chronology"},
		runbook.ReviewCause:       {"root cause", "cause"},
		runbook.ReviewImpact:      {"impact"},
		runbook.ReviewRemediation: {"immediate remediation", "remediation", "immediate action", "mitigation", "action taken", "actions taken"},
		runbook.ReviewActions:     {"long term corrective action", "long term action", "corrective action", "follow up action", "action"},
		runbook.ReviewDetection:   {"detection"},
		runbook.ReviewRunbook:     {"runbook"},
	}[id]
}

var labelled = regexp.MustCompile(`^(?:[-*+][ \t]+)?(?:\*\*|__)?([A-Za-z][A-Za-z ]{0,30}?)(?:\*\*|__)?[ \t]*:(?:\*\*|__)?[ \t]*(.*)$`)

// field keeps a labelled value: a row of a table, an item of a list or a line.
// The first of a label counts.
func (d *Document) field(l line) {
	label, value := "", ""
	if cells := cells(l.text); len(cells) == 2 {
		label, value = cells[0], cells[1]
	} else if m := labelled.FindStringSubmatch(strings.TrimSpace(l.text)); m != nil {
		label, value = m[1], m[2]
	}
	label = strings.ToLower(bare(label))
	if _, twice := d.fields[label]; label != "" && !twice {
		d.fields[label] = field{bare(value), l.number}
	}
}

// cells returns the cells of a row of a table; nil if the line is none.
func cells(text string) []string {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "|") && strings.Count(text, "|") < 2 {
		return nil
	}
	text = strings.TrimPrefix(text, "|")
	var out []string
	var cell strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			cell.WriteString(text[i : i+2])
			i++
		case text[i] == '|':
			out = append(out, strings.TrimSpace(cell.String()))
			cell.Reset()
		default:
			cell.WriteByte(text[i])
		}
	}
	if rest := strings.TrimSpace(cell.String()); rest != "" {
		out = append(out, rest) // a row without its last bar
	}
	return out
}

var escaped = regexp.MustCompile("\\\\([\\\\`*_{}\\[\\]()#+.!|~<>-])")

// bare is a text without the marks of emphasis and code around it, and without
// backslashes.
func bare(text string) string {
	text = strings.TrimSpace(text)
	for {
		inner := text
		for _, mark := range []string{"**", "__", "*", "_", "`"} {
			if len(inner) >= 2*len(mark) && strings.HasPrefix(inner, mark) && strings.HasSuffix(inner, mark) {
				inner = strings.TrimSpace(inner[len(mark) : len(inner)-len(mark)])
			}
		}
		if inner == text {
			return escaped.ReplaceAllString(text, "$1")
		}
		text = inner
	}
}
