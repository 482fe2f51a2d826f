package s3_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/s3"
	"lifeboat/storage/storetest"
)

// answering runs a server that gives one answer to everything.
func answering(t *testing.T, answer http.HandlerFunc) storage.Store {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return openAt(t, server.URL, nil)
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>as told</Message></Error>`, code)
}

// What servers say, and what it means.
func TestErrors(t *testing.T) {
	tests := []struct {
		status          int
		code            string
		want            error
		temporary, slow bool
	}{
		{503, "SlowDown", nil, true, true},
		{503, "ServiceUnavailable", nil, true, true},
		{429, "TooManyRequests", nil, true, true},
		{500, "InternalError", nil, true, false},
		{502, "BadGateway", nil, true, false},
		{504, "GatewayTimeout", nil, true, false},
		{400, "RequestTimeout", nil, true, false},
		{409, "OperationAborted", nil, true, false},
		{507, "InsufficientStorage", storage.ErrNoSpace, false, false},
		{400, "QuotaExceeded", storage.ErrNoSpace, false, false},
		{403, "AccessDenied", storage.ErrDenied, false, false},
		{403, "RequestTimeTooSkewed", storage.ErrDenied, false, false},
		{400, "ExpiredToken", storage.ErrDenied, false, false},
		{401, "Unauthorized", storage.ErrDenied, false, false},
		{404, "NoSuchBucket", storage.ErrNoBucket, false, false},
		{404, "SomethingElse", nil, false, false},
		{501, "NotImplemented", nil, false, false},
		{301, "PermanentRedirect", nil, false, false},
		{400, "InvalidArgument", nil, false, false},
	}
	for _, tt := range tests {
		s := answering(t, func(w http.ResponseWriter, _ *http.Request) { s3Error(w, tt.status, tt.code) })
		for verb, err := range everyCall(t.Context(), s) {
			if verb == "stat" {
				continue // no code comes with a HEAD
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%d %s, %s: %v, want %v", tt.status, tt.code, verb, err, tt.want)
			}
			if storage.IsTemporary(err) != tt.temporary || storage.IsSlowDown(err) != tt.slow {
				t.Errorf("%d %s, %s: temporary %v, slow %v: %v", tt.status, tt.code, verb,
					storage.IsTemporary(err), storage.IsSlowDown(err), err)
			}
			if !strings.Contains(fmt.Sprint(err), tt.code) {
				t.Errorf("%d %s, %s: the code is not in %v", tt.status, tt.code, verb, err)
			}
		}
	}
}

// A region under load is asked again, by fewer, and gets there.
func TestSlowDown(t *testing.T) {
	var calls, refused atomic.Int32
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if calls.Add(1)%3 != 0 {
			refused.Add(1)
			s3Error(w, 503, "SlowDown")
			return
		}
		w.Header().Set("ETag", `"x"`)
	})
	var slept atomic.Int32
	s = storage.WithRetry(storage.WithLimit(s, 8), storage.Backoff{
		Tries: 20, Budget: -1,
		Sleep: func(context.Context, time.Duration) error { slept.Add(1); return nil },
	})
	for i := range 20 {
		storetest.MustPut(t, s, fmt.Sprintf("k%d", i), []byte("x"))
	}
	if slept.Load() != refused.Load() || refused.Load() == 0 {
		t.Errorf("%d refusals, %d waits", refused.Load(), slept.Load())
	}
}

// Every third request fails: nothing is lost.
func TestEveryThirdFails(t *testing.T) {
	var calls atomic.Int32
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%3 == 0 {
			s3Error(w, 500, "InternalError")
			return
		}
		w.Header().Set("ETag", `"x"`)
	})
	s = storage.WithRetry(s, storage.Backoff{Sleep: func(context.Context, time.Duration) error { return nil }})
	for i := range 30 {
		storetest.MustPut(t, s, fmt.Sprintf("k%d", i), []byte("x"))
	}
}

// A 200 alone proves nothing.
func TestGarbage(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"empty 200": func(http.ResponseWriter, *http.Request) {},
		"web page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("ETag", `"x"`)
			w.Header().Set("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
			fmt.Fprint(w, "<html><body>Please log in</body></html>")
		},
		"other xml": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, "<hello/>")
		},
		"half xml": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, "<ListBucketResult><Name>lifeb")
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
		},
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, answer := range answers {
		s := answering(t, answer)
		for verb, err := range everyCall(t.Context(), s) {
			if verb == "delete" && strings.HasSuffix(name, "xml") || verb == "delete" && name == "empty 200" {
				continue // some servers answer a DELETE like that
			}
			if err == nil || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s, %s: %v", name, verb, err)
			}
		}
	}
}

// ListBucketResult pages that contradict themselves end the listing.
func TestLyingListings(t *testing.T) {
	page := func(truncated bool, token string, keys ...string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "<ListBucketResult><Name>b</Name><IsTruncated>%v</IsTruncated>", truncated)
		if token != "" {
			fmt.Fprintf(&b, "<NextContinuationToken>%s</NextContinuationToken>", token)
		}
		for _, k := range keys {
			fmt.Fprintf(&b, "<Contents><Key>%s</Key><LastModified>2026-11-22T10:00:00Z</LastModified><Size>1</Size></Contents>", k)
		}
		return b.String() + "</ListBucketResult>"
	}
	tests := map[string][]string{
		"truncated without a token": {page(true, "", "a")},
		"the same token again":      {page(true, "t", "a"), page(true, "t", "b")},
		"the same keys again":       {page(true, "t", "a", "b"), page(false, "", "b", "c")},
		"out of order":              {page(false, "", "b", "a")},
		"a key twice":               {page(false, "", "a", "a")},
	}
	for name, pages := range tests {
		var n atomic.Int32
		s := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, pages[min(int(n.Add(1)), len(pages))-1])
		})
		if _, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 100); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A server that takes no notice of a range must not pass for one that does.
func TestRangeIgnored(t *testing.T) {
	data := storetest.Pattern(1000)
	var contentRange string
	s := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
		if contentRange != "" {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(data)
	})
	for _, contentRange = range []string{"", "bytes 0-999/1000", "bytes 10-1009/1010", "bytes 5-9/1000", "bytes */1000", "x", "bytes 0-999/*"} {
		if _, _, err := storage.ReadRange(t.Context(), s, "k", 5, 995); err == nil {
			t.Errorf("content range %q was accepted", contentRange)
		}
	}
}

// What a PUT sends: one request, signed over the sum that was handed in.
func TestPutRequest(t *testing.T) {
	data := storetest.Pattern(20 << 20)
	sum := sha256.Sum256(data)
	var calls atomic.Int32
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		got, err := io.ReadAll(r.Body)
		if err != nil || sha256.Sum256(got) != sum {
			t.Errorf("body: %d bytes, %v", len(got), err)
		}
		for name, want := range map[string]string{
			"X-Amz-Content-Sha256":  hex.EncodeToString(sum[:]),
			"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(sum[:]),
			"Content-Length":        "20971520",
			"Content-Md5":           "",
		} {
			if name == "Content-Length" {
				if r.ContentLength != int64(len(data)) {
					t.Errorf("length %d", r.ContentLength)
				}
			} else if r.Header.Get(name) != want {
				t.Errorf("%s: %q, want %q", name, r.Header.Get(name), want)
			}
		}
		if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "x-amz-checksum-sha256") {
			t.Errorf("the checksum is not signed: %s", auth)
		}
		w.Header().Set("ETag", `"x"`)
	})
	if err := s.Put(t.Context(), "k", data, sum); err != nil || calls.Load() != 1 {
		t.Errorf("%d requests, %v", calls.Load(), err)
	}
}

// A server that says it stored another sum did not store the object.
func TestOtherSumStored(t *testing.T) {
	s := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	})
	if err := s.Put(t.Context(), "k", []byte("x"), sha256.Sum256([]byte("x"))); err == nil {
		t.Error("accepted")
	}
}

// Bytes that were damaged on the way are sent again; wrong ones are not.
func TestDamagedOnTheWay(t *testing.T) {
	s := answering(t, func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 400, "BadDigest") })
	err := s.Put(t.Context(), "k", []byte("x"), sha256.Sum256([]byte("x")))
	if !storage.IsTemporary(err) {
		t.Errorf("good bytes: %v", err)
	}
	err = s.Put(t.Context(), "k", []byte("x"), sha256.Sum256([]byte("y")))
	if !errors.Is(err, storage.ErrCorrupt) || storage.IsTemporary(err) {
		t.Errorf("bad bytes: %v", err)
	}
}

// A long listing ends when its context does.
func TestListIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := storage.ListAll(ctx, s, storage.ListOptions{}, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}

// Only certificates that are trusted, or named by ca_file, are talked to.
func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
	}))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	put := func(change func(*s3.Options)) error {
		return openAt(t, server.URL, change).Put(t.Context(), "k", []byte("x"), sha256.Sum256([]byte("x")))
	}
	if err := put(nil); !errors.Is(err, storage.ErrUnreachable) || storage.IsTemporary(err) {
		t.Errorf("an unknown authority: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, server.Certificate())
	if err := put(func(o *s3.Options) { o.CAFile = file }); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	for _, bad := range []string{filepath.Join(t.TempDir(), "none"), os.DevNull} {
		if _, err := s3.Open(s3.Options{Bucket: "bucket", CAFile: bad}); err == nil {
			t.Errorf("ca_file %s was accepted", bad)
		}
	}
}

func writePEM(t *testing.T, file string, cert *x509.Certificate) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
