package schedule

import "strings"

// Call is one simple command of a shell command line.
type Call struct {
	Words []string // without its redirections
	Log   string   // the file that > or >> sends its output to
}

// Calls takes a shell command line apart: enough to tell what is called, with
// quotes and backslashes read and variables left as they stand.
func Calls(command string) []Call {
	var calls []Call
	var now Call
	redirect := ""
	end := func() {
		if len(now.Words) > 0 || now.Log != "" {
			calls = append(calls, now)
		}
		now, redirect = Call{}, ""
	}
	for _, t := range tokens(command) {
		switch {
		case t.operator && strings.ContainsAny(t.text, "<>"):
			redirect = t.text
		case t.operator:
			end()
		case redirect != "":
			stdout := strings.TrimLeft(redirect, "1&")
			if strings.HasPrefix(stdout, ">") && !strings.HasSuffix(stdout, "&") {
				now.Log = t.text
			}
			redirect = ""
		default:
			now.Words = append(now.Words, t.text)
		}
	}
	end()
	return calls
}

type token struct {
	text     string
	operator bool
}

func tokens(command string) []token {
	var out []token
	var word strings.Builder
	inWord := false
	flush := func() {
		if inWord {
			out = append(out, token{text: word.String()})
			word.Reset()
			inWord = false
		}
	}
	for i := 0; i < len(command); i++ {
		c := command[i]
		switch {
		case c == '\\' && i+1 < len(command):
			i++
			word.WriteByte(command[i])
			inWord = true
		case c == '\'' || c == '"':
			n := closing(command[i+1:], c, &word)
			i += n
			inWord = true
		case c == '#' && !inWord:
			return out // a comment
		case strings.IndexByte(";|&<>()", c) >= 0:
			start := i
			for i+1 < len(command) && strings.IndexByte(";|&<>", command[i+1]) >= 0 {
				i++
			}
			op := command[start : i+1]
			if strings.ContainsAny(op, "<>") && isNumber(word.String()) {
				op = word.String() + op // 2>&1
				word.Reset()
				inWord = false
			}
			flush()
			out = append(out, token{op, true})
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			flush()
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	flush()
	return out
}

// closing writes what stands before the closing quote, and returns how many
// bytes that and the quote are.
func closing(s string, quote byte, word *strings.Builder) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return i + 1
		case s[i] == '\\' && quote == '"' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
			word.WriteByte(s[i])
		default:
			word.WriteByte(s[i])
		}
	}
	return len(s)
}

func isNumber(s string) bool { return s != "" && leading(s, isDigit) == s }

// Quote writes a word so that the shell reads it as it is.
func Quote(word string) string {
	plain := word != ""
	for i := range len(word) {
		if !isWord(word[i]) && strings.IndexByte("/._-+:,@=%", word[i]) < 0 {
			plain = false
		}
	}
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
