package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// What a region that does not answer may cost. Connecting has 5 s and the first
// byte of an answer 30 s; one that has failed is not asked again in the same run.
const (
	deadMost = 60 * time.Second
	slowMost = 150 * time.Second // 20 s while opening, 60 s for the steps, and what the packs take
	giveUp   = 20 * time.Second  // after these, so that a failure does not cost an hour
)

// TestBlackHole: an endpoint that takes connections and never answers costs
// seconds, before a run and in the middle of it, of a backup and of a restore.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	for _, after := range []int64{0, 6} {
		t.Run(fmt.Sprintf("after %d requests", after), func(t *testing.T) {
			t.Parallel()
			s3 := harness.StartS3(t)
			proxy := harness.StartProxy(t, s3.Endpoint)
			s := newSite(t, "a", "b", harness.S3URL(proxy.Endpoint, "c"))
			s.Setenv(s3.Env()...)
			smallTorture(t, s.source(), 85)
			s.init(t)
			s.backup(t, 0)
			putFile(t, s.source("more"), noiseOf(1, 1<<20))
			want := pictureOf(t, s.source())

			s.Timeout = deadMost + giveUp
			var seen atomic.Int64
			proxy.Fault(func(harness.Request) harness.Fault {
				if seen.Add(1) > after {
					return harness.BlackHole
				}
				return harness.Pass
			})
			r := s.Run("backup", "files", "--json")
			t.Logf("the backup took %v and asked %d times", r.Took.Round(time.Millisecond), seen.Load())
			if r.Code != 0 || r.Took > deadMost {
				t.Errorf("a backup beside a black hole: exit %d after %v", r.Code, r.Took)
			} else {
				var b backupResult
				if dataOf(t, r, &b); b.state("s2") == "committed" {
					t.Errorf("the black hole counts: %+v", b.Regions)
				}
			}
			if after > 0 {
				return
			}
			// A restore and status, side by side.
			to := s.Path("restored")
			t.Cleanup(func() { _ = tree.Remove(to) })
			restore, status := s.Start("restore", "files", "--to", to, "--identity-file", s.Kit), s.Start("status", "--check")
			if r := restore.Wait(); r.Code != 0 || r.Took > deadMost {
				t.Errorf("a restore beside a black hole took %v: %v", r.Took, r)
			} else {
				mustMatch(t, want, to, restorable())
			}
			if r := status.Wait(); r.Code != 6 || r.Took > deadMost {
				t.Errorf("status beside a black hole took %v: %v", r.Took, r)
			}
			proxy.Fault(nil)
			s.run(t, 0, "replicate", "sync")
			s.currentEverywhere(t)
			s.aloneHas(t, s.Regions[2], want)
		})
	}
}

// TestDeadPort: nothing listens where a region should be.
func TestDeadPort(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	s := newSite(t, "a", "b", s3.URL("c"))
	s.Setenv(s3.Env()...)
	putFile(t, s.source("file"), []byte("one"))
	s.init(t)
	s3.Stop()
	begun := time.Now()
	b := s.backup(t, 0)
	if took := time.Since(begun); took > 30*time.Second || b.state("s2") == "committed" {
		t.Errorf("a dead port: %v, %+v", took, b.Regions)
	}
	s3.Again()
	s.run(t, 0, "replicate", "sync")
	s.currentEverywhere(t)
}

// TestSlowRegion: a region that answers, but far too late, is left out when the
// others have waited for it as long as the policy says.
func TestSlowRegion(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for more than a minute")
	}
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", "b", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	putFile(t, s.source("file"), noiseOf(1, 1<<20))
	s.init(t)
	s.backup(t, 0)
	for i := range 4 {
		putFile(t, s.source(fmt.Sprint("more-", i)), noiseOf(byte(i), 40<<20))
	}
	s.Timeout = slowMost + giveUp
	proxy.Latency(10 * time.Second)
	begun := time.Now()
	b := s.backup(t, 0)
	took := time.Since(begun)
	t.Logf("backup took %v: %+v", took.Round(time.Millisecond), b.Regions)
	if took > slowMost || b.state("a") != "committed" || b.state("b") != "committed" {
		t.Errorf("a slow region: %v, %+v", took, b.Regions)
	}
	proxy.Latency(0)
	s.run(t, 0, "replicate", "sync")
	s.currentEverywhere(t)
	s.aloneHas(t, s.Regions[2], pictureOf(t, s.source()))
}

// TestBadNetwork: requests fail, are cut and lose their answers, now and then.
// Backup and restore get through all the same, with nothing missing.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	smallTorture(t, s.source(), 86)
	s.init(t)
	s.backup(t, 0)
	for i, f := range []struct {
		name  string
		every int
		fault harness.Fault
	}{
		{"503", 4, harness.SlowDown}, {"reset", 5, harness.Reset}, {"lost answers", 4, harness.Lost}, {"cut answers", 5, harness.Cut}, {"garbage", 7, harness.Garbage},
	} {
		proxy.Fault(harness.Every(f.every, f.fault))
		for round := range 2 {
			putFile(t, s.source("changing", fmt.Sprint(i, round)), noiseOf(byte(i), 300_000))
			b := s.backup(t, 0)
			if b.state("s1") != "committed" {
				t.Errorf("%s: %+v", f.name, b.Regions)
			}
		}
		s.aloneHas(t, s.Regions[1], pictureOf(t, s.source()))
	}
	proxy.Fault(nil)
	s.run(t, 0, "replicate", "sync")
	s.currentEverywhere(t)
	s.run(t, 0, "check", "--read-data=all", "--identity-file", s.Kit)
}
