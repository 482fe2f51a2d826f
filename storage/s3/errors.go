package s3

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"

	"lifeboat/storage"
)

var (
	errGarbage = errors.New("the answer is not that of an S3 server")
	errStalled = errors.New("the upload does not get on")
	errPage    = errors.New("a web page came back: is there a proxy or a login in the way?")
)

// do runs one request and says what its error means. If access was denied, it
// fetches the credentials anew: when they have changed, the request runs again.
func (s *Store) do(ctx context.Context, request func() error) error {
	err := explain(ctx, request())
	if errors.Is(err, storage.ErrDenied) && s.renewed() {
		err = explain(ctx, request())
	}
	if err == nil {
		s.seen.Store(true)
	}
	return err
}

// renewed fetches the credentials again and says whether they are others.
func (s *Store) renewed() bool {
	before, err := s.creds.GetWithContext(nil)
	if err != nil {
		return false
	}
	s.creds.Expire()
	after, err := s.creds.GetWithContext(nil)
	return err == nil && before != after
}

func response(err error) minio.ErrorResponse {
	var r minio.ErrorResponse
	errors.As(err, &r)
	return r
}

func isNotFound(err error) bool { return errors.Is(err, storage.ErrNotFound) }

// explain adds the sentinel or the mark that an error means.
func explain(ctx context.Context, err error) error {
	var creds *credentialError
	var r minio.ErrorResponse
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case errors.As(err, &creds):
		return fmt.Errorf("%w: %w", storage.ErrDenied, err)
	case errors.Is(err, errGarbage), errors.Is(err, errPage):
		return storage.Temporary(err)
	case errors.As(err, &r):
		return explainResponse(r)
	case isUntrusted(err):
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, bare(err))
	case storage.IsTemporary(err), errors.Is(err, storage.ErrNoBucket):
		return err
	}
	// Everything else happened on the way: no connection, or one that broke.
	return storage.Temporary(fmt.Errorf("%w: %w", storage.ErrUnreachable, bare(err)))
}

// explainResponse classifies what the server said, by code where it is one of
// S3's, and by status otherwise.
func explainResponse(r minio.ErrorResponse) error {
	err := fmt.Errorf("%d %s: %s", r.StatusCode, r.Code, r.Error())
	switch r.Code {
	case "NoSuchKey", "NoSuchVersion", "NotFound":
		return fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	case "NoSuchBucket", "InvalidBucketName":
		return fmt.Errorf("%w: bucket %q: %w", storage.ErrNoBucket, r.BucketName, err)
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull", "InsufficientStorage", "NoSpaceLeft":
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	case "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed", "InvalidRegion",
		"XAdminUserNotFound": // versitygw's word for an unknown access key, with status 404
		return fmt.Errorf("%w: %w", storage.ErrDenied, err)
	case "RequestTimeTooSkewed":
		return fmt.Errorf("%w: the clocks of this host and of the region differ: %w", storage.ErrDenied, err)
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests":
		return storage.SlowDown(err)
	case "RequestTimeout", "InternalError", "OperationAborted":
		return storage.Temporary(err)
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return &digestError{err}
	}
	return explainStatus(r.StatusCode, err)
}

// explainStatus classifies by status alone. A 404 with a code that S3 does not
// have is not a missing object: absence is concluded only from a plain answer.
func explainStatus(status int, err error) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", storage.ErrDenied, err)
	case http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return storage.SlowDown(err)
	case http.StatusRequestTimeout, http.StatusConflict, 499, 520:
		return storage.Temporary(err)
	}
	if status >= 300 && status < 400 {
		return fmt.Errorf("redirect refused (is the region or the endpoint right?): %w", err)
	}
	if status >= 500 && status != http.StatusNotImplemented {
		return storage.Temporary(err)
	}
	return err
}

// digestError says that the server received bytes that do not hash to the sum.
type digestError struct{ err error }

func (d *digestError) Error() string { return d.err.Error() }
func (d *digestError) Unwrap() error { return d.err }

// whose finds out which side a wrong digest is on: if the bytes hash to the sum
// here, they were damaged on the way, and may be sent again.
func whose(err error, data []byte, sum [32]byte) error {
	var d *digestError
	if !errors.As(err, &d) {
		return err
	}
	if sha256.Sum256(data) == sum {
		return storage.Temporary(fmt.Errorf("damaged on the way: %w", err))
	}
	return fmt.Errorf("%w: the bytes to send do not hash to their name: %w", storage.ErrCorrupt, err)
}

// isUntrusted is true when the other side is not who it should be; asking again
// does not help.
func isUntrusted(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
	)
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.As(err, &record) || errors.As(err, &verify)
}

// bare takes the URL off an error: keys are named already.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
