package ui

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Case is one check for a CI server.
type Case struct {
	Name   string
	Status string // ok, warning, unknown or critical
	Text   string // one line
	Detail []string
}

// WriteJUnit writes checks as JUnit's XML: a critical one is a failure, an
// unknown one an error, and a warning passes with its text as output.
func WriteJUnit(path, suite string, took time.Duration, cases []Case) error {
	doc := junitSuite{Name: suite, Tests: len(cases), Time: fmt.Sprintf("%.3f", took.Seconds())}
	for _, c := range cases {
		text := legal(Clean(c.Text))
		rest := make([]string, 0, len(c.Detail))
		for _, d := range c.Detail {
			rest = append(rest, legal(Clean(d)))
		}
		out := junitCase{Class: strings.ReplaceAll(suite, " ", "."), Name: c.Name}
		switch c.Status {
		case "critical":
			doc.Failures++
			out.Failure = &junitFault{Message: text, Type: c.Status, Body: strings.Join(rest, "\n")}
		case "unknown":
			doc.Errors++
			out.Error = &junitFault{Message: text, Type: c.Status, Body: strings.Join(rest, "\n")}
		default:
			out.Output = c.Status + ": " + strings.Join(append([]string{text}, rest...), "\n")
		}
		doc.Cases = append(doc.Cases, out)
	}
	body, err := xml.MarshalIndent(struct {
		XMLName xml.Name   `xml:"testsuites"`
		Suite   junitSuite `xml:"testsuite"`
	}{Suite: doc}, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, append([]byte(xml.Header), append(body, '\n')...), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// legal leaves out what XML cannot hold.
func legal(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, s)
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string      `xml:"classname,attr"`
	Name    string      `xml:"name,attr"`
	Failure *junitFault `xml:"failure"`
	Error   *junitFault `xml:"error"`
	Output  string      `xml:"system-out,omitempty"`
}

type junitFault struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Body    string `xml:",chardata"`
}
