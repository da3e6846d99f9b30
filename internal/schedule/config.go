package schedule

import (
	"path"
	"slices"
	"strings"
)

// configVariable names the configuration file in the environment.
const configVariable = "ESCROWCTL_CONFIG"

// config is the configuration file that a call names, "" where it reads the one
// that is found without a name. It is not known where the row changes directory,
// user or environment on its way to the call.
func (c call) config(r Row) (file string, known bool) {
	for i, arg := range c.args {
		if value, ok := strings.CutPrefix(arg, "--config="); ok {
			return value, true
		}
		if arg == "--config" && i+1 < len(c.args) {
			return c.args[i+1], true
		}
	}
	if strings.Contains(r.Command, configVariable) || r.Env["HOME"] != "" || len(Calls(r.Command)) > 1 {
		return "", false
	}
	for _, word := range strings.Fields(r.Command) {
		if slices.Contains([]string{"cd", "sudo", "doas", "su", "runuser", "env"}, path.Base(strings.Trim(word, `"'`))) {
			return "", false
		}
	}
	return r.Env[configVariable], true
}
