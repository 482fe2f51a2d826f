package s3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	idleTimeout = time.Minute
	keepAlive   = 15 * time.Second // between probes of a silent connection
	bufferSize  = 64 << 10         // of a connection, in bytes, each way
	caFileMax   = 4 << 20          // bytes
)

func newTransport(o *Options) (*http.Transport, error) {
	connect := or(o.ConnectTimeout, ConnectTimeout)
	conns := or(o.Connections, Connections)
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pool, err := readCA(o.CAFile)
		if err != nil {
			return nil, err
		}
		trust.RootCAs = pool
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: connect, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout:   connect,
		ResponseHeaderTimeout: or(o.HeaderTimeout, HeaderTimeout),
		IdleConnTimeout:       idleTimeout,
		MaxConnsPerHost:       conns,
		MaxIdleConns:          conns,
		MaxIdleConnsPerHost:   conns,
		ReadBufferSize:        bufferSize,
		WriteBufferSize:       bufferSize,
		TLSClientConfig:       trust,
		DisableCompression:    true, // bytes are what they are
	}, nil
}

func readCA(path string) (*x509.CertPool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	if info.Size() > caFileMax {
		return nil, fmt.Errorf("ca_file %s: %d bytes are too many", path, info.Size())
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s: holds no PEM certificate", path)
	}
	return pool, nil
}

// guard takes no web page for an answer: captive portals and proxies say 200 to
// anything. Nothing that lifeboat stores or asks for is HTML.
type guard struct{ next http.RoundTripper }

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(r)
	if err != nil || resp.StatusCode/100 != 2 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return resp, err
	}
	_ = resp.Body.Close() // not wanted
	return nil, errPage
}

// credentialError says that there are no credentials to sign with.
type credentialError struct{ err error }

func (c *credentialError) Error() string { return "credentials: " + c.err.Error() }
func (c *credentialError) Unwrap() error { return c.err }

// provider gets credentials from one source, and takes none for an error rather
// than for an anonymous visitor.
type provider struct{ credentials.Provider }

func newProvider(o *Options) provider {
	switch {
	case o.AccessKeyID != nil:
		return provider{&refs{id: o.AccessKeyID, secret: o.SecretAccessKey, token: o.SessionToken}}
	case o.Profile != "":
		return provider{&credentials.FileAWSCredentials{Profile: o.Profile}}
	}
	return provider{&credentials.Chain{Providers: []credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: roleTimeout}},
	}}}
}

func (p provider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := p.Provider.RetrieveWithCredContext(cc)
	if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
		err = errors.New("none found (a profile, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an instance role)")
	}
	if err != nil {
		return credentials.Value{}, &credentialError{err}
	}
	return v, nil
}

func (p provider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// refs fetches credentials by the functions of the options.
type refs struct {
	id, secret, token func() (string, error)
}

func (r *refs) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	v := credentials.Value{SignerType: credentials.SignatureV4}
	var err error
	if v.AccessKeyID, err = r.id(); err != nil {
		return v, fmt.Errorf("access key: %w", err)
	}
	if v.SecretAccessKey, err = r.secret(); err != nil {
		return v, fmt.Errorf("secret key: %w", err)
	}
	if r.token != nil {
		if v.SessionToken, err = r.token(); err != nil {
			return v, fmt.Errorf("session token: %w", err)
		}
	}
	return v, nil
}

func (r *refs) Retrieve() (credentials.Value, error) { return r.RetrieveWithCredContext(nil) }

func (r *refs) IsExpired() bool { return false }
