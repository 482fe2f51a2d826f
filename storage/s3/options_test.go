package s3

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	tests := []struct {
		text string
		want Options
	}{
		{"s3://bucket", Options{Bucket: "bucket"}},
		{"s3://bucket/", Options{Bucket: "bucket"}},
		{"s3://my.bucket/a/b/", Options{Bucket: "my.bucket", Prefix: "a/b"}},
		{
			"s3://b/p?endpoint=http://127.0.0.1:7070&region=eu&path_style=true&profile=x&ca_file=/etc/ca.pem",
			Options{
				Bucket: "b", Prefix: "p", Endpoint: "http://127.0.0.1:7070", Region: "eu", PathStyle: true,
				Profile: "x", CAFile: "/etc/ca.pem",
			},
		},
		{"s3://b?endpoint=https%3A%2F%2Fs3.example.org", Options{Bucket: "b", Endpoint: "https://s3.example.org"}},
		{"s3://b?path_style=false", Options{Bucket: "b"}},
	}
	for _, tt := range tests {
		got, err := ParseURL(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.text, got, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, text := range []string{
		"", "s3:", "s3://", "s3:///prefix", "s3:bucket", "http://bucket/x", "bucket/prefix", "s3://b/p#f",
		"s3://key:secret@bucket/p", "s3://bucket:9000/p", "s3://b?endpont=x", "s3://b?region=a&region=b",
		"s3://b?path_style=maybe", "s3://b/a//b", "s3://b/../c", "s3://b/a%20b", "s3://b/.hidden",
		"s3://b?endpoint=ftp://host", "s3://b?endpoint=https://host/path", "s3://b?endpoint=https://u:p@host",
		"s3://b?endpoint=https://", "s3://" + strings.Repeat("b", 64), "s3://b/" + strings.Repeat("p", 300), "s3://b?%zz",
	} {
		if got, err := ParseURL(text); err == nil {
			t.Errorf("%q became %+v", text, got)
		}
	}
}

func TestServer(t *testing.T) {
	tests := []struct {
		endpoint, region, host string
		secure                 bool
		signed                 string
	}{
		{"", "", "s3.amazonaws.com", true, ""},
		{"", "eu-west-1", "s3.eu-west-1.amazonaws.com", true, "eu-west-1"},
		{"host", "", "host", true, "us-east-1"},
		{"host:9000", "x", "host:9000", true, "x"},
		{"https://host/", "", "host", true, "us-east-1"},
		{"http://[::1]:9000", "", "[::1]:9000", false, "us-east-1"},
	}
	for _, tt := range tests {
		o := Options{Endpoint: tt.endpoint, Region: tt.region}
		host, secure, err := o.server()
		if err != nil || host != tt.host || secure != tt.secure || o.region() != tt.signed {
			t.Errorf("%+v: %s, %v, %s, %v", tt, host, secure, o.region(), err)
		}
	}
}

func TestOpenChecks(t *testing.T) {
	key := func() (string, error) { return "k", nil }
	for _, o := range []Options{
		{}, {Bucket: "b/c"}, {Bucket: "bucket", AccessKeyID: key}, {Bucket: "bucket", Endpoint: "http://"},
		{Bucket: "bucket", Prefix: "a b"},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("s3://bucket/prefix?endpoint=http://127.0.0.1:1&region=r&path_style=true&profile=p&ca_file=c")
	f.Add("s3://b/a//b")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseURL(text)
		if err != nil {
			return
		}
		if o.Bucket == "" || slices.Contains(strings.Split(o.folder(), "/"), "..") || strings.HasPrefix(o.folder(), "/") {
			t.Errorf("%q became %+v", text, o)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/100", int64(5), int64(5))
	f.Add("bytes 95-99/100", int64(-5), int64(-1))
	f.Fuzz(func(t *testing.T, text string, offset, length int64) {
		size, n, err := checkRange(text, offset, length)
		if err == nil && (n < 0 || n > size || length >= 0 && n > length) {
			t.Errorf("%q for [%d,%d]: %d of %d", text, offset, length, n, size)
		}
	})
}
