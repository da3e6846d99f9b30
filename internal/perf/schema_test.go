package perf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

const schemaFile = "../../docs/perf.schema.json"

// schemaOf is the JSON Schema of a type, as encoding/json writes it.
func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[check.Status]():
		return map[string]any{"type": "string", "enum": []any{"ok", "warning", "unknown", "critical"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		if t == reflect.TypeFor[[]check.Result]() { // parts of parts
			return map[string]any{"type": "array"}
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		properties, required := map[string]any{}, []any{}
		addFields(t, properties, &required)
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	}
	panic("no schema for " + t.String())
}

func addFields(t reflect.Type, properties map[string]any, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			addFields(f.Type, properties, required)
		case !f.IsExported() || name == "-":
		default:
			properties[name] = schemaOf(f.Type)
			if !strings.Contains(options, "omit") {
				*required = append(*required, name)
			}
		}
	}
}

// TestPublishedSchema keeps docs/perf.schema.json what the program writes.
// ESCROWCTL_TEST_UPDATE=1 writes it anew.
func TestPublishedSchema(t *testing.T) {
	schema := schemaOf(reflect.TypeFor[Report]())
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "escrowctl perf analyze --json"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("ESCROWCTL_TEST_UPDATE") != "" {
		if err := os.WriteFile(schemaFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	published, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(published, b.Bytes()) {
		t.Fatal("docs/perf.schema.json is not what the program writes: a change of the form needs a new schema_version; ESCROWCTL_TEST_UPDATE=1 writes it anew")
	}
	var read map[string]any
	if err := json.Unmarshal(published, &read); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		var before *Snapshot
		if n > 0 {
			before = week(n - 1)
		}
		doc, err := json.Marshal(Analyse(week(n), before, Options{Limits: DefaultLimits()}))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			t.Fatal(err)
		}
		for _, fault := range violations("report", v, read) {
			t.Error(fault)
		}
		v.(map[string]any)["findings"].([]any)[0].(map[string]any)["status"] = "fine"
		delete(v.(map[string]any), "taken_at")
		v.(map[string]any)["more"] = 1
		if got := violations("report", v, read); len(got) != 3 {
			t.Errorf("three faults, found %q", got)
		}
	}
}

// violations holds a document against the part of JSON Schema that ours uses.
func violations(path string, v any, schema map[string]any) []string {
	var faults []string
	kind := map[string]bool{}
	switch x := v.(type) {
	case nil:
		kind["null"] = true
	case string:
		kind["string"] = true
		if enum, ok := schema["enum"].([]any); ok && !reflect.DeepEqual(enum, nil) {
			found := false
			for _, e := range enum {
				found = found || e == x
			}
			if !found {
				faults = append(faults, fmt.Sprintf("%s: %q is none of %v", path, x, enum))
			}
		}
	case bool:
		kind["boolean"] = true
	case float64:
		kind["number"], kind["integer"] = true, x == float64(int64(x))
	case []any:
		kind["array"] = true
		if items, ok := schema["items"].(map[string]any); ok {
			for i, e := range x {
				faults = append(faults, violations(fmt.Sprintf("%s[%d]", path, i), e, items)...)
			}
		}
	case map[string]any:
		kind["object"] = true
		properties, _ := schema["properties"].(map[string]any)
		for name, e := range x {
			if s, ok := properties[name].(map[string]any); ok {
				faults = append(faults, violations(path+"."+name, e, s)...)
			} else if s, ok := schema["additionalProperties"].(map[string]any); ok {
				faults = append(faults, violations(path+"."+name, e, s)...)
			} else {
				faults = append(faults, path+"."+name+": not in the schema")
			}
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := x[name.(string)]; !ok {
				faults = append(faults, fmt.Sprintf("%s.%s: missing", path, name))
			}
		}
	}
	if !kind[schema["type"].(string)] {
		faults = append(faults, fmt.Sprintf("%s: is no %s", path, schema["type"]))
	}
	return faults
}
