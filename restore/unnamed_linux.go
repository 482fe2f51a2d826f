package restore

import "golang.org/x/sys/unix"

// unnamed is how files get their names that have none while they are written
// (O_TMPFILE). A run that is killed leaves nothing of such a file behind, and a
// directory is changed once for it instead of twice.
type unnamed uint8

const (
	cannotName unnamed = iota // files have temporary names while they are written
	nameByFD                  // by the descriptor: root may, and everybody on new kernels
	nameByPath                // by the descriptor's path below /proc
)

// openUnnamed makes a file without a name in a directory.
func openUnnamed(dir int) (int, error) {
	return openAt(dir, ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
}

// name gives it a name, unless that exists (EEXIST).
func (u unnamed) name(fd, dir int, name string) error {
	if u == nameByFD {
		return unix.Linkat(fd, "", dir, name, unix.AT_EMPTY_PATH)
	}
	return unix.Linkat(unix.AT_FDCWD, handle(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
}

// probeUnnamed finds out in the target how unnamed files get names there.
func (r *run) probeUnnamed(dir int) unnamed {
	fd, err := openUnnamed(dir)
	if err != nil {
		return cannotName
	}
	defer unix.Close(fd)
	name := r.temp()
	for _, u := range []unnamed{nameByFD, nameByPath} {
		if u.name(fd, dir, name) == nil {
			if unix.Unlinkat(dir, name, 0) != nil {
				return cannotName
			}
			return u
		}
	}
	return cannotName
}
