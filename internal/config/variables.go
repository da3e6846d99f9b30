package config

import (
	"strings"

	"github.com/stellarescrow/escrowctl/internal/secret"
)

// Variable is a variable of the environment that sets a key.
type Variable struct {
	Key    string
	Secret bool // its value may hold a secret
}

// Variables returns every variable that sets a key, by name.
func Variables() map[string]Variable {
	out := map[string]Variable{}
	for _, k := range keys() {
		for _, name := range k.envNames() {
			out[name] = Variable{Key: k.name, Secret: k.secret}
		}
	}
	return out
}

// Differing returns the keys whose values differ between two configurations.
func Differing(a, b *Loaded) []string {
	var out []string
	for _, k := range keys() {
		same := k.show(&a.Config) == k.show(&b.Config)
		if k.same != nil {
			same = k.same(&a.Config, &b.Config)
		}
		if !same {
			out = append(out, k.name)
		}
	}
	return out
}

// Credentials are those of S3, of the compose project's .env.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.Value
	SessionToken    secret.Value
}

// CredentialVariables are the AWS SDK's own variables that hold Credentials.
func CredentialVariables() []string {
	return []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
}

// credentials returns those of a .env file. Credentials that the environment
// names, which the SDK finds by itself, weigh more: then there are none.
func credentials(dotenv, environ map[string]string) Credentials {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		if environ[name] != "" {
			return Credentials{}
		}
	}
	id, key := strings.TrimSpace(dotenv["AWS_ACCESS_KEY_ID"]), dotenv["AWS_SECRET_ACCESS_KEY"]
	if id == "" || key == "" {
		return Credentials{}
	}
	return Credentials{AccessKeyID: id, SecretAccessKey: secret.New(key), SessionToken: secret.New(dotenv["AWS_SESSION_TOKEN"])}
}
