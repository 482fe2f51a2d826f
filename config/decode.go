package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// position of a value (and of its key) in the file.
type position struct {
	line, column int
	width        int
	private      bool
}

// decoder walks YAML nodes against Go types and collects problems.
type decoder struct {
	file     string
	problems Problems
	where    map[string]position // by path: the value
	keys     map[string]position // by path: the key, or the list item
	broken   map[string]bool     // paths whose value could not be used
	private  int                 // depth inside values that may be secret
}

// parseNodes reads one YAML document. A nil node means that problems say why.
func (d *decoder) parseNodes(data []byte) *yaml.Node {
	if len(data) > fileBytesMax {
		d.add(position{1, 1, 0, false}, "", CodeSyntax, "the file is larger than %d MiB", fileBytesMax>>20)
		return nil
	}
	if !utf8.Valid(data) {
		line := 1 + bytes.Count(data[:invalidAt(data)], []byte("\n"))
		d.add(position{line, 1, 0, true}, "", CodeSyntax, "the file is not UTF-8 text")
		return nil
	}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := reader.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			d.add(position{1, 1, 0, false}, "", CodeMissing, "the file is empty; it needs at least version and regions")
		} else {
			d.syntax(err)
		}
		return nil
	}
	if err := reader.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			d.syntax(err)
		} else {
			d.add(at(&second), "", CodeSyntax, "a second YAML document begins here; one file is one document")
		}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil
	}
	return doc.Content[0]
}

func invalidAt(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}

// syntax takes the line out of the YAML reader's message.
func (d *decoder) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := regexp.MustCompile(`line (\d+): ?`).FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.Replace(message, m[0], "", 1)
		// The parser's marks count from 0, the scanner's are corrected by the library.
		if regexp.MustCompile(`^did not find expected (<|node|'-'|','|key)`).MatchString(message) {
			line++
		}
	}
	if strings.Contains(message, "anchor") || strings.Contains(message, "alias") {
		message = "anchors and aliases (& and *) are not accepted; write the value out"
	}
	d.add(position{max(line, 1), 1, 0, true}, "", CodeSyntax, "not valid YAML: %s", message)
}

func at(n *yaml.Node) position {
	return position{line: max(n.Line, 1), column: max(n.Column, 1), width: utf8.RuneCountInString(n.Value)}
}

func (d *decoder) add(pos position, path, code, format string, args ...any) *Problem {
	if len(d.problems) >= problemsMax {
		return &Problem{}
	}
	d.problems = append(d.problems, Problem{
		File: d.file, Line: pos.line, Column: pos.column, Width: pos.width,
		Private:  pos.private || d.private > 0 || looksSecret(lastKey(path)),
		Severity: Error, Path: path, Code: code, Message: fmt.Sprintf(format, args...),
	})
	return &d.problems[len(d.problems)-1]
}

func lastKey(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

// mistyped records that a value is of the wrong kind. The value is quoted
// unless it may be secret.
func (d *decoder) mistyped(n *yaml.Node, path, want string) {
	d.broken[path] = true
	got := "got " + kindWords(n)
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" && d.private == 0 && !looksSecret(lastKey(path)) {
		got = fmt.Sprintf("got %q", shorten(n.Value))
	}
	d.add(at(n), path, CodeWrongType, "%s must be %s, %s", orFile(path), want, got)
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func kindWords(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a group of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return "a plain value"
}

// refuse reports YAML features that would make errors point to the wrong place.
func (d *decoder) refuse(n *yaml.Node, path string, depth int) bool {
	switch {
	case depth > depthMax:
		d.add(at(n), path, CodeSyntax, "nested deeper than %d levels", depthMax)
	case n.Kind == yaml.AliasNode:
		d.add(at(n), path, CodeSyntax, "aliases (*%s) are not accepted; write the value out", shorten(n.Value))
	case n.Anchor != "":
		d.add(at(n), path, CodeSyntax, "anchors (&%s) are not accepted; write the value out", shorten(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.add(at(n), path, CodeSyntax, "tags (%s) are not accepted", shorten(n.Tag))
	default:
		return false
	}
	d.broken[path] = true
	return true
}

// decode fills v from n.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string, depth int) {
	if d.refuse(n, path, depth) {
		return
	}
	d.where[path] = at(n)
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		setDefaults(fresh.Interface())
		v.Set(fresh)
		v = fresh.Elem()
	}
	switch v.Addr().Interface().(type) {
	case *SecretRef:
		d.secretRef(n, v, path, depth)
		return
	case *DrillKey:
		d.drillKey(n, v, path, depth)
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, text, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.group(n, v, path, depth)
	case reflect.Slice:
		d.list(n, v, path, depth)
	case reflect.Map:
		d.labels(n, v, path, depth)
	default:
		d.scalar(n, v, path)
	}
}

// secretRef takes only references, so that no secret lands in a file.
func (d *decoder) secretRef(n *yaml.Node, v reflect.Value, path string, depth int) {
	d.private++
	defer func() { d.private-- }()
	if n.Kind != yaml.MappingNode {
		d.mistyped(n, path, "a reference such as {from_file: /path}, never the value itself")
		return
	}
	before := len(d.problems)
	d.group(n, v, path, depth)
	ref := v.Addr().Interface().(*SecretRef)
	if len(d.problems) == before && ref.places() != 1 {
		d.add(at(n), path, CodeBadValue, "%s needs exactly one of from_file, from_credential, from_env and from_command", path)
	}
}

func (d *decoder) drillKey(n *yaml.Node, v reflect.Value, path string, depth int) {
	key := v.Addr().Interface().(*DrillKey)
	if n.Kind == yaml.MappingNode {
		*key = DrillKey{}
		d.secretRef(n, reflect.ValueOf(&key.Kit).Elem(), path, depth)
		return
	}
	d.private++
	defer func() { d.private-- }()
	if n.Kind != yaml.ScalarNode || key.UnmarshalText([]byte(n.Value)) != nil {
		d.mistyped(n, path, `"installed" or a reference such as {from_file: /root/kit.txt}`)
	}
}

func (d *decoder) text(n *yaml.Node, v encoding.TextUnmarshaler, path string) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.mistyped(n, path, textWords(v))
		return
	}
	if err := v.UnmarshalText([]byte(n.Value)); err != nil {
		d.broken[path] = true
		d.add(at(n), path, CodeBadValue, "%s: %v", path, err)
	}
}

func textWords(v any) string {
	switch v.(type) {
	case *Duration:
		return "a duration such as 15m or 30d"
	case *Size:
		return "a size such as 512MiB"
	case *Amount:
		return "an amount such as 3%, 10GiB or all"
	}
	return "text"
}

// field of a struct that a key of the file names.
type field struct {
	value   reflect.Value
	tag     reflect.StructTag
	name    string
	private bool
}

func fieldsOf(v reflect.Value) []field {
	var out []field
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		name, _, _ := strings.Cut(tag.Get("json"), ",")
		if name != "" && name != "-" {
			out = append(out, field{v.Field(i), tag, name, tag.Get("private") != ""})
		}
	}
	return out
}

// group walks the keys of a mapping.
func (d *decoder) group(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.mistyped(n, path, "a group of keys")
		return
	}
	fields := fieldsOf(v)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if d.badKey(key, path, depth, seen) {
			continue
		}
		f := findField(fields, key.Value)
		if f == nil {
			d.unknown(key, path, fields)
			continue
		}
		sub := join(path, key.Value)
		d.keys[sub] = at(key)
		d.decode(value, f.value, sub, depth+1)
		d.constrain(value, f, sub)
	}
	for _, f := range fields {
		if strings.Contains(f.tag.Get("jsonschema"), "required") && seen[f.name] == 0 {
			d.add(d.anchor(path, n), join(path, f.name), CodeMissing, "%s is missing", join(path, f.name))
		}
	}
}

// anchor is where to point when something inside path is missing: its key.
func (d *decoder) anchor(path string, n *yaml.Node) position {
	if pos, ok := d.keys[path]; ok {
		return pos
	}
	pos := at(n)
	pos.width = 0
	return pos
}

// badKey reports keys that are not plain words, merges and repetitions.
func (d *decoder) badKey(key *yaml.Node, path string, depth int, seen map[string]int) bool {
	switch {
	case key.Tag == "!!merge":
		d.add(at(key), path, CodeSyntax, "merge keys (<<) are not accepted; write the keys out")
		return true
	case key.Kind != yaml.ScalarNode || key.Tag == "!!null":
		d.add(at(key), path, CodeSyntax, "a key must be a word")
		return true
	case d.refuse(key, path, depth):
		return true
	}
	if first := seen[key.Value]; first > 0 {
		d.add(at(key), join(path, key.Value), CodeDuplicateKey, "%s is set twice (first on line %d)", join(path, shorten(key.Value)), first)
		return true
	}
	seen[key.Value] = key.Line
	return false
}

func findField(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknown reports a key that no field has: one of a later version, a slip of
// the pen, or nonsense.
func (d *decoder) unknown(key *yaml.Node, path string, fields []field) {
	full := join(path, key.Value)
	if isFuture(full) {
		d.add(at(key), full, CodeNotSupported, "%s is not supported in this version", full)
		return
	}
	where := ""
	if path != "" {
		where = " in " + path
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	hint := ""
	suggestion := Suggest(key.Value, names)
	if suggestion != "" {
		hint = fmt.Sprintf("; did you mean %q?", suggestion)
	}
	p := d.add(at(key), full, CodeUnknownKey, "unknown key %q%s%s", shorten(key.Value), where, hint)
	p.Suggestion = suggestion
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.mistyped(n, path, "a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		sub := fmt.Sprintf("%s[%d]", path, i)
		d.keys[sub] = at(item)
		setDefaults(out.Index(i).Addr().Interface())
		d.decode(item, out.Index(i), sub, depth+1)
	}
	v.Set(out)
}

// labels reads a map of free names to text.
func (d *decoder) labels(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.mistyped(n, path, "a group of keys")
		return
	}
	out := map[string]string{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		sub := join(path, key.Value)
		if d.badKey(key, path, depth, seen) || d.refuse(value, sub, depth+1) {
			continue
		}
		if value.Kind != yaml.ScalarNode || value.Tag != "!!str" {
			d.mistyped(value, sub, "text (put it in quotes)")
			continue
		}
		d.where[sub] = at(value)
		out[key.Value] = value.Value
	}
	v.Set(reflect.ValueOf(out))
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	want := map[reflect.Kind]string{
		reflect.String: "text", reflect.Bool: "true or false", reflect.Int: "a whole number",
	}[v.Kind()]
	if n.Kind != yaml.ScalarNode {
		d.mistyped(n, path, want)
		return
	}
	switch {
	case v.Kind() == reflect.String && n.Tag == "!!str":
		if len(n.Value) > textMax || strings.ContainsRune(n.Value, 0) {
			d.broken[path] = true
			d.add(at(n), path, CodeBadValue, "%s must be at most %d bytes without zero bytes", path, textMax)
			return
		}
		v.SetString(n.Value)
	case v.Kind() == reflect.String && n.Tag != "!!null":
		d.mistyped(n, path, "text (put it in quotes)")
	case v.Kind() == reflect.Bool && n.Tag == "!!bool":
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case v.Kind() == reflect.Int && n.Tag == "!!int":
		number, err := strconv.ParseInt(n.Value, 10, 32)
		if err != nil {
			d.mistyped(n, path, want)
			return
		}
		v.SetInt(number)
	default:
		d.mistyped(n, path, want)
	}
}
