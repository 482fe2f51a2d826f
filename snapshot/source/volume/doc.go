// Package volume reads files: it lists every object below some paths in the
// order of the catalog, and opens the ones that somebody wants to read.
//
// Walk only looks (getdents64 and statx, relative to directory descriptors); it
// opens no file. What it visits is a Stat, which knows its directory, so that
// Open and Attributes find the same object later, from any goroutine, without
// following a symbolic link in any component and however long the path is.
//
// The order is that of the catalog: paths compare as bytes, with '/' below every
// other byte. So siblings come in byte order and everything below a directory
// follows it at once. Directories are read ahead by a few workers, a bounded way.
//
// What becomes of odd things:
//
//   - A path that is a file, or a symbolic link, is visited as just that: the link
//     is recorded, not followed. Links in the components above a path are refused
//     by New, which names the real path. The directories above a path are not
//     visited, nor is "/" itself, which has no relative path.
//   - Sockets are counted and skipped; they cannot be restored.
//   - Something that vanishes between listing and looking is counted, no error.
//   - A directory that cannot be listed is visited with Stat.Unreadable set, then
//     reported; an object that cannot be looked at is reported and skipped.
//   - A directory that holds a marker of Options.ExcludeIfPresent, or a
//     CACHEDIR.TAG with its signature, is visited itself; nothing in it is, not
//     even the marker. Paths given to New are always read, whatever matches them.
//   - With OneFileSystem a directory where another file system is mounted is
//     visited itself, not what is in it. Other objects are visited whatever device
//     they claim: an overlay file system gives its own files foreign ones. A btrfs
//     subvolume counts as another file system. Pseudo file systems (proc, sysfs and
//     their like) met below a path are never entered.
//
// It does not quiesce anything, does not read file contents by itself, chunk or
// compare with an earlier snapshot, and does not detect changes that leave size,
// mtime and ctime alone. Linux 4.11 or newer; openat2 is used where there is one.
package volume
