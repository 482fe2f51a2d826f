package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func (m *maker) dirs() error {
	for _, n := range []string{"empty", "nested", "nested/empty", "nested/empty/too"} {
		if err := m.mkdir(n); err != nil {
			return err
		}
	}
	if err := m.mkdirAs("read-only", m.plain(0o555)); err != nil {
		return err
	}
	if err := m.mkdirAs("read-only/within", m.plain(0o500)); err != nil {
		return err
	}
	if err := m.fileAs("read-only/within/file", []byte("under two read-only directories"), m.plain(0o400)); err != nil {
		return err
	}
	// A program that honours cache tags leaves the first out, and keeps the second.
	if err := m.mkdir("cache-not-tagged"); err != nil {
		return err
	}
	return m.file("cache-not-tagged/CACHEDIR.TAG", []byte("Signature: none\n"))
}

// wide makes one directory of many entries.
func (m *maker) wide() error {
	if err := m.mkdir("wide"); err != nil {
		return err
	}
	fd, err := unix.Open(m.at("wide"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	when := m.pastTime()
	for i := range m.o.Wide {
		name := fmt.Sprintf("%08x-entry-%d", uint32(i)*2654435761, i) // not in the order of making
		if err := smallFile(fd, name, nil, when); err != nil {
			return fmt.Errorf("wide/%s: %w", name, err)
		}
		m.made.Files++
	}
	return nil
}

// smallFile writes one file under a directory with as few calls as can be.
func smallFile(dir int, name string, data []byte, mtime unix.Timespec) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	write := func() error {
		for len(data) > 0 {
			n, err := unix.Write(fd, data)
			if err != nil {
				return err
			}
			data = data[n:]
		}
		return unix.UtimesNanoAt(fd, "", []unix.Timespec{mtime, mtime}, unix.AT_EMPTY_PATH)
	}
	return errors.Join(write(), unix.Close(fd))
}

// deep makes directories in one another. With PastPathMax the innermost can be
// reached only step by step.
func (m *maker) deep() error {
	if err := m.mkdir("deep"); err != nil {
		return err
	}
	name := "d"
	if m.o.PastPathMax {
		name = strings.Repeat("deeper-", 12)
	}
	fd, err := unix.Open(m.at("deep"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return m.deeper(fd, name, m.o.Deep)
}

// deeper makes the levels below a directory, sets their attributes on the way
// back, and closes it. It holds one descriptor per level.
func (m *maker) deeper(fd int, name string, levels int) error {
	defer unix.Close(fd)
	when := m.pastTime()
	if levels == 0 || levels%50 == 0 {
		if err := smallFile(fd, fmt.Sprintf("file-%d", levels), []byte(fmt.Sprint("level ", levels)), when); err != nil {
			return err
		}
		m.made.Files++
	}
	if levels == 0 {
		return nil
	}
	if err := unix.Mkdirat(fd, name, 0o755); err != nil {
		return fmt.Errorf("deep level %d: %w", levels, err)
	}
	m.made.Dirs++
	child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := m.deeper(child, name, levels-1); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}

// pageFiles makes files whose contents are pages: a database's and a disk's.
func (m *maker) pageFiles() error {
	if err := m.mkdir("pages"); err != nil {
		return err
	}
	if err := m.file("pages/app.db", sqlite(m.rng, 600)); err != nil {
		return err
	}
	if err := m.file("pages/no-suffix", sqlite(m.rng, 40)); err != nil {
		return err
	}
	if !m.o.Image {
		return nil
	}
	err := Image(m.at("pages/disk.img"), imageBytes, m.at("files"), m.o.Seed)
	if errors.Is(err, exec.ErrNotFound) {
		m.skip("ext4 image", err)
		return nil
	}
	if err != nil {
		return err
	}
	m.made.Files++
	m.plan("pages/disk.img", m.plain(0o600))
	return nil
}

// sqlite gives a file with the header of an SQLite 3 database of so many
// 4 KiB pages. Tools see what it is; the pages behind the first hold no tables.
func sqlite(rng *rand.Rand, pages int) []byte {
	const page = 4096
	b := make([]byte, 0, pages*page)
	for i := range pages {
		p := Text(rng, page)
		if i%3 == 0 {
			p = random(rng, page)
		}
		b = append(b, p...)
	}
	h := b[:100]
	clear(h)
	copy(h, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(h[16:], page)
	copy(h[18:], []byte{1, 1, 0, 64, 32, 32}) // journal format, no reserve, payload fractions
	binary.BigEndian.PutUint32(h[24:], 7)     // change counter
	binary.BigEndian.PutUint32(h[28:], uint32(pages))
	binary.BigEndian.PutUint32(h[44:], 4) // schema format
	binary.BigEndian.PutUint32(h[56:], 1) // UTF-8
	binary.BigEndian.PutUint32(h[92:], 7) // the counter that the size is valid for
	binary.BigEndian.PutUint32(h[96:], 3046001)
	copy(b[100:], []byte{13, 0, 0, 0, 0, 0x10, 0, 0}) // an empty table leaf: the schema
	return b
}

// Image makes an ext4 image of size bytes that holds a copy of the directory
// from ("" leaves it empty, and the image the same every time). It gives
// exec.ErrNotFound without mkfs.ext4.
func Image(path string, size int64, from string, seed uint64) error {
	mkfs, err := Tool("mkfs.ext4")
	if err != nil {
		return err
	}
	if err := Sparse(path, size, nil, nil); err != nil {
		return err
	}
	uuid := fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(seed), seed&(1<<48-1))
	args := []string{"-q", "-F", "-b", "4096", "-U", uuid, "-E", "hash_seed=" + uuid}
	if from != "" {
		args = append(args, "-d", from)
	}
	var said bytes.Buffer
	cmd := exec.Command(mkfs, append(args, path)...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1767225600")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make an ext4 image: %w: %s", err, said.Bytes())
	}
	return sparsify(path)
}

// sparsify puts a copy of a file in its place whose zero blocks are holes. The
// tool leaves space that is allocated and not written; whether that counts as a
// hole depends on what the page cache holds, so such a file differs from itself.
func sparsify(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	st, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := os.OpenFile(path+".sparse", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(copySparse(to, from, st.Size()), to.Close()); err != nil {
		return err
	}
	return os.Rename(path+".sparse", path)
}

func copySparse(to, from *os.File, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	data, err := spans(int(from.Fd()), size)
	if err != nil {
		return err
	}
	block, zeros := make([]byte, gridBytes), make([]byte, gridBytes)
	for _, s := range data {
		for at := s.Offset / gridBytes * gridBytes; at < s.Offset+s.Length; at += gridBytes {
			b := block[:min(gridBytes, size-at)]
			if _, err := from.ReadAt(b, at); err != nil {
				return err
			}
			if bytes.Equal(b, zeros[:len(b)]) {
				continue
			}
			if _, err := to.WriteAt(b, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// Tool finds a program, also where only root's path leads.
func Tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// Remove deletes a tree that Make made, also where its directories are
// read-only. A missing one is no error.
func Remove(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	// Only an unprivileged user gets here: give him his directories back.
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			if err := unix.Chmod(path, 0o700); err != nil {
				return err
			}
			return nil
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
