// Package restore brings the entries of a snapshot back into a directory: first a
// plan that writes nothing, then a run that does. Entries come from a catalog, in
// its order; contents come as verified chunks. It does not know where either is
// stored, reads no keys, prints nothing, and restores no databases.
//
// The repository is treated as hostile. Every path is checked, everything below the
// target is reached from directory descriptors one element at a time and never
// through a symlink, and what is wrong with an entry costs that entry only: it is
// counted, named and left out.
//
// A run goes over the entries twice.
//
//   - First directories are made, closed to others, and regular files are written
//     under a temporary name beside their final one: contents, owner, extended
//     attributes, mode, times, and only then the name. So a run that is killed leaves
//     no half file under its final name. Contents are fetched in windows of chunks,
//     several at once, and written from whatever goroutine delivers them.
//   - Then come hard links, symlinks and special files, so that no link exists while
//     files are written; and on the way out of each directory, deepest first, its
//     own attributes.
//
// Files with several names are first made under a name in a private directory at the
// top of the target, which is removed at the end: links are made to inodes of this
// run only, and their number costs no memory.
//
// When Run returns without an error the target's file system has been flushed.
// Memory does not grow with the number or the size of files.
package restore
