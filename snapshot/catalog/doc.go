// Package catalog is the sorted list of a snapshot's entries: how entries look,
// how they are written as pages, and how a catalog is read, searched and compared
// without ever having more than a few pages of it in memory.
//
// It does no I/O of its own: finished pages go to a function, pages come from a
// Chunks, and both name them by chunk id. It knows nothing of file systems,
// packs or keys, and it restores nothing.
//
// # Order
//
// Entries are sorted by the bytes of their paths, with '/' below every other
// byte: depth first, a directory right before what it holds. Compare is that
// order. A path is relative to "/"; the empty path is "/" itself.
//
// # Pages
//
// A page is the plaintext of one metadata chunk: the CBOR array
// ["cat1", level, [item…]] in the core deterministic encoding of RFC 8949 (definite
// lengths, shortest heads). An item of level 0 is an entry, see below. An item of
// a level above is [first path, last path, page id, entries]: a page of the level
// below, what it spans, and how many entries are under it.
//
// A page ends after an item when it has reached 64 KiB and the hash of the item's
// (last) path is below 2^64/512, or when it has reached 256 KiB. The hash is xxh3
// with the seed path seed + level; without the level in it, a path that ends a leaf
// would end every page above it too. A page above the leaves has two items at
// least, unless it is the last of its level. So equal stretches of two catalogs
// become equal pages. The root is the one page of the top level; the catalog of
// nothing is one leaf without items.
//
// # Entries
//
// An entry is a map with these keys, in this order. What is zero or empty is left
// out, except for the path and where data says so. Numbers are unsigned but the times.
//
//	 0 path bytes            1 type               2 mode            3 uid          4 gid
//	 5 user                  6 group              7 mtime, ns       8 ctime, ns    9 size
//	10 inode                11 device            12 links          13 target bytes
//	14 xattrs: map of bytes to bytes, sorted as RFC 8949 sorts keys (shorter first)
//	15 device number        16 data: [offset, length, offset, length…]; an empty array
//	                           is a file that is one hole, none at all a file without holes
//	17 chunking             18 piece             19 chunk ids, concatenated
//	20 true: the chunk ids name pages of ids     21 flags
//
// User and group are text when they are UTF-8, else bytes. A page of ids is the
// plain concatenation of 2048 chunk ids (the last page has fewer); a file with more
// than 256 chunks has them.
//
// # A hostile catalog
//
// Whoever writes a repository may be malicious. Everything that is read is checked:
// the encoding must be the one that this package writes, limits hold, paths have
// no "..", ".", empty or over-long elements and no NUL, entries are sorted and
// unique over the whole catalog, and pages hold exactly what the page above says.
// What fails is storage.ErrCorrupt. Two things are left to who restores: that a
// path's parents are directories, and that a symlink is not followed.
package catalog
