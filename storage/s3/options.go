package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lifeboat/storage"
)

// Limits of one client, unless its options say otherwise.
const (
	ConnectTimeout = 5 * time.Second  // until a connection stands, TLS included
	HeaderTimeout  = 30 * time.Second // from the end of a request to its answer's headers
	NoProgress     = 30 * time.Second // without a byte of an upload taken
	Connections    = 64               // open at once

	roleTimeout   = 2 * time.Second // for the metadata service of a cloud instance
	prefixMax     = 256             // bytes
	defaultRegion = "us-east-1"     // what servers other than AWS expect
)

// Options say where a region is and who asks.
type Options struct {
	// Endpoint is the server's URL, without a path; a host alone means https.
	// Empty means AWS in Region.
	Endpoint  string
	Region    string // empty: from the endpoint, else us-east-1
	Bucket    string
	Prefix    string // of all keys; a slash is added at the end where it is missing
	PathStyle bool   // bucket in the path, not in the host name
	CAFile    string // PEM certificates to trust instead of the system's

	// Profile names a section of the AWS credentials file. Without it and
	// without the functions below, credentials come from the environment, the
	// file's default profile, or the instance's role, in this order.
	Profile string
	// AccessKeyID and SecretAccessKey fetch the secrets from where they are
	// kept; they are called again when the region denies access. SessionToken
	// may be nil.
	AccessKeyID, SecretAccessKey, SessionToken func() (string, error)

	// Limits; 0 means the constants above.
	ConnectTimeout, HeaderTimeout, NoProgress time.Duration
	Connections                               int
}

// ParseURL reads s3://bucket/prefix with the optional parameters endpoint,
// region, path_style, profile and ca_file. Anything else is an error: a
// parameter that is misspelt must not be passed over.
func ParseURL(text string) (Options, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Options{}, fmt.Errorf("region url: %w", errors.Unwrap(err)) // without the text: it may hold secrets
	}
	if u.Scheme != "s3" || u.Opaque != "" || u.Fragment != "" {
		return Options{}, errors.New("region url: not of the form s3://bucket/prefix")
	}
	if u.User != nil {
		return Options{}, errors.New("region url: credentials do not belong into it: use a profile or the environment")
	}
	if u.Port() != "" {
		return Options{}, fmt.Errorf("region url: %s is a bucket with a port: name the server with ?endpoint=", u.Host)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, fmt.Errorf("region url: %w", err)
	}
	o := Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	for name, values := range query {
		if len(values) != 1 {
			return Options{}, fmt.Errorf("region url: parameter %s is given %d times", name, len(values))
		}
		if err := o.set(name, values[0]); err != nil {
			return Options{}, err
		}
	}
	return o, o.check()
}

func (o *Options) set(name, value string) (err error) {
	switch name {
	case "endpoint":
		o.Endpoint = value
	case "region":
		o.Region = value
	case "profile":
		o.Profile = value
	case "ca_file":
		o.CAFile = value
	case "path_style":
		if o.PathStyle, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("region url: path_style is %q, not true or false", value)
		}
	default:
		return fmt.Errorf("region url: unknown parameter %q (endpoint, region, path_style, profile, ca_file)", name)
	}
	return nil
}

// check refuses options that cannot work.
func (o *Options) check() error {
	if o.Bucket == "" {
		return errors.New("s3 region: no bucket is named")
	}
	if strings.ContainsAny(o.Bucket, "/ ?#") || len(o.Bucket) > 63 {
		return fmt.Errorf("s3 region: %q is no name of a bucket", o.Bucket)
	}
	if p := o.folder(); p != "" {
		if err := storage.CheckPrefix(p); err != nil || len(p) > prefixMax {
			return fmt.Errorf("s3 region: %q cannot be a prefix of keys", o.Prefix)
		}
	}
	if (o.AccessKeyID == nil) != (o.SecretAccessKey == nil) {
		return errors.New("s3 region: access key and secret key come together or not at all")
	}
	_, _, err := o.server()
	return err
}

// folder is the prefix with its slash; empty if there is none.
func (o *Options) folder() string {
	p := strings.Trim(o.Prefix, "/")
	if p == "" {
		return ""
	}
	return p + "/"
}

// server gives host and port, and whether to use TLS. Plain http is used only
// where the endpoint says so in so many letters.
func (o *Options) server() (host string, secure bool, err error) {
	if o.Endpoint == "" {
		if o.Region == "" || o.Region == defaultRegion {
			return "s3.amazonaws.com", true, nil
		}
		return "s3." + o.Region + ".amazonaws.com", true, nil
	}
	text := o.Endpoint
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, fmt.Errorf("s3 region: endpoint %q is not of the form https://host:port", o.Endpoint)
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return "", false, fmt.Errorf("s3 region: endpoint %q is neither https nor http", o.Endpoint)
	}
	return u.Host, u.Scheme == "https", nil
}

// region is what requests are signed for. Empty means that AWS is asked.
func (o *Options) region() string {
	if o.Region == "" && o.Endpoint != "" {
		return defaultRegion
	}
	return o.Region
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
