package certs

import (
	"regexp"
	"strings"
)

// Reason is why certbot did not renew, in one line.
type Reason struct {
	Kind string // one of the kinds below
	Text string
}

// The kinds of reason.
const (
	ReasonRateLimit = "rate_limit"
	ReasonChallenge = "challenge"
	ReasonDNS       = "dns"
	ReasonNoCA      = "ca_unreachable"
	ReasonLocked    = "locked" // another certbot is at it
	ReasonTimeout   = "timeout"
	ReasonOther     = "other"
)

var (
	challengeDomain = regexp.MustCompile(`^\s*(?:Domain|Identifier):\s*(\S+)`)
	challengeType   = regexp.MustCompile(`^\s*Type:\s*(\S+)`)
	challengeDetail = regexp.MustCompile(`^\s*Detail:\s*(.+)$`)
	failedToRenew   = regexp.MustCompile(`Failed to renew certificate (\S+) with error: (.+)$`)
	hostInError     = regexp.MustCompile(`host='([^']+)', port=(\d+)`)
	requesting      = regexp.MustCompile(`Requesting ([^\s/]+)\S*: `) // any CA's host, and the path
	acmeProblem     = regexp.MustCompile(`urn:ietf:params:acme:error:(\w+) :: (.+)$`)
)

// ReasonOf finds in certbot's output why it failed.
func ReasonOf(output string) Reason {
	lines := strings.Split(strings.ReplaceAll(output, "\r", ""), "\n")
	for _, find := range []func([]string) (Reason, bool){lockedReason, filesReason, problemReason, challengeReason, noCAReason, renewReason} {
		if r, ok := find(lines); ok {
			return r
		}
	}
	last := "it said nothing"
	for _, line := range lines {
		line = strings.TrimSpace(line)
		// Its closing advice is the same for every failure.
		if line != "" && !strings.HasPrefix(line, "Ask for help") && !strings.HasPrefix(line, "- - -") && !strings.Contains(line, "parse failure(s)") && !strings.Contains(line, "renew failure(s)") {
			last = line
		}
	}
	return Reason{ReasonOther, last}
}

func lockedReason(lines []string) (Reason, bool) {
	for _, line := range lines {
		if strings.Contains(line, "Another instance of Certbot is already running") {
			return Reason{ReasonLocked, "another certbot is running: the loop of the certbot service, perhaps: try again when it has ended"}, true
		}
	}
	return Reason{}, false
}

// filesReason is what certbot says of a directory that it cannot write: the cause,
// and then advice that is the same for every cause.
func filesReason(lines []string) (Reason, bool) {
	for i, line := range lines {
		if strings.TrimSpace(line) != "The following error was encountered:" || i+1 >= len(lines) {
			continue
		}
		text := "certbot cannot use its files: " + strings.TrimSpace(lines[i+1])
		if i+2 < len(lines) && strings.HasPrefix(lines[i+2], "Either run as root") {
			text += ": e" + strings.TrimSpace(lines[i+2])[1:]
		}
		return Reason{ReasonOther, text}, true
	}
	return Reason{}, false
}

// problemReason is an answer of the CA's to the order itself.
func problemReason(lines []string) (Reason, bool) {
	// "words of the RFC :: words of the CA"
	last := func(text string) string { return text[strings.LastIndex(text, " :: ")+len(" :: "):] }
	for _, line := range lines {
		if strings.Contains(line, "There were too many requests of a given type :: ") {
			return Reason{ReasonRateLimit, "the CA's rate limit: " + last(line)}, true
		}
		m := acmeProblem.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text := last(m[0])
		switch m[1] {
		case "rateLimited":
			return Reason{ReasonRateLimit, "the CA's rate limit: " + text}, true
		case "unauthorized", "dns", "connection", "tls", "incorrectResponse":
			continue // told with its challenge
		}
		return Reason{ReasonOther, "the CA refused (" + m[1] + "): " + text}, true
	}
	return Reason{}, false
}

func challengeReason(lines []string) (Reason, bool) {
	var domain, kind string
	for _, line := range lines {
		if m := challengeDomain.FindStringSubmatch(line); m != nil {
			domain, kind = m[1], ""
		}
		if m := challengeType.FindStringSubmatch(line); m != nil {
			kind = m[1]
		}
		m := challengeDetail.FindStringSubmatch(line)
		if m == nil || domain == "" {
			continue
		}
		r := Reason{ReasonChallenge, "challenge failed for " + domain + " (" + kind + "): " + strings.TrimSpace(m[1])}
		if kind == "dns" {
			r.Kind = ReasonDNS
		}
		return r, true
	}
	return Reason{}, false
}

// noCAReason is what Python's HTTP libraries say when nobody answers.
func noCAReason(lines []string) (Reason, bool) {
	causes := []string{"Connection refused", "Name or service not known", "Temporary failure in name resolution", "No address associated with hostname",
		"timed out", "No route to host", "Network is unreachable", "CERTIFICATE_VERIFY_FAILED", "Connection reset by peer", "Remote end closed connection"}
	for _, line := range lines {
		if !strings.Contains(line, "Max retries exceeded") && !strings.Contains(line, "ConnectionError") && !strings.Contains(line, "ConnectionPool") &&
			!requesting.MatchString(line) && !strings.Contains(line, "Connection aborted") {
			continue
		}
		where := ""
		if m := requesting.FindStringSubmatch(line); m != nil {
			where = " at " + m[1]
		}
		if m := hostInError.FindStringSubmatch(line); m != nil {
			where = " at " + m[1] + ":" + m[2]
		}
		for _, cause := range causes {
			if strings.Contains(line, cause) {
				return Reason{ReasonNoCA, "the CA" + where + " cannot be reached: " + cause}, true
			}
		}
		if where != "" {
			return Reason{ReasonNoCA, "the CA" + where + " cannot be reached"}, true
		}
	}
	return Reason{}, false
}

func renewReason(lines []string) (Reason, bool) {
	for _, line := range lines {
		if m := failedToRenew.FindStringSubmatch(line); m != nil {
			return Reason{ReasonOther, m[1] + ": " + m[2]}, true
		}
	}
	return Reason{}, false
}
