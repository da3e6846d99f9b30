package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tool is a PostgreSQL client program that was found.
type Tool struct {
	Path       string // where; for a container's, SERVICE:NAME
	Version    string // "15.8"
	VersionNum int    // 150008, as the server numbers itself
}

// packagedTools is where distributions put the tools of each version.
func packagedTools() []string {
	return []string{"/usr/lib/postgresql/*/bin/pg_dump", "/usr/pgsql-*/bin/pg_dump", "/usr/libexec/postgresql*/pg_dump"}
}

// FindPgDump finds a pg_dump for a server of the given version number: the
// explicit path if there is one, else of those in PATH and in the packages'
// directories the one of the server's own major version, or the next higher:
// an older one refuses, and one that is much newer may write settings that the
// server does not know. Of one major version the newest wins. Its error says
// what was found and the way out.
func FindPgDump(ctx context.Context, explicit string, serverVersionNum int) (Tool, error) {
	if explicit != "" {
		tool, err := toolAt(ctx, explicit)
		if err != nil {
			return Tool{}, fmt.Errorf("pg_dump: dump.pg_dump: %w", err)
		}
		return tool, CheckVersion(tool, serverVersionNum)
	}
	return findPgDump(ctx, candidates(os.Getenv("PATH"), packagedTools()), serverVersionNum)
}

func findPgDump(ctx context.Context, paths []string, serverVersionNum int) (Tool, error) {
	var best, newest Tool
	var broken error
	for _, path := range paths {
		tool, err := toolAt(ctx, path)
		if err != nil {
			broken = err
			continue
		}
		if newest.Path == "" || tool.VersionNum > newest.VersionNum {
			newest = tool
		}
		if tool.VersionNum/10000 >= serverVersionNum/10000 && (best.Path == "" || closer(tool, best)) {
			best = tool
		}
	}
	switch {
	case best.Path != "":
		return best, nil
	case newest.Path != "":
		return newest, CheckVersion(newest, serverVersionNum)
	case broken != nil:
		return Tool{}, fmt.Errorf("pg_dump: %w", broken)
	default:
		return Tool{}, fmt.Errorf("pg_dump: server is %s and there is no pg_dump in PATH or %s: %s",
			versionString(serverVersionNum), "/usr/lib/postgresql/*/bin", remedy(serverVersionNum))
	}
}

// closer tells whether a is a better choice than b, both new enough.
func closer(a, b Tool) bool {
	if a.VersionNum/10000 != b.VersionNum/10000 {
		return a.VersionNum < b.VersionNum
	}
	return a.VersionNum > b.VersionNum
}

// CheckVersion is an error if the tool is older than the server's major version:
// pg_dump refuses to dump from such a server.
func CheckVersion(tool Tool, serverVersionNum int) error {
	if tool.VersionNum/10000 >= serverVersionNum/10000 {
		return nil
	}
	return fmt.Errorf("pg_dump: server is %s but %s is %s: %s",
		versionString(serverVersionNum), tool.Path, tool.Version, remedy(serverVersionNum))
}

func remedy(serverVersionNum int) string {
	return fmt.Sprintf("install postgresql-client-%d, or set dump.via: container", serverVersionNum/10000)
}

// candidates are the existing paths, each file once. Debian's /usr/bin/pg_dump
// is a wrapper that picks a version by rules of its own; what it picks from is
// in the packages' directories.
func candidates(path string, patterns []string) []string {
	var found []string
	add := func(file string) {
		if info, err := os.Stat(file); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return
		}
		if real, err := filepath.EvalSymlinks(file); err == nil && !slices.Contains(found, file) && filepath.Base(real) != "pg_wrapper" {
			found = append(found, file)
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			add(filepath.Join(dir, "pg_dump"))
		}
	}
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern)
		for _, file := range matches {
			add(file)
		}
	}
	return found
}

// HostTool returns the program of that name that a person on this host would run.
// The error wraps exec.ErrNotFound where there is none.
func HostTool(ctx context.Context, name string) (Tool, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return Tool{}, fmt.Errorf("postgres: %w", err)
	}
	return toolAt(ctx, path)
}

func toolAt(ctx context.Context, path string) (Tool, error) {
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = CleanEnv(os.Environ())
	out, err := cmd.Output()
	if err != nil {
		return Tool{}, fmt.Errorf("%s --version: %w", path, err)
	}
	return parseTool(path, string(out))
}

// versionLine is "pg_dump (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)", also with
// "17beta2" or "18devel".
var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?(?:\.(\d+))?`)

func parseTool(path, out string) (Tool, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return Tool{}, fmt.Errorf("%s --version: %q is not PostgreSQL's", path, strings.TrimSpace(out[:min(len(out), 80)]))
	}
	n := func(i int) int { v, _ := strconv.Atoi(m[i]); return v }
	num := n(1)*10000 + n(2)
	if n(1) < 10 {
		num = n(1)*10000 + n(2)*100 + n(3)
	}
	return Tool{Path: path, Version: versionString(num), VersionNum: num}, nil
}

// versionString is how PostgreSQL writes a version number: 150008 is 15.8.
func versionString(num int) string {
	if num < 100000 {
		return fmt.Sprintf("%d.%d.%d", num/10000, num/100%100, num%100)
	}
	return fmt.Sprintf("%d.%d", num/10000, num%10000)
}
