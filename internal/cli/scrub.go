package cli

import (
	"bytes"
	"encoding/json"
)

// scrub takes secrets out of an error's text and keeps what it wraps.
func (d *deps) scrub(err error) error {
	clean := d.scrubber.Scrub(err.Error())
	if clean == err.Error() {
		return err
	}
	return &scrubbed{clean, err}
}

type scrubbed struct {
	msg string
	err error
}

func (e *scrubbed) Error() string { return e.msg }
func (e *scrubbed) Unwrap() error { return e.err }

// scrubOutcome takes secrets out of all that is recorded and sent. Adapters
// keep them out already; this is for what they did not make themselves, such as
// the message of a server.
func (d *deps) scrubOutcome(out *Outcome) {
	out.Verdict = d.scrubber.Scrub(out.Verdict)
	out.Report.Text = d.scrubber.Scrub(out.Report.Text)
	out.Report.Event = d.scrubValue(out.Report.Event)
	for key, figure := range out.Figures {
		out.Figures[key] = d.scrubValue(figure)
	}
}

// scrubValue scrubs every text in what v is as JSON. A v without secrets, as
// all should be, is returned as it is.
func (d *deps) scrubValue(v any) any {
	doc, err := json.Marshal(v)
	if err != nil {
		return v // who writes it will say so
	}
	if text := string(doc); d.scrubber.Scrub(text) == text {
		return v
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		return v
	}
	return d.scrubTree(plain)
}

func (d *deps) scrubTree(v any) any {
	switch v := v.(type) {
	case string:
		return d.scrubber.Scrub(v)
	case []any:
		for i := range v {
			v[i] = d.scrubTree(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = d.scrubTree(v[key])
		}
	}
	return v
}
