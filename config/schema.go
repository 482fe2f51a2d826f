package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// SchemaID names version 1 of the schema.
const SchemaID = "https://lifeboat.example/schema/v1.json"

// Schema is the JSON Schema of the file, for editors.
func Schema() ([]byte, error) {
	reflector := jsonschema.Reflector{
		Anonymous: true, RequiredFromJSONSchemaTags: true, ExpandedStruct: true,
		Mapper: schemaOf,
		LookupComment: func(t reflect.Type, name string) string {
			if t.Kind() != reflect.Struct {
				return ""
			}
			f, _ := t.FieldByName(name) // the type itself has no field of no name, and no tag
			return f.Tag.Get("doc")
		},
	}
	schema := reflector.Reflect(&Config{})
	schema.ID = SchemaID
	schema.Title = "lifeboat configuration"
	describe(schema, reflect.TypeFor[Config](), schema.Definitions, map[reflect.Type]bool{})
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(out, '\n'), nil
}

// schemaOf gives the text forms of our own scalars.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	zero := jsonschema.Schema{Type: "integer", Const: json.Number("0")}
	switch t {
	case reflect.TypeFor[Duration]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^(0|(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?)$`}, &zero}}
	case reflect.TypeFor[Size]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^[0-9.]+ *([kKmMgGtTpP]i?)?[bB]?$`}, {Type: "integer", Minimum: "0"}}}
	case reflect.TypeFor[Amount]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^(none|all|[0-9.]+ *(%|([kKmMgGtTpP]i?)?[bB]))$`}, &zero}}
	case reflect.TypeFor[DrillKey]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Const: keyInstalled}, {Ref: "#/$defs/SecretRef"}}}
	}
	return nil
}

// describe adds what our own tags say: allowed words and name patterns.
func describe(schema *jsonschema.Schema, t reflect.Type, defs jsonschema.Definitions, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] || schema == nil {
		return
	}
	seen[t] = true
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if schema.Properties == nil {
			return
		}
		property, ok := schema.Properties.Get(name)
		if !ok {
			continue
		}
		for _, word := range strings.Split(f.Tag.Get("oneof"), ",") {
			if word != "" {
				property.Enum = append(property.Enum, word)
			}
		}
		if f.Tag.Get("form") == "name" {
			property.Pattern = "^" + NamePattern + "$"
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		describe(defs[inner.Name()], inner, defs, seen)
	}
}
