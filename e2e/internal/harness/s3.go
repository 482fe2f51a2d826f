package harness

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What every S3 server here is set up with.
const (
	Bucket    = "lifeboat-test"
	S3Region  = "us-east-1"
	accessKey = "test-access-key"
	secretKey = "test-secret-key"
)

const (
	startTimeout = 30 * time.Second // until a server answers
	startTries   = 5                // a port may be taken between choosing and using it
	pollEvery    = 20 * time.Millisecond
)

// S3 is a running S3 server with one bucket. Its objects are plain files under
// Root/Bucket, which tests may damage.
type S3 struct {
	Endpoint string // http://127.0.0.1:port
	Root     string // the folder whose subfolders are its buckets

	t    testing.TB
	addr string
	stop func()
}

// StartS3 runs a server until the end of the test, or until Stop.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	dir := t.TempDir()
	s := &S3{t: t, Root: filepath.Join(dir, "root")}
	for _, d := range []string{s.Root, filepath.Join(dir, "sidecar")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.begin(func() (string, error) { return freePort() })
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server; its objects stay. It can be called again.
func (s *S3) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Again starts a stopped server at its old address.
func (s *S3) Again() {
	s.t.Helper()
	s.Stop()
	s.begin(func() (string, error) { return s.addr, nil })
}

// URL is a region's URL, as the program takes it. Its credentials are those of Env.
func (s *S3) URL(prefix string) string { return S3URL(s.Endpoint, prefix) }

// S3URL is the region's URL behind any endpoint, such as a proxy's.
func S3URL(endpoint, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s&path_style=true", Bucket, prefix, endpoint, S3Region)
}

// Env are the variables that a host needs to use URL.
func (s *S3) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey}
}

// Dir is the folder of the objects under a prefix.
func (s *S3) Dir(prefix string) string { return filepath.Join(s.Root, Bucket, prefix) }

func (s *S3) begin(address func() (string, error)) {
	s.t.Helper()
	name := serverName()
	binary, err := Tool(name)
	if err != nil {
		s.t.Fatalf("the S3 server for tests: %v", err)
	}
	for range startTries {
		var addr string
		if addr, err = address(); err != nil {
			continue
		}
		if err = s.beginAt(name, binary, addr); err == nil {
			return
		}
	}
	s.t.Fatalf("start the S3 server for tests: %v", err)
}

// serverName is the server that LIFEBOAT_S3_SERVER names.
func serverName() string {
	if name := os.Getenv("LIFEBOAT_S3_SERVER"); name != "" {
		return name
	}
	return "versitygw"
}

func (s *S3) command(name, binary, addr string) *exec.Cmd {
	dir := filepath.Dir(s.Root)
	if name == "minio" { // its objects are not plain files: what damages them here does not work with it
		cmd := exec.Command(binary, "server", "--quiet", "--address", addr, "--console-address", "127.0.0.1:0", "--config-dir", filepath.Join(dir, "config"), s.Root)
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+accessKey, "MINIO_ROOT_PASSWORD="+secretKey, "MINIO_REGION="+S3Region, "MINIO_UPDATE=off")
		return cmd
	}
	cmd := exec.Command(binary, "--keep-alive", "--quiet", "--port", addr, "posix", "--sidecar", filepath.Join(dir, "sidecar"), s.Root)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey, "VGW_REGION="+S3Region)
	return cmd
}

func (s *S3) beginAt(name, binary, addr string) error {
	var log buffer
	dir := filepath.Dir(s.Root)
	cmd := s.command(name, binary, addr)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &log, &log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a killed test leaves no server
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		<-ended
	})
	s.addr, s.Endpoint = addr, "http://"+addr
	if err := s.ready(ended); err != nil {
		stop()
		return fmt.Errorf("%w; it said: %s", err, log.String())
	}
	s.stop = stop
	return nil
}

// ready waits for the server and makes the bucket with our key, which proves
// that it is ours that answers.
func (s *S3) ready(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := s.makeBucket(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}

func (s *S3) makeBucket(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.Endpoint+"/"+Bucket, nil)
	if err != nil {
		return err
	}
	sign(req, time.Now())
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode == http.StatusOK || strings.Contains(string(body), "BucketAlreadyOwnedByYou") {
		return nil
	}
	return fmt.Errorf("make bucket: %s: %s", resp.Status, body)
}

// sign adds an AWS signature, version 4, to a request without query and body.
func sign(req *http.Request, now time.Time) {
	const algorithm = "AWS4-HMAC-SHA256"
	empty := sha256.Sum256(nil)
	at, bodySum := now.UTC().Format("20060102T150405Z"), hex.EncodeToString(empty[:])
	req.Header.Set("X-Amz-Date", at)
	req.Header.Set("X-Amz-Content-Sha256", bodySum)
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := strings.Join([]string{
		req.Method, req.URL.EscapedPath(), "", "host:" + req.URL.Host, "x-amz-content-sha256:" + bodySum, "x-amz-date:" + at, "", signed, bodySum,
	}, "\n")
	scope := at[:8] + "/" + S3Region + "/s3/aws4_request"
	sum := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{at[:8], S3Region, "s3", "aws4_request"} {
		key = mac(key, part)
	}
	signature := mac(key, algorithm+"\n"+at+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
	req.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%x", algorithm, accessKey, scope, signed, signature))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// freePort is a loopback address that nothing listens at.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
