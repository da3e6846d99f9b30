package certs

import "testing"

// TestReasonOf: outputs in the wording of certbot, cut to what matters.
func TestReasonOf(t *testing.T) {
	for _, tt := range []struct{ name, output, kind, text string }{
		{"duplicate limit", `Processing /etc/letsencrypt/renewal/escrow.test.conf
Failed to renew certificate escrow.test with error: urn:ietf:params:acme:error:rateLimited :: There were too many requests of a given type :: too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2027-02-03 09:02:00 UTC: see https://letsencrypt.org/docs/rate-limits/
All renewals failed. The following certificates could not be renewed:
  /etc/letsencrypt/live/escrow.test/fullchain.pem (failure)
1 renew failure(s), 0 parse failure(s)`, ReasonRateLimit,
			"the CA's rate limit: too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2027-02-03 09:02:00 UTC: see https://letsencrypt.org/docs/rate-limits/"},
		{"older wording of the limit", `An unexpected error occurred:
There were too many requests of a given type :: Error creating new order :: too many failed authorizations recently: see https://letsencrypt.org/docs/failed-validation-limit/
Ask for help or search for solutions at https://community.letsencrypt.org.`, ReasonRateLimit,
			"the CA's rate limit: too many failed authorizations recently: see https://letsencrypt.org/docs/failed-validation-limit/"},
		{"DNS", `Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: escrow.test
  Type:   dns
  Detail: DNS problem: NXDOMAIN looking up A for escrow.test - check that a DNS record exists for this domain

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.
Failed to renew certificate escrow.test with error: Some challenges have failed.`, ReasonDNS,
			"challenge failed for escrow.test (dns): DNS problem: NXDOMAIN looking up A for escrow.test - check that a DNS record exists for this domain"},
		{"identifier, the newer word", "  Identifier: escrow.test\n  Type:   connection\n  Detail: 203.0.113.5: Fetching http://escrow.test/.well-known/acme-challenge/x: Timeout during connect (likely firewall problem)\n", ReasonChallenge,
			"challenge failed for escrow.test (connection): 203.0.113.5: Fetching http://escrow.test/.well-known/acme-challenge/x: Timeout during connect (likely firewall problem)"},
		{"locked", "Another instance of Certbot is already running.\nAsk for help or search for solutions at https://community.letsencrypt.org.", ReasonLocked,
			"another certbot is running: the loop of the certbot service, perhaps: try again when it has ended"},
		{"CA times out", "Failed to renew certificate escrow.test with error: HTTPSConnectionPool(host='acme-v02.api.letsencrypt.org', port=443): Read timed out. (read timeout=45)", ReasonNoCA,
			"the CA at acme-v02.api.letsencrypt.org:443 cannot be reached: timed out"},
		{"CA of one's own resets", "Failed to renew certificate escrow.test with error: Requesting ca.internal/dir: Connection reset by peer", ReasonNoCA,
			"the CA at ca.internal cannot be reached: Connection reset by peer"},
		{"CA in maintenance", "An unexpected error occurred:\nacme.messages.Error: urn:ietf:params:acme:error:serverInternal :: The server experienced an internal error :: The service is down for maintenance or had an internal error.", ReasonOther,
			"the CA refused (serverInternal): The service is down for maintenance or had an internal error."},
		{"a hook", "Failed to renew certificate escrow.test with error: expected /etc/letsencrypt/live/escrow.test/cert.pem to be a symlink", ReasonOther,
			"escrow.test: expected /etc/letsencrypt/live/escrow.test/cert.pem to be a symlink"},
		{"read-only files", "The following error was encountered:\n[Errno 30] Read-only file system: '/etc/letsencrypt/.certbot.lock'\nEither run as root, or set --config-dir, --work-dir, and --logs-dir to writeable paths.", ReasonOther,
			"certbot cannot use its files: [Errno 30] Read-only file system: '/etc/letsencrypt/.certbot.lock': either run as root, or set --config-dir, --work-dir, and --logs-dir to writeable paths."},
		{"anything else", "usage: certbot [SUBCOMMAND]\ncertbot: error: unrecognized arguments: --nonsense\n", ReasonOther, "certbot: error: unrecognized arguments: --nonsense"},
		{"nothing", "", ReasonOther, "it said nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := ReasonOf(tt.output); r.Kind != tt.kind || r.Text != tt.text {
				t.Errorf("%s: %s\nwant %s: %s", r.Kind, r.Text, tt.kind, tt.text)
			}
		})
	}
}
