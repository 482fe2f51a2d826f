package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretDoesNotPrint(t *testing.T) {
	s := NewSecret([]byte("hunter2"))
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s)
	text, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		log.WriteString(fmt.Sprintf(format, s) + fmt.Sprintf(format, struct{ S Secret }{s}) + fmt.Sprintf(format, &s))
	}
	out := log.String() + string(text)
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprint([]byte("hunter2"))} {
		if strings.Contains(out, leak) {
			t.Errorf("%q leaks into %s", leak, out)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal does not give the value")
	}
}

func TestSecretRef(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, perm os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), perm); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, perm); err != nil {
			t.Fatal(err)
		}
		return path
	}
	credentials := filepath.Join(dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	write("credentials/key", "from systemd\n", 0o444)
	env := func(name string) string {
		return map[string]string{"CREDENTIALS_DIRECTORY": credentials, "THE_KEY": "from env"}[name]
	}
	good := map[string]SecretRef{
		"in a file":    {FromFile: write("good", "in a file\r\n", 0o600)},
		"from systemd": {FromCredential: "key"},
		"from env":     {FromEnv: "THE_KEY"},
		"printed":      {FromCommand: []string{"/bin/echo", "printed"}},
	}
	for want, ref := range good {
		got, err := ref.Read(t.Context(), env)
		if err != nil || got.Reveal() != want {
			t.Errorf("%s: %q, %v", ref, got.Reveal(), err)
		}
	}
	bad := map[string]SecretRef{
		"readable by others": {FromFile: write("open", "x", 0o640)},
		"no such file":       {FromFile: filepath.Join(dir, "none")},
		"is a directory":     {FromFile: credentials},
		"it is empty":        {FromFile: write("empty", "\n", 0o600)},
		"larger than":        {FromFile: write("big", strings.Repeat("x", secretBytesMax+1), 0o600)},
		"exit status":        {FromCommand: []string{"/bin/sh", "-c", "echo hunter2 >&2; exit 3"}},
		"exactly one":        {},
	}
	for want, ref := range bad {
		_, err := ref.Read(t.Context(), env)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	if _, err := (SecretRef{FromFile: filepath.Join(dir, "open")}).Read(t.Context(), env); !errors.Is(err, ErrSecretExposed) {
		t.Errorf("exposed file: %v", err)
	}
	if _, err := (SecretRef{FromCredential: "key"}).Read(t.Context(), func(string) string { return "" }); err == nil {
		t.Error("a credential without a folder was read")
	}
}

func TestParseRegionURL(t *testing.T) {
	a, err := ParseRegionURL("s3://bucket/a/b/?endpoint=http://127.0.0.1:7070&region=us-east-1&path_style=true&profile=p&ca_file=/ca.pem")
	want := Address{URL: "s3://bucket/a/b/", Bucket: "bucket", Prefix: "a/b",
		S3: S3{Region: "us-east-1", Endpoint: "http://127.0.0.1:7070", PathStyle: true, Profile: "p", CAFile: "/ca.pem"}}
	if err != nil || a != want {
		t.Errorf("got %+v, %v", a, err)
	}
	a, err = ParseRegionURL("file:///mnt/with%20space/")
	if err != nil || a.Dir != "/mnt/with space" {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, text := range []string{"", "/mnt", "file://mnt", "file:///", "file:///a?b=c", "s3://", "s3:///x", "s3://b:1/x", "s3://b/x?path_style=maybe",
		"s3://b/x?endpoint=ftp://x", "s3://b/x?region=a&region=b", "s3://b/x#y", "http://x/y", "s3://u:p@b/x", "s3://%zz"} {
		if _, err := ParseRegionURL(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzParseRegionURL(f *testing.F) {
	f.Add("s3://bucket/prefix?endpoint=https://x&region=y")
	f.Add("file:///mnt/a")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseRegionURL(text)
		if err == nil && (a.Dir == "") == (a.Bucket == "") {
			t.Errorf("%q: %+v", text, a)
		}
	})
}
