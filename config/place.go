package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// place is a parsed region URL, for comparing regions with each other.
type place struct {
	scheme   string // file or s3
	endpoint string // s3: host of the server; "" is AWS
	bucket   string
	folder   string // file: the directory; s3: the prefix
}

// queryKeys of an s3:// region URL.
func queryKeys() []string {
	return []string{"endpoint", "region", "path_style", "profile", "ca_file"}
}

// parsePlace reads file:///path and s3://bucket/prefix?….
func parsePlace(text string) (place, url.Values, error) {
	u, err := url.Parse(text)
	if err != nil {
		return place{}, nil, errors.New("is not a URL such as file:///srv/dr or s3://bucket/prefix")
	}
	if u.User != nil {
		return place{}, nil, errors.New("must not hold credentials; refer to them under s3")
	}
	if u.Fragment != "" {
		return place{}, nil, errors.New("must not have a #fragment")
	}
	switch u.Scheme {
	case "file":
		return filePlace(u)
	case "s3":
		return s3Place(u)
	}
	return place{}, nil, fmt.Errorf("must begin with file:/// or s3://, got %q", shorten(text))
}

func filePlace(u *url.URL) (place, url.Values, error) {
	switch {
	case u.Host != "":
		return place{}, nil, errors.New("must have three slashes: file:///path")
	case u.RawQuery != "":
		return place{}, nil, errors.New("must not have a ?query: a directory has no options")
	case u.Path == "" || !filepath.IsAbs(u.Path) || filepath.Clean(u.Path) == "/":
		return place{}, nil, errors.New("must name an absolute folder other than /")
	}
	return place{scheme: "file", folder: filepath.Clean(u.Path)}, nil, nil
}

func s3Place(u *url.URL) (place, url.Values, error) {
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return place{}, nil, errors.New("has a ?query that cannot be read")
	case u.Host == "" || strings.Contains(u.Host, ":"):
		return place{}, nil, errors.New("must name a bucket: s3://bucket/prefix; the server belongs in endpoint")
	}
	for key, values := range query {
		if !slices.Contains(queryKeys(), key) {
			return place{}, nil, fmt.Errorf("has an unknown option %q; known are %s", shorten(key), listWords(queryKeys()))
		}
		if len(values) > 1 {
			return place{}, nil, fmt.Errorf("gives the option %q twice", key)
		}
	}
	if style := query.Get("path_style"); style != "" && style != "true" && style != "false" {
		return place{}, nil, errors.New("option path_style must be true or false")
	}
	if err := checkEndpoint(query.Get("endpoint")); err != nil {
		return place{}, nil, fmt.Errorf("option endpoint %w", err)
	}
	prefix := strings.Trim(path.Clean("/"+u.Path), "/")
	return place{"s3", hostOf(query.Get("endpoint")), u.Host, prefix}, query, nil
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// sameServer reports whether both are buckets of one server of the same name.
func (p place) sameBucket(o place) bool {
	return p.scheme == "s3" && o.scheme == "s3" && p.endpoint == o.endpoint && p.bucket == o.bucket
}

// overlaps reports whether one place is the other, or lies inside it.
func (p place) overlaps(o place) bool {
	if p.scheme != o.scheme || (p.scheme == "s3" && !p.sameBucket(o)) {
		return false
	}
	return within(p.folder, o.folder) || within(o.folder, p.folder)
}

// within reports whether inner is outer or lies below it.
func within(inner, outer string) bool {
	outer = strings.TrimSuffix(outer, "/")
	return outer == "" || inner == outer || strings.HasPrefix(inner, outer+"/")
}

// Address is a parsed region URL.
type Address struct {
	URL    string // as written, without the query
	Dir    string // of file:///path
	Bucket string // of s3://bucket/prefix
	Prefix string // without slashes at its ends; "" is the whole bucket
	S3     S3     // what the query says; no secrets
}

// ParseRegionURL reads file:///path and
// s3://bucket/prefix?endpoint=…&region=…&path_style=…&profile=…&ca_file=….
// Its error continues a sentence that begins with the URL's name.
func ParseRegionURL(text string) (Address, error) {
	where, query, err := parsePlace(text)
	if err != nil {
		return Address{}, err
	}
	plain, _, _ := strings.Cut(text, "?")
	if where.scheme == "file" {
		return Address{URL: plain, Dir: where.folder}, nil
	}
	return Address{
		URL: plain, Bucket: where.bucket, Prefix: where.folder,
		S3: S3{
			Region: query.Get("region"), Endpoint: query.Get("endpoint"), PathStyle: query.Get("path_style") == "true",
			Profile: query.Get("profile"), CAFile: query.Get("ca_file"),
		},
	}, nil
}
