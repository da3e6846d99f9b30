package envfile

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSize is far above any .env file; what is larger is something else.
const maxSize = 16 << 20

const bom = "\ufeff"

// Parse takes a file apart. The error is a *LineError: of a line whose end or
// name not all readers see alike, so that no position after it is certain.
func Parse(data []byte) (*File, error) {
	if len(data) > maxSize {
		return nil, &LineError{1, "", "the file is larger than 16 MiB: name the .env file"}
	}
	p := &parser{data: data, line: 1}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, &LineError{1 + bytes.Count(data[:i], []byte{'\n'}), "", "a NUL byte: this is no text file"}
	}
	if bytes.HasPrefix(data, []byte(bom)) {
		p.at = len(bom)
	}
	for p.at < len(data) {
		if err := p.statement(); err != nil {
			return nil, err
		}
	}
	return &File{data: data, entries: p.entries}, nil
}

type parser struct {
	data    []byte
	at      int
	line    int
	entries []Entry
}

func (p *parser) fail(reason string) error { return &LineError{p.line, "", reason} }

// eol returns where the line that holds from ends, before its line end.
func (p *parser) eol(from int) int {
	if i := bytes.IndexByte(p.data[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(p.data)
}

// next goes on to the line after the one that ends at end.
func (p *parser) next(end int) {
	p.at = min(end+1, len(p.data))
	p.line++
}

// blanks are what separates within a line.
func blank(c byte) bool { return c == ' ' || c == '\t' }

func (p *parser) skip(from, end int) int {
	for from < end && blank(p.data[from]) {
		from++
	}
	return from
}

// statement reads what begins on this line: nothing, a comment or NAME=value.
func (p *parser) statement() error {
	end := p.eol(p.at)
	line := bytes.TrimSuffix(p.data[p.at:end], []byte{'\r'})
	if i := bytes.IndexFunc(line, odd); i >= 0 {
		// Some readers end the line there, some take it for a blank.
		return p.fail("a control character or an unusual blank: remove it, or write the line anew")
	}
	text := p.skip(p.at, p.at+len(line))
	stop := p.at + len(line)
	if text == stop || p.data[text] == '#' {
		p.next(end)
		return nil
	}
	name, after, doubt, err := p.name(text, stop)
	if err != nil {
		return err
	}
	e := Entry{Name: name, Line: p.line, doubt: doubt, start: after, end: after}
	if after < 0 { // NAME alone: taken from the environment
		e.start, e.end = text, stop
		p.entries = append(p.entries, e)
		p.next(end)
		return nil
	}
	if v := p.skip(after, stop); v < stop && (p.data[v] == '\'' || p.data[v] == '"') {
		return p.quoted(e, v)
	}
	p.unquoted(&e, after, stop)
	p.entries = append(p.entries, e)
	p.next(end)
	return nil
}

const (
	doubtName  = "its name is not one that all readers take: use letters, digits and underscores"
	doubtColon = "it is written with a colon, which only some readers take: write NAME=value"
	doubtAlone = "it has no value here and comes from the environment: write NAME=value"
)

// name reads the name that begins at text. after is where the value may begin,
// -1 if there is none.
func (p *parser) name(text, stop int) (name string, after int, doubt string, err error) {
	raw := p.data[text:stop]
	if rest, ok := bytes.CutPrefix(raw, []byte("export")); ok && len(rest) > 0 && blank(rest[0]) {
		text = p.skip(stop-len(rest), stop)
		raw = p.data[text:stop]
	}
	i := bytes.IndexAny(raw, "=:")
	after = text + i + 1
	if i < 0 {
		i, after, doubt = len(raw), -1, doubtAlone
	} else if raw[i] == ':' {
		doubt = doubtColon
	}
	key := bytes.TrimRight(raw[:i], " \t")
	if len(key) == 0 {
		return "", 0, "", p.fail("a value without a name: write NAME=value")
	}
	for len(key) > 0 {
		r, n := utf8.DecodeRune(key)
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_.-[]", r) {
			return "", 0, "", p.fail("neither NAME=value nor a comment: write NAME=value, or # before it")
		}
		key = key[n:]
		name += string(r)
	}
	if doubt == "" && !usual(name) {
		doubt = doubtName
	}
	return name, after, doubt, nil
}

// usual says whether a name is one that shells take too.
func usual(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// unquoted reads a value up to the end of the line or to " #".
func (p *parser) unquoted(e *Entry, after, stop int) {
	begin := p.skip(after, stop)
	raw := p.data[begin:stop]
	if i := bytes.Index(raw, []byte(" #")); i >= 0 {
		raw = raw[:i]
	}
	raw = bytes.TrimRight(raw, " \t")
	e.start, e.end = begin, begin+len(raw)
	e.value = string(raw)
	switch text := e.value; {
	case e.doubt != "":
	case strings.Contains(text, "$"):
		e.doubt = "it is put together from other variables ($): write the value itself"
	case strings.HasPrefix(text, "#"), strings.Contains(text, "\t#"):
		e.doubt = "a # that some readers take for a comment: put the value in quotes"
	case strings.Contains(text, "\\"), strings.Contains(text, "`"):
		e.doubt = "a backslash or backtick that readers take differently: put the value in single quotes without it"
	case strings.ContainsAny(text, `'"`):
		e.doubt = "a quote inside a value without quotes, which readers take differently: put the whole value in quotes"
	}
}

// quoted reads a value in quotes, over several lines if need be.
func (p *parser) quoted(e Entry, begin int) error {
	quote := p.data[begin]
	e.quote, e.start = quote, begin
	i := begin + 1
	for ; i < len(p.data) && p.data[i] != quote; i++ {
		if p.data[i] == '\\' && i+1 < len(p.data) {
			i++
		}
	}
	if i >= len(p.data) {
		return p.fail("a quote that nothing closes: close it")
	}
	inner := p.data[begin+1 : i]
	e.end = i + 1
	if e.doubt == "" {
		e.value, e.doubt = unquote(inner, quote)
	}
	p.line += bytes.Count(inner, []byte{'\n'})
	end := p.eol(e.end)
	rest := bytes.TrimSpace(p.data[e.end:end])
	if bytes.ContainsFunc(bytes.TrimSuffix(p.data[e.end:end], []byte{'\r'}), odd) {
		return p.fail("a control character or an unusual blank: remove it, or write the line anew")
	}
	if len(rest) > 0 && rest[0] != '#' {
		return p.fail("text after the closing quote: put it inside, or remove it")
	}
	p.entries = append(p.entries, e)
	p.next(end)
	return nil
}

// unquote returns the value between quotes, or why it is not certain.
func unquote(inner []byte, quote byte) (value, doubt string) {
	text := string(inner)
	switch {
	case strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r") || strings.ContainsFunc(strings.ReplaceAll(strings.ReplaceAll(text, "\r", ""), "\n", ""), odd):
		return "", "a control character or an unusual blank inside the quotes: write the value anew"
	case quote == '"' && strings.Contains(text, "$"), strings.Contains(text, "${"):
		return "", "it is put together from other variables ($): write the value itself"
	case quote == '\'' && strings.Contains(text, `\`):
		return "", "a backslash that readers take differently: write the value without it"
	case !strings.Contains(text, `\`):
		return text, ""
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out.WriteByte(text[i])
			continue
		}
		i++
		if i >= len(text) {
			return "", "a backslash at its end: write the value without it"
		}
		switch text[i] {
		case '"', '\\':
			out.WriteByte(text[i])
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 't':
			out.WriteByte('\t')
		default:
			return "", "a backslash that readers take differently: write the value without it"
		}
	}
	return out.String(), ""
}

// odd is what readers disagree on whether it ends a line, is a blank, or
// belongs to the value.
func odd(r rune) bool {
	return r != ' ' && r != '\t' && (unicode.IsControl(r) || unicode.IsSpace(r)) || r == '\ufeff'
}
