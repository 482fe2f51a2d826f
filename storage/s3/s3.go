// Package s3 is a region in an S3 bucket. Every object is one PUT, signed over
// its SHA-256 and with the same sum as checksum, so that the server compares
// both with what it received; there are no multipart uploads, and no redirect
// is followed.
//
// It does not repeat requests: wrap it with storage.WithRetry. It trusts no
// answer that lacks what a real one has, and it does not compare contents with
// hashes when reading; readers do.
package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"lifeboat/storage"
)

// Store is a region in a bucket. Use Open to make one.
type Store struct {
	bucket, prefix string
	name           string
	core           *minio.Core
	creds          *credentials.Credentials
	transport      *http.Transport
	newCore        func(http.RoundTripper) (*minio.Core, error)
	stall          time.Duration // without progress of an upload
	answer         time.Duration // from the end of an upload to its answer
	seen           atomic.Bool   // the bucket is known to exist
}

var _ storage.Store = (*Store)(nil)

// Open makes a client. It asks the server nothing: a bucket that does not exist
// shows at the first call, as ErrNoBucket.
func Open(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	host, secure, err := o.server()
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(&o)
	if err != nil {
		return nil, fmt.Errorf("s3 region %s: %w", o.Bucket, err)
	}
	creds := credentials.New(newProvider(&o))
	lookup := minio.BucketLookupAuto // by host name where the service is known to want it
	if o.PathStyle {
		lookup = minio.BucketLookupPath
	}
	s := &Store{
		bucket: o.Bucket, prefix: o.folder(),
		name:      "s3://" + o.Bucket + "/" + o.folder(),
		creds:     creds,
		transport: transport,
		stall:     or(o.NoProgress, NoProgress),
		answer:    or(o.HeaderTimeout, HeaderTimeout),
		newCore: func(rt http.RoundTripper) (*minio.Core, error) {
			return minio.NewCore(host, &minio.Options{
				Creds: creds, Secure: secure, Region: o.region(), BucketLookup: lookup, MaxRetries: 1,
				Transport: guard{rt},
			})
		},
	}
	if s.core, err = s.newCore(transport); err != nil {
		return nil, fmt.Errorf("s3 region %s: %w", o.Bucket, err)
	}
	return s, nil
}

// String names the region in messages.
func (s *Store) String() string { return s.name }

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	err := ready(ctx, key)
	if err == nil {
		err = s.do(ctx, func() error { return s.put(ctx, key, data, sum) })
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, whose(err, data, sum))
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := &upload{Reader: bytes.NewReader(data), stall: s.stall, answer: s.answer}
	body.timer = time.AfterFunc(s.stall+s.answer, func() { cancel(errStalled) })
	defer body.timer.Stop()

	checksum := base64.StdEncoding.EncodeToString(sum[:])
	info, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, body, int64(len(data)), "", hex.EncodeToString(sum[:]),
		minio.PutObjectOptions{
			DisableContentSha256: true, // sign the sum that was handed in, rather than reading data once more
			UserMetadata:         map[string]string{"x-amz-checksum-sha256": checksum},
		})
	switch {
	case err != nil:
		if context.Cause(ctx) == errStalled {
			return storage.Temporary(fmt.Errorf("%w: %w", storage.ErrUnreachable, errStalled))
		}
		return err
	case info.ETag == "":
		return errGarbage
	case info.ChecksumSHA256 != "" && info.ChecksumSHA256 != checksum:
		return fmt.Errorf("%w: the server stored other bytes", errGarbage)
	}
	return nil
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (body io.ReadCloser, info storage.Info, err error) {
	err = ready(ctx, key)
	if err == nil && offset < 0 && length >= 0 {
		err = fmt.Errorf("range of %d bytes at offset %d", length, offset)
	}
	if err == nil {
		err = s.do(ctx, func() error {
			body, info, err = s.get(ctx, key, offset, length)
			return err
		})
	}
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	return body, info, nil
}

func (s *Store) get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	if length == 0 {
		return s.nothing(ctx, key)
	}
	var opt minio.GetObjectOptions
	span := rangeHeader(offset, length)
	if span != "" {
		opt.Set("Range", span)
	}
	body, obj, header, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, opt)
	if err != nil && response(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return s.nothing(ctx, key) // past the end
	}
	if err != nil {
		return nil, storage.Info{}, err
	}
	info := storage.Info{Key: key, Size: obj.Size, ModTime: obj.LastModified}
	want := obj.Size
	if span != "" && !whole(header, obj.Size, offset, length) {
		info.Size, want, err = checkRange(header.Get("Content-Range"), offset, length)
	}
	if err == nil && (obj.ETag == "" || obj.Size != want || obj.Size < 0) {
		err = errGarbage
	}
	if err != nil {
		_ = body.Close() // its answer is not used
		return nil, storage.Info{}, err
	}
	return &download{ReadCloser: body, ctx: ctx, key: key}, info, nil
}

// nothing is a Get of no bytes: what it needs is the description.
func (s *Store) nothing(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	info, err := s.stat(ctx, key)
	if err != nil {
		return nil, info, err
	}
	return http.NoBody, info, nil
}

func rangeHeader(offset, length int64) string {
	switch {
	case offset < 0:
		return "bytes=" + strconv.FormatInt(offset, 10)
	case length >= 0:
		return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	case offset > 0:
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return ""
}

// whole is true when a server left the range out of account and may: the whole
// object is what was asked for.
func whole(header http.Header, size, offset, length int64) bool {
	_, n, err := storage.Span(size, offset, length)
	return header.Get("Content-Range") == "" && err == nil && n == size
}

// checkRange reads a Content-Range and compares it with what was asked for. It
// gives the size of the object and of the range.
func checkRange(text string, offset, length int64) (size, n int64, err error) {
	var first, last int64
	text, ok := strings.CutPrefix(text, "bytes ")
	if !ok {
		return 0, 0, fmt.Errorf("%w: the range was ignored", errGarbage)
	}
	if c, err := fmt.Sscanf(text, "%d-%d/%d", &first, &last, &size); c != 3 || err != nil {
		return 0, 0, fmt.Errorf("%w: content range %.60q", errGarbage, text)
	}
	start, n, err := storage.Span(size, offset, length)
	if err != nil || first != start || last != start+n-1 {
		return 0, 0, fmt.Errorf("%w: it sent bytes %.60q of another range", errGarbage, text)
	}
	return size, n, nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	if err = ready(ctx, key); err == nil {
		err = s.do(ctx, func() error {
			info, err = s.stat(ctx, key)
			return err
		})
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return info, nil
}

func (s *Store) stat(ctx context.Context, key string) (storage.Info, error) {
	obj, err := s.core.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return storage.Info{}, s.missing(ctx, err)
	}
	if obj.ETag == "" || obj.Size < 0 {
		return storage.Info{}, errGarbage
	}
	return storage.Info{Key: key, Size: obj.Size, ModTime: obj.LastModified}, nil
}

// missing finds out what a 404 without a body means: no object, no bucket, or,
// with some servers, no such user.
func (s *Store) missing(ctx context.Context, err error) error {
	if response(err).StatusCode != http.StatusNotFound || s.seen.Load() {
		return err
	}
	core, cerr := s.newCore(bound{ctx, s.transport})
	if cerr != nil {
		return cerr
	}
	_, lerr := core.ListObjectsV2(s.bucket, s.prefix, "", "", "", 1)
	if response(lerr).StatusCode == http.StatusNotFound {
		return lerr
	}
	s.seen.Store(lerr == nil)
	return err
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := ready(ctx, key)
	if err == nil {
		err = s.do(ctx, func() error {
			return s.core.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
		})
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func ready(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storage.CheckKey(key)
}

// upload is the body of a PUT. Each piece that the connection takes puts the
// watchdog off; after the last one the answer has its own time.
type upload struct {
	*bytes.Reader
	timer         *time.Timer
	stall, answer time.Duration
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if u.Reader.Len() == 0 {
		u.timer.Reset(u.stall + u.answer)
	} else {
		u.timer.Reset(u.stall)
	}
	return n, err
}

// WriteTo is hidden: it would pass Read, and so the watchdog, by.
func (u *upload) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{u})
}

// download is the body of a GET, with errors that say what they mean.
type download struct {
	io.ReadCloser
	ctx context.Context
	key string
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("get %s: %w", d.key, explain(d.ctx, err))
	}
	return n, err
}
