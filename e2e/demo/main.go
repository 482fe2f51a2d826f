// Command demo shows lifeboat at work on this machine, in a folder of its own:
// it protects a copy of the Go toolchain's source in three directory regions,
// changes it, destroys a region, restores from what is left, compares, and runs
// a drill. It needs no root and can be run again; it touches nothing but its folder.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"lifeboat/e2e/tree"
)

func main() {
	binary := flag.String("binary", "bin/lifeboat", "the built program")
	dir := flag.String("dir", "demo", "the demo's folder; it is made, and emptied first")
	from := flag.String("from", "", "the tree to protect; default: the source of the Go toolchain")
	clean := flag.Bool("clean", false, "only remove the demo's folder")
	flag.Parse()
	if err := run(*binary, *dir, *from, *clean); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(binary, dir, from string, clean bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := empty(dir); err != nil || clean {
		return err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if from == "" {
		goroot, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w", err)
		}
		from = filepath.Join(strings.TrimSpace(string(goroot)), "src")
	}
	d := &demo{binary: binary, dir: dir, from: from, begun: time.Now()}
	return d.run()
}

// marker is in a folder that the demo made, and may therefore delete.
const marker = ".made-by-lifeboat-demo"

// empty removes what an earlier run left. A folder of somebody else's is left alone.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, marker)); err != nil {
		return fmt.Errorf("%s has contents that are not the demo's: move them, or name another folder with -dir", dir)
	}
	return tree.Remove(dir)
}

type demo struct {
	binary, dir, from string
	begun             time.Time
	step              int
	want              *tree.Picture // the source as it was at the last backup
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

func (d *demo) run() error {
	for _, s := range []struct {
		title string
		do    func() error
	}{
		{"A tree worth keeping, and three regions", d.prepare},
		{"Make the repository: keys, recovery kit, three regions", func() error {
			return d.lifeboat("init", "--yes", "--kit", d.path("kit.txt"))
		}},
		{"First backup", d.backup},
		{"Work goes on: files are added, edited, renamed, deleted", d.change},
		{"Second backup: only what changed", d.backup},
		{"Disaster: region oslo and the source are gone", d.destroy},
		{"Restore from the two other regions, with the recovery kit alone", d.restore},
		{"Compare every byte and attribute with what was there", d.compare},
		{"Drill: prove a recovery and measure it", func() error {
			return d.lifeboat("drill", "run", "--workload", "source", "--identity-file", d.path("kit.txt"), "--sandbox", d.path("sandbox"))
		}},
		{"Where do we stand?", func() error { return d.lifeboat("status") }},
	} {
		d.step++
		fmt.Printf("\n━━ %d. %s\n", d.step, s.title)
		if err := s.do(); err != nil {
			return fmt.Errorf("step %d, %s: %w", d.step, s.title, err)
		}
	}
	d.next()
	return nil
}

// prepare copies the tree, since it will be changed, and writes the configuration.
func (d *demo) prepare() error {
	for _, name := range []string{"regions/oslo", "regions/porto", "regions/turin", "sandbox", "state", "cache"} {
		if err := os.MkdirAll(d.path(name), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.path(marker), nil, 0o600); err != nil {
		return err
	}
	files, bytes, err := copyTree(d.from, d.path("source"))
	if err != nil {
		return err
	}
	if _, err := tree.Make(d.path("source/odd"), tree.Options{Seed: 1, Files: 20, Wide: 100, Deep: 40, Large: 1 << 20}); err != nil {
		return err
	}
	fmt.Printf("%s: %d files, %d MiB, of %s, and some odd ones (holes, hard links, access lists, hostile names)\n",
		d.short("source"), files, bytes>>20, d.from)
	if err := os.WriteFile(d.path("lifeboat.yaml"), []byte(d.config()), 0o600); err != nil {
		return err
	}
	fmt.Printf("%s: the configuration\n", d.short("lifeboat.yaml"))
	return nil
}

func (d *demo) config() string {
	return fmt.Sprintf(`version: 1
regions:
  required: 2
  list:
    - {name: oslo, url: %q}
    - {name: porto, url: %q}
    - {name: turin, url: %q}
workloads:
  - name: source
    kind: volume
    objectives: {rpo: 1h, rto: 10m}
    volume: {paths: [%q]}
paths: {state: %q, cache: %q}
`, d.url("oslo"), d.url("porto"), d.url("turin"), d.path("source"), d.path("state"), d.path("cache"))
}

func (d *demo) url(region string) string { return "file://" + d.path("regions", region) }

// lifeboat runs the program, as a user would in a terminal.
func (d *demo) lifeboat(args ...string) error {
	return d.command(append([]string{"--config", d.path("lifeboat.yaml")}, args...)...)
}

func (d *demo) command(args ...string) error {
	shown := strings.ReplaceAll(strings.Join(args, " "), d.dir, "./"+filepath.Base(d.dir))
	fmt.Printf("$ lifeboat %s\n", shown)
	cmd := exec.Command(d.binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, filepath.Dir(d.dir)
	cmd.Env = append(os.Environ(), "LIFEBOAT_PROGRESS=none")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("lifeboat %s: %w", shown, err)
	}
	return nil
}

// backup takes a snapshot, and remembers what it must be able to bring back.
func (d *demo) backup() error {
	want, err := tree.Take(d.path("source"))
	if err != nil {
		return err
	}
	d.want = want
	return d.lifeboat("backup", "source")
}

func (d *demo) change() error {
	done, err := tree.Mutate(d.path("source"), tree.Mutation{Seed: 42, Each: 5})
	if err != nil {
		return err
	}
	fmt.Printf("%d changes, such as:\n", len(done))
	for _, c := range done[:5] {
		fmt.Printf("  %-9s %q\n", c.Kind, c.Path)
	}
	return nil
}

func (d *demo) destroy() error {
	for _, name := range []string{"regions/oslo", "source"} {
		fmt.Printf("$ rm -rf %s\n", d.short(name))
		if err := tree.Remove(d.path(name)); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) restore() error {
	return d.command("restore", "source", "--to", d.path("restored"), "--repo", d.url("porto"), "--repo", d.url("turin"),
		"--identity-file", d.path("kit.txt"), "--state-dir", d.path("elsewhere/state"), "--cache-dir", d.path("elsewhere/cache"))
}

// compare uses a comparer that shares no code with lifeboat.
func (d *demo) compare() error {
	got, err := tree.Take(d.path("restored"))
	if err != nil {
		return err
	}
	different := tree.Compare(d.want, got, tree.Ignore{Sockets: true})
	const most = 10
	for i, diff := range different {
		if i == most {
			break
		}
		fmt.Println("  differs:", diff)
	}
	if len(different) > 0 {
		return fmt.Errorf("%d differences", len(different))
	}
	n := got.Count()
	fmt.Printf("no difference: %d files, %d directories, %d symbolic links, %d others\n", n["file"], n["directory"], n["symlink"],
		len(got.Objects)-n["file"]-n["directory"]-n["symlink"])
	return nil
}

// next says what to try now.
func (d *demo) next() {
	c := "bin/lifeboat --config " + d.short("lifeboat.yaml")
	fmt.Printf(`
━━ Done in %s. All is in %s; try:

  %s snapshots
  %s ls source@latest
  %s restore source --to /tmp/again --identity-file %s
  mkdir %s && %s replicate status
  bin/lifeboat help
`, time.Since(d.begun).Round(time.Second), "./"+filepath.Base(d.dir), c, c, c, d.short("kit.txt"), d.short("regions/oslo"), c)
}

// short is a path as seen from the folder above.
func (d *demo) short(name string) string { return "./" + filepath.Join(filepath.Base(d.dir), name) }

// copyTree copies files, directories and links with their times; what it makes can be changed.
func copyTree(from, to string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(at, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, at)
		case !e.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files, bytes = files+1, bytes+int64(len(data))
		if err := os.WriteFile(at, data, st.Mode().Perm()|0o600); err != nil {
			return err
		}
		return os.Chtimes(at, st.ModTime(), st.ModTime())
	})
	return files, bytes, err
}
