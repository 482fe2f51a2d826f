package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v3"
)

// NamePattern is what names of regions, workloads and drills look like.
const NamePattern = `[a-z0-9][a-z0-9-]{0,62}`

// ValidName reports whether a name may be used in keys, labels and file names.
func ValidName(name string) bool {
	return regexp.MustCompile(`^` + NamePattern + `$`).MatchString(name)
}

// constrain checks a decoded text (or list of texts) against the form or the
// words that its field's tag names.
func (d *decoder) constrain(n *yaml.Node, f *field, path string) {
	if d.broken[path] {
		return
	}
	switch v := f.value.Interface().(type) {
	case string:
		d.constrainText(n, v, f.tag, path)
	case []string:
		for i, text := range v {
			sub := fmt.Sprintf("%s[%d]", path, i)
			if i < len(n.Content) && !d.broken[sub] {
				d.constrainText(n.Content[i], text, f.tag, sub)
			}
		}
	}
}

func (d *decoder) constrainText(n *yaml.Node, text string, tag reflect.StructTag, path string) {
	if words := tag.Get("oneof"); words != "" {
		d.oneOf(n, text, strings.Split(words, ","), path)
		return
	}
	form := tag.Get("form")
	if form == "" {
		return
	}
	if err := checkForm(form, text); err != nil {
		d.broken[path] = true
		d.add(at(n), path, CodeBadValue, "%s %v", path, err)
	}
}

func (d *decoder) oneOf(n *yaml.Node, text string, words []string, path string) {
	if slices.Contains(words, text) {
		return
	}
	d.broken[path] = true
	if lastKey(path) == "kind" && slices.Contains(futureKinds(), text) {
		d.add(at(n), path, CodeNotSupported, "%s: %q is not supported in this version; only %s is", path, text, listWords(words))
		return
	}
	suggestion := Suggest(text, words)
	hint := ""
	if suggestion != "" {
		hint = fmt.Sprintf("; did you mean %q?", suggestion)
	}
	p := d.add(at(n), path, CodeBadValue, "%s must be %s, got %q%s", path, listWords(words), shorten(text), hint)
	p.Suggestion = suggestion
}

func listWords(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// checkForm checks one text; the error continues a sentence that begins with its path.
func checkForm(form, text string) error {
	switch form {
	case "name":
		if !ValidName(text) {
			return fmt.Errorf("must be 1 to 63 lower-case letters, digits and dashes, got %q", shorten(text))
		}
	case "title":
		if text == "" || len(text) > 200 || strings.ContainsFunc(text, unicode.IsControl) {
			return errors.New("must be one line of 1 to 200 characters")
		}
	case "timezone":
		if _, err := loadZone(text); err != nil {
			return fmt.Errorf("is wrong: %w", err)
		}
	case "abspath":
		return checkPath(text)
	case "basename":
		if text == "" || text == "." || text == ".." || strings.ContainsAny(text, "/\x00") {
			return fmt.Errorf("must be a plain name without slashes, got %q", shorten(text))
		}
	case "glob":
		return checkGlob(text)
	case "exclude":
		if strings.Trim(text, "*/") == "" && text != "" {
			return fmt.Errorf("must not match everything, got %q", shorten(text))
		}
		return checkGlob(text)
	case "env":
		if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`).MatchString(text) {
			return errors.New("must be the name of an environment variable")
		}
	case "endpoint":
		return checkEndpoint(text)
	case "repoid":
		if id, err := hex.DecodeString(text); err != nil || len(id) != 32 || text != strings.ToLower(text) {
			return errors.New("must be 64 lower-case hex digits, as init printed them")
		}
	case "rootkey":
		if !strings.HasPrefix(text, "lbr1") || len(text) < 20 || len(text) > 200 || !utf8.ValidString(text) {
			return errors.New("must be a public root key (lbr1…), as init printed it")
		}
	}
	return nil
}

func checkPath(text string) error {
	switch {
	case text == "":
		return nil // as if it were not there
	case !filepath.IsAbs(text):
		return fmt.Errorf("must be an absolute path, got %q", shorten(text))
	case filepath.Clean(text) != text && filepath.Clean(text)+"/" != text:
		return fmt.Errorf("must be a plain path without . or .. or //, got %q", shorten(text))
	}
	return nil
}

func checkEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return errors.New("must be https://host[:port], with nothing behind it")
	}
	return nil
}

// checkGlob refuses what a backup would refuse, so that it is found before.
func checkGlob(text string) error {
	switch body := strings.TrimRight(text, "/"); {
	case body == "" || !doublestar.ValidatePattern(body):
		return fmt.Errorf("must be a glob such as *.tmp or **/cache/**, got %q", shorten(text))
	case slices.ContainsFunc(strings.Split(body, "/"), func(part string) bool { return part == "." || part == ".." }):
		return fmt.Errorf("must not go by . or .., which no path has in it, got %q", shorten(text))
	case body[0] == '!':
		return fmt.Errorf(`cannot include again what another glob leaves out: negation is not supported; write \! for a name that begins with one, got %q`, shorten(text))
	}
	return nil
}
