package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
	"go.yaml.in/yaml/v3"
)

// drTestKeys are the settings of the recovery test.
func drTestKeys() []*key {
	const day = runbook.Day
	return []*key{
		{name: "dr_test.engine", def: Auto, access: text(func(c *Config) *string { return &c.DRTest.Engine }, oneOf(Auto, EngineDocker, EngineLocal))},
		{name: "dr_test.image", emptyOK: true, access: text(func(c *Config) *string { return &c.DRTest.Image }, imageName)},
		{name: "dr_test.storage", def: Auto, access: text(func(c *Config) *string { return &c.DRTest.Storage }, oneOf(Auto, "memory", "disk"))},
		{name: "dr_test.memory", def: "0B", access: size(func(c *Config) *Size { return &c.DRTest.Memory }, 0, 64*TiB)},
		{name: "dr_test.cpus", def: "0", access: whole(func(c *Config) *int { return &c.DRTest.CPUs }, 0, 4096)},
		{name: "dr_test.jobs", def: "0", access: whole(func(c *Config) *int { return &c.DRTest.Jobs }, 0, 32)},
		{name: "dr_test.timeout", def: "2h", access: duration(func(c *Config) *time.Duration { return &c.DRTest.Timeout }, time.Second, 30*day)},
		{name: "dr_test.keep_for", def: "1d", access: duration(func(c *Config) *time.Duration { return &c.DRTest.KeepFor }, time.Second, 30*day)},
		{name: "dr_test.min_tables", def: showInt(runbook.DRTestMinTables), access: whole(func(c *Config) *int { return &c.DRTest.MinTables }, 0, 1_000_000)},
		{name: "dr_test.tables", def: strings.Join(runbook.ProofTables(), ","), emptyOK: true, access: list(func(c *Config) *[]string { return &c.DRTest.Tables }, tableName)},
		{name: "dr_test.rpo", def: showDuration(runbook.BackupMaxAge), access: duration(func(c *Config) *time.Duration { return &c.DRTest.RPO }, 0, 365*day)},
		{name: "dr_test.rto", def: "1h", access: duration(func(c *Config) *time.Duration { return &c.DRTest.RTO }, 0, 30*day)},
		{name: "dr_test.newest_row", emptyOK: true, access: text(func(c *Config) *string { return &c.DRTest.NewestRow }, columnName)},
		{name: "dr_test.assertions", emptyOK: true, access: assertions(func(c *Config) *[]Assertion { return &c.DRTest.Assertions })},
	}
}

const assertionsRemedy = "write items of name, query and expect, as in {name: no negative amounts, query: SELECT count(*) FROM trades WHERE amount < 0, expect: 0}"

// assertions is a list of queries. In the file it is a list of sections, in
// variables and flags the same as JSON.
func assertions(at func(*Config) *[]Assertion) access {
	return access{
		set: func(c *Config, texts []string) *problem {
			text := strings.Join(texts, "")
			if text == "" {
				*at(c) = nil
				return nil
			}
			var list []Assertion
			dec := json.NewDecoder(strings.NewReader(text))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&list); err != nil || dec.More() {
				return faulty("not a list of assertions", assertionsRemedy)
			}
			seen := map[string]bool{}
			for i, a := range list {
				switch {
				case a.Name == "" || a.Query == "" || a.Expect == "":
					return faulty(fmt.Sprintf("item %d lacks its name, query or expect", i+1), assertionsRemedy)
				case seen[a.Name]:
					return faulty(fmt.Sprintf("item %d has the name of another", i+1), "give each a name of its own")
				}
				seen[a.Name] = true
			}
			*at(c) = list
			return nil
		},
		show: func(c *Config) string {
			var names []string
			for _, a := range *at(c) {
				names = append(names, a.Name)
			}
			return strings.Join(names, ", ")
		},
		mask:  maskPlain,
		items: assertionItems,
	}
}

// assertionItems makes of a YAML list the JSON that set reads.
func assertionItems(v *yaml.Node) (string, *problem) {
	var list []Assertion
	for _, item := range v.Content {
		var a Assertion
		var body bytes.Buffer
		enc := yaml.NewEncoder(&body)
		err := enc.Encode(item)
		dec := yaml.NewDecoder(&body)
		dec.KnownFields(true)
		if err != nil || item.Kind != yaml.MappingNode || dec.Decode(&a) != nil {
			return "", faulty("an item that is no assertion", assertionsRemedy)
		}
		list = append(list, a)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return "", faulty("not a list of assertions", assertionsRemedy)
	}
	return string(text), nil
}
