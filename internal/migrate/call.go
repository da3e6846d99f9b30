package migrate

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// call reads a simple command: settings, files that it reads, the script that
// it runs, and work that escrowctl does not do.
func (r *reader) call(c *syntax.CallExpr) {
	if len(c.Args) == 0 {
		for _, a := range c.Assigns {
			r.assign(a)
		}
		return
	}
	words := r.words(c.Args)
	r.inlined(c, words)
	switch name := path.Base(words[0]); name {
	case ".", "source":
		if len(words) > 1 {
			r.sourced(c, words[1])
		}
	case "cd":
		if len(words) > 1 && words[1] != "" {
			r.dir = r.absolute(words[1])
			r.addDir(r.dir)
		}
	case ":": // : "${BACKUP_DIR:=/var/backups}"
		r.defaults(c)
	default:
		if r.runsScript(c, words) {
			return
		}
		if r.script != "" && r.kind == InScript {
			r.work(c, words, name)
		}
	}
}

// inlined takes the variables before a command: those of the row hold for the
// script.
func (r *reader) inlined(c *syntax.CallExpr, words []string) {
	if r.script != "" {
		return
	}
	for _, a := range c.Assigns {
		r.assign(a)
	}
	at := slices.IndexFunc(words, func(w string) bool { return path.Base(w) == "env" })
	if at < 0 {
		return
	}
	for i, w := range words[at+1:] {
		if name, value, ok := strings.Cut(w, "="); ok && name != "" && !strings.Contains(name, "/") {
			r.vars[name] = Variable{Name: name, Value: value, Place: r.place(c.Args[at+1+i]), Kind: r.kind}
		}
	}
}

func (r *reader) sourced(c *syntax.CallExpr, name string) {
	if name == "" {
		r.left(r.place(c), "it reads a file whose name is worked out when it runs", "name the file in compose.env_file")
		return
	}
	r.source(name, c)
}

func (r *reader) addDir(dir string) {
	if filepath.IsAbs(dir) && !slices.Contains(r.dirs, dir) {
		r.dirs = append(r.dirs, dir)
	}
}

// defaults reads : "${NAME:=value}".
func (r *reader) defaults(c *syntax.CallExpr) {
	syntax.Walk(c, func(n syntax.Node) bool {
		p, ok := n.(*syntax.ParamExp)
		if !ok || p.Param == nil || p.Exp == nil || p.Exp.Word == nil || p.Exp.Op != syntax.AssignUnset && p.Exp.Op != syntax.AssignUnsetOrNull {
			return true
		}
		if v, set := r.vars[p.Param.Value]; set && v.Value != "" {
			return true
		}
		if value, ok := r.word(p.Exp.Word); ok {
			r.vars[p.Param.Value] = Variable{Name: p.Param.Value, Value: value, Place: r.place(p), Kind: r.kind, Derived: true}
		}
		return true
	})
}

// runsScript goes on into the old script, if the command runs it.
func (r *reader) runsScript(c *syntax.CallExpr, words []string) bool {
	if r.script != "" {
		return false
	}
	for i, w := range words {
		switch {
		case strings.ContainsAny(w, " \t") && strings.Contains(w, r.row.Script): // sh -c "..."
			r.text(w, r.place(c.Args[i]), r.kind)
			return r.script != ""
		case path.Base(w) != r.row.Script:
		case slices.ContainsFunc(words[:i], inContainer):
			r.composed(c, words[:i])
			return true
		default:
			return r.intoScript(w)
		}
	}
	return false
}

func inContainer(word string) bool {
	return slices.Contains([]string{"docker", "docker-compose", "podman"}, path.Base(word))
}

// composed handles docker compose run: the script is in a container, whose
// variables come from the project's .env.
func (r *reader) composed(c *syntax.CallExpr, before []string) {
	dir := r.dir
	for i, w := range before {
		if i+1 < len(before) && (w == "-f" || w == "--file") {
			dir = filepath.Dir(r.absolute(before[i+1]))
		}
		if i+1 < len(before) && w == "--project-directory" {
			dir = r.absolute(before[i+1])
		}
	}
	r.script = r.row.Script
	r.left(r.place(c), "the script runs in a container, whose compose file may set more", "compare its environment: docker compose config")
	if dir != "" {
		r.addDir(dir)
	}
}

// intoScript reads the script, as a process of its own would run it.
func (r *reader) intoScript(name string) bool {
	name = r.absolute(name)
	text, err := r.files(name)
	if err != nil {
		return false
	}
	r.script = name
	r.addDir(filepath.Dir(filepath.Dir(name)))
	r.text(text, Place{name, 1}, InScript)
	return true
}

// ordinary are the programs that the old scripts are made of, whose work
// escrowctl does.
func ordinary() []string {
	return strings.Fields(`[ alias awk aws basename bash bc break cat cd certbot chmod chown column command continue cp curl cut date df dirname docker
		docker-compose du echo eval exec exit expr false find flock free getopts grep gunzip gzip head hostname id install jq kill local ls mapfile mkdir
		mktemp mv nginx nice numfmt openssl pg_dump pg_isready pigz printf ps psql pwd python3 read redis-cli return rm sed seq set sh shift sleep sort
		stat sync tail tee test timeout touch tr trap true type ulimit umask uniq unset wait wc which xargs zcat`)
}

// work names what a script does that escrowctl would not.
func (r *reader) work(c *syntax.CallExpr, words []string, name string) {
	switch {
	case words[0] == "":
		return // what is called is worked out; a function of the script's mostly
	case name == "pg_dump":
		r.dumpOptions(c, words)
	case name == "aws":
		r.awsOptions(c, words)
	case name == "curl":
		r.posts(c, words)
	case slices.Contains(ordinary(), name), r.isFunction(words[0]):
	default:
		r.left(r.place(c), "it runs "+name, "escrowctl does not: keep it in a row of its own, if it is still needed")
	}
}

// isFunction says whether a word is no program: functions have no path, and
// are found by their definition in the script.
func (r *reader) isFunction(word string) bool {
	text, err := r.files(r.file)
	return err == nil && !strings.Contains(word, "/") && (strings.Contains(text, word+"()") || strings.Contains(text, "function "+word))
}

// dumpOptions names what pg_dump leaves out or changes.
func (r *reader) dumpOptions(c *syntax.CallExpr, words []string) {
	harmless := []string{"-d", "--dbname", "-h", "--host", "-p", "--port", "-U", "--username", "-w", "--no-password", "-f", "--file", "-v", "--verbose", "-Fp", "--format=plain", "-F", "--lock-wait-timeout"}
	for i, w := range words[1:] {
		option, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(w, "-") && !slices.Contains(harmless, option) && !slices.Contains(harmless, w) {
			r.left(r.place(c.Args[i+1]), "pg_dump is given "+option, "escrowctl dumps the whole database, with owners and rights, as SQL")
		}
	}
}

// awsOptions names where else, and how else, the aws command sends.
func (r *reader) awsOptions(c *syntax.CallExpr, words []string) {
	settings := map[string]string{
		"--storage-class": "s3.storage_class", "--endpoint-url": "s3.endpoint", "--region": "s3.region", "--profile": "AWS_PROFILE in the crontab",
	}
	bucket := r.vars["S3_BUCKET"].Value
	for i, w := range words {
		option, value, _ := strings.Cut(w, "=")
		if value == "" && i+1 < len(words) {
			value = words[i+1]
		}
		at := r.place(c.Args[i])
		switch {
		case option == "--storage-class" && value == "STANDARD_IA": // the default
		case settings[option] != "":
			r.left(at, "aws is given "+option+" "+value, "set "+settings[option])
		case strings.HasPrefix(option, "--sse"):
			r.left(at, "aws is given "+option, "let the bucket encrypt by default")
		case strings.HasPrefix(w, "s3://") && (bucket == "" || !strings.HasPrefix(w, bucket)):
			r.left(at, "it uses "+w, "escrowctl sends to s3.bucket alone")
		}
	}
}

// posts names addresses other than the settings' own.
func (r *reader) posts(c *syntax.CallExpr, words []string) {
	for i, w := range words {
		if (strings.HasPrefix(w, "http://") || strings.HasPrefix(w, "https://")) && literal(c.Args[i]) {
			host := strings.SplitN(w, "/", 4)
			r.left(r.place(c.Args[i]), "it calls "+strings.Join(host[:min(3, len(host))], "/"), "escrowctl calls report.webhook and report.api_base_url: set these, or keep the call in a row of its own")
		}
	}
}
