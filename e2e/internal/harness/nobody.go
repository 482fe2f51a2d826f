package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// nobody is the user and the group that own nothing.
const nobody = 65534

// Unprivileged gives the same host to a user who is not root, with all that is
// on it by now. For a test that does not run as root it is the host itself.
func (h *Host) Unprivileged() *Host {
	h.t.Helper()
	if !IsRoot() {
		return h
	}
	setpriv, err := exec.LookPath("setpriv")
	Needs(h.t, err == nil, "setpriv, to run as another user")
	// Neither the folder of built programs nor that of a test need be open to others.
	program, err := os.ReadFile(h.binary)
	if err != nil {
		h.t.Fatal(err)
	}
	other := *h
	other.binary = h.Path("lifeboat-as-nobody")
	copied := h.Path("lifeboat-copy")
	script := fmt.Sprintf("#!/bin/sh\nexec %s --reuid=%d --regid=%d --clear-groups -- '%s' \"$@\"\n", setpriv, nobody, nobody, copied)
	for path, data := range map[string][]byte{copied: program, other.binary: []byte(script)} {
		if err := os.WriteFile(path, data, 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(h.Dir), 0o711); err != nil {
		h.t.Fatal(err)
	}
	other.Give(h.Dir)
	return &other
}

// Give makes the user of Unprivileged the owner of a file, or of a directory and all in it.
func (h *Host) Give(path string) {
	h.t.Helper()
	if !IsRoot() {
		return
	}
	err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}
