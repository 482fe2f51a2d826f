package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/e2e/internal/harness"
)

// place is where a repository is.
type place string

const (
	local place = "local"
	s3    place = "s3"
)

// tool is one of the programs compared, as its users call it.
type tool interface {
	// create makes whatever files the program needs and gives the command that
	// makes the repository.
	create(t *trial) (command, error)
	backup(t *trial) command
	restore(t *trial, to string) command
	// restored is where under the target a restore puts the source's contents.
	restored(t *trial, to string) string
}

// subject is a program with its settings.
type subject struct {
	name   string
	about  string
	tool   tool
	places []place
	peer   bool // with its usual settings: lifeboat is measured against it
	holes  bool // it restores holes as holes
}

const reference = "lifeboat"

// subjects are all that take part.
func subjects(o *options) []*subject {
	both := []place{local, s3}
	all := []*subject{
		{name: reference, about: "one region, default settings", tool: lifeboat{binary: o.lifeboat, regions: 1}, places: both, holes: true},
		{name: "lifeboat, three regions", about: "the same, three complete copies", tool: lifeboat{binary: o.lifeboat, regions: 3}, places: both[:1], holes: true},
		{name: "lifeboat, verify off", about: "verify_writes: off, restore --verify none", tool: lifeboat{binary: o.lifeboat, regions: 1, unverified: true}, places: both[:1], holes: true},
		{name: "lifeboat, classic", about: "init --classic: X25519 keys", tool: lifeboat{binary: o.lifeboat, regions: 1, classic: true}, places: both[:1], holes: true},
	}
	if o.restic != "" {
		all = append(all, &subject{name: "restic", about: "default settings", tool: restic{o.restic}, places: both, peer: true})
	}
	if o.borg != "" {
		all = append(all,
			&subject{name: "borg", about: "repokey-blake2, default lz4", tool: borg{o.borg, ""}, places: both[:1], peer: true},
			&subject{name: "borg, zstd,3", about: "repokey-blake2, --compression zstd,3", tool: borg{o.borg, "zstd,3"}, places: both[:1]})
	}
	var some []*subject
	for _, s := range all {
		if chosen(o.subjects, s.name) {
			some = append(some, s)
		}
	}
	return some
}

// trial is one program with one data set in one place, and what it keeps there.
type trial struct {
	subject *subject
	set     *set
	place   place
	src     string // the data
	dir     string // the program's own: configuration, keys, cache, local repository
	stand   *stand
	prefix  string // in the bucket
	archive int    // backups so far
	repos   []string
}

// env is the environment of every program: nothing of the caller's but the path.
func (t *trial) env(vars ...string) []string {
	all := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.dir, "LANG=C.UTF-8", "TZ=UTC", "XDG_CACHE_HOME=" + t.dir + "/cache",
		"XDG_CONFIG_HOME=" + t.dir + "/config", "XDG_STATE_HOME=" + t.dir + "/state", "TMPDIR=" + t.stand.dir}
	if t.place == s3 {
		all = append(append(all, t.stand.s3.Env()...), "AWS_DEFAULT_REGION="+harness.S3Region)
	}
	return append(all, vars...)
}

// repository notes one folder in which the repository's bytes are.
func (t *trial) repository(dir string) string {
	t.repos = append(t.repos, dir)
	return dir
}

// lifeboat is the program of this repository.
type lifeboat struct {
	binary              string
	regions             int
	classic, unverified bool
}

func (l lifeboat) create(t *trial) (command, error) {
	var c strings.Builder
	c.WriteString("version: 1\nregions:\n  list:\n")
	for i := range l.regions {
		name := string(rune('a' + i))
		url := "file://" + filepath.Join(t.dir, "region-"+name)
		if t.place == s3 {
			prefix := t.prefix + "/" + name
			url = harness.S3URL(t.stand.proxy.Endpoint, prefix)
			t.repository(t.stand.s3.Dir(prefix))
		} else {
			t.repository(filepath.Join(t.dir, "region-"+name))
		}
		fmt.Fprintf(&c, "    - {name: %s, url: %q}\n", name, url)
	}
	if l.unverified {
		c.WriteString("verify_writes: \"off\"\n")
	}
	fmt.Fprintf(&c, "paths: {state: %q, cache: %q}\n", filepath.Join(t.dir, "state"), filepath.Join(t.dir, "cache"))
	fmt.Fprintf(&c, "workloads:\n  - name: files\n    kind: volume\n    volume: {paths: [%q]}\n", t.src)
	if err := os.WriteFile(filepath.Join(t.dir, "lifeboat.yaml"), []byte(c.String()), 0o600); err != nil {
		return command{}, err
	}
	args := []string{"init", "--yes", "--kit", filepath.Join(t.dir, "kit.txt")}
	if l.classic {
		args = append(args, "--classic")
	}
	return l.command(t, args...), nil
}

func (l lifeboat) command(t *trial, args ...string) command {
	args = append([]string{l.binary, "--config", filepath.Join(t.dir, "lifeboat.yaml")}, args...)
	return command{args: args, dir: t.dir, env: t.env()}
}

func (l lifeboat) backup(t *trial) command { return l.command(t, "backup", "files") }

func (l lifeboat) restore(t *trial, to string) command {
	args := []string{"restore", "files", "--to", to, "--identity-file", filepath.Join(t.dir, "kit.txt")}
	if l.unverified {
		args = append(args, "--verify", "none")
	}
	return l.command(t, args...)
}

func (l lifeboat) restored(_ *trial, to string) string { return to }

// restic is the first peer.
type restic struct{ binary string }

func (r restic) command(t *trial, args ...string) command {
	repo := filepath.Join(t.dir, "repo")
	if t.place == s3 {
		repo = fmt.Sprintf("s3:%s/%s/%s", t.stand.proxy.Endpoint, harness.Bucket, t.prefix)
	}
	return command{args: append([]string{r.binary, "-r", repo}, args...), dir: t.dir, env: t.env("RESTIC_PASSWORD=bench")}
}

func (r restic) create(t *trial) (command, error) {
	if t.place == s3 {
		t.repository(t.stand.s3.Dir(t.prefix))
	} else {
		t.repository(filepath.Join(t.dir, "repo"))
	}
	return r.command(t, "init"), nil
}

func (r restic) backup(t *trial) command { return r.command(t, "backup", t.src) }

func (r restic) restore(t *trial, to string) command {
	args := []string{"restore", "latest", "--target", to}
	if t.set.sparse && knows(r.binary, "--sparse", "restore", "--help") {
		args = append(args, "--sparse")
	}
	return r.command(t, args...)
}

func (r restic) restored(t *trial, to string) string { return filepath.Join(to, t.src) }

// borg is the second peer. It has no S3.
type borg struct{ binary, compression string }

func (b borg) command(t *trial, args ...string) command {
	// Exit code 1 is a warning, such as one about the file's time.
	return command{args: append([]string{b.binary}, args...), dir: t.dir,
		env: t.env("BORG_PASSPHRASE=bench", "BORG_BASE_DIR="+t.dir, "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes")}
}

func (b borg) repo(t *trial) string { return filepath.Join(t.dir, "repo") }

func (b borg) create(t *trial) (command, error) {
	return b.command(t, "init", "--encryption", "repokey-blake2", t.repository(b.repo(t))), nil
}

func (b borg) backup(t *trial) command {
	args := []string{"create"}
	if b.compression != "" {
		args = append(args, "--compression", b.compression)
	}
	return b.command(t, append(args, fmt.Sprintf("%s::%d", b.repo(t), t.archive), t.src)...)
}

func (b borg) restore(t *trial, to string) command {
	args := []string{"extract"}
	if t.set.sparse {
		args = append(args, "--sparse")
	}
	c := b.command(t, append(args, fmt.Sprintf("%s::%d", b.repo(t), t.archive))...)
	c.dir = to // it extracts into the working directory
	return c
}

func (b borg) restored(t *trial, to string) string { return filepath.Join(to, t.src) }
