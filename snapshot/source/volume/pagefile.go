package volume

import (
	"bytes"
	"strings"
)

const (
	// pagePiece is the grid of page files, in bytes. Smaller pieces would store a
	// little less of scattered changes and cost much more to keep track of.
	pagePiece = 32 << 10

	sectorBytes  = 512
	diskBytesMin = 1 << 20 // a smaller file with a boot sector is hardly a disk
)

// PageHead is how many bytes from its beginning PageFile wants to see of a file.
const PageHead = 2048

// PageFile tells whether a file is one that its owner rewrites in place, page by
// page: a database file or a disk image. Such a file is best cut on a fixed grid of
// piece bytes. name is its path, absolute or not; head is its first PageHead bytes,
// or fewer; size is in bytes. A wrong answer costs space, never correctness.
func PageFile(name string, head []byte, size int64) (piece uint32, ok bool) {
	if size > 0 && (pageMagic(head, size) || pageName(name)) {
		return pagePiece, true
	}
	return 0, false
}

// magic is what a format has at an offset.
type magic struct {
	offset int
	bytes  string
}

func (m magic) in(head []byte) bool {
	return len(head) >= m.offset+len(m.bytes) && bytes.HasPrefix(head[m.offset:], []byte(m.bytes))
}

// pageMagic looks at the contents.
func pageMagic(head []byte, size int64) bool {
	for _, m := range [...]magic{
		{0, "SQLite format 3\x00"},
		{0, "QFI\xfb"},      // qcow, qcow2
		{0, "KDMV"},         // VMDK, sparse
		{0, "vhdxfile"},     // VHDX
		{0, "conectix"},     // VHD, dynamic
		{0, "LUKS\xba\xbe"}, // encrypted volume
		{0, "XFSB"},
		{64, "\x7f\x10\xda\xbe"}, // VDI
		{512, "LABELONE"},        // LVM
	} {
		if m.in(head) {
			return true
		}
	}
	if size < diskBytesMin || size%sectorBytes != 0 {
		return false
	}
	return magic{1024 + 56, "\x53\xef"}.in(head) || // ext2, ext3, ext4
		magic{512, "EFI PART"}.in(head) || // GPT
		magic{510, "\x55\xaa"}.in(head) // MBR
}

// pageName looks at the path.
func pageName(name string) bool {
	dir, base := "", name
	if cut := strings.LastIndexByte(name, '/'); cut >= 0 {
		dir, base = name[:cut], name[cut+1:]
	}
	return diskName(base) || innodbName(base) || postgresRelation(dir, base)
}

func diskName(base string) bool {
	for _, ext := range [...]string{".img", ".raw", ".qcow2", ".vmdk", ".vdi", ".vhd", ".vhdx"} {
		if n := len(base) - len(ext); n > 0 && strings.EqualFold(base[n:], ext) {
			return true
		}
	}
	return false
}

// innodbName knows the tablespaces of MySQL and MariaDB.
func innodbName(base string) bool {
	if n := len(base) - len(".ibd"); n > 0 && base[n:] == ".ibd" {
		return true
	}
	for _, start := range [...]string{"ibdata", "undo_", "undo"} {
		if number, ok := strings.CutPrefix(base, start); ok && digits(number) {
			return true
		}
	}
	return false
}

// postgresRelation knows base/<database>/<relation>, global/<relation> and
// pg_tblspc/<tablespace>/PG_…/<database>/<relation>; a relation is a number, with
// a fork (_fsm, _vm, _init) and a segment (.1) at times.
func postgresRelation(dir, base string) bool {
	relation, segment, segmented := strings.Cut(base, ".")
	if segmented && !digits(segment) {
		return false
	}
	relation, fork, forked := strings.Cut(relation, "_")
	if forked && fork != "fsm" && fork != "vm" && fork != "init" {
		return false
	}
	if !digits(relation) {
		return false
	}
	parents := strings.Split(dir, "/")
	parent := func(up int) string { // the up-th directory above the file
		if up > len(parents) {
			return ""
		}
		return parents[len(parents)-up]
	}
	return parent(1) == "global" ||
		digits(parent(1)) && (parent(2) == "base" || strings.HasPrefix(parent(2), "PG_"))
}

func digits(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
