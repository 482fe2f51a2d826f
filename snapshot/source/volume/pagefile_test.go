package volume

import (
	"strings"
	"testing"
)

func TestPageFile(t *testing.T) {
	at := func(offset int, s string) string { return strings.Repeat("\x00", offset) + s }
	for _, tt := range []struct {
		name, head string
		size       int64
		want       bool
	}{
		{"app.db", "SQLite format 3\x00", 8192, true},
		{"app.db", "SQLite format 3\x00", 0, false},
		{"app.db", "SQLite format 3", 8192, false},
		{"/pg/base/16384/16385", "", 1 << 20, true},
		{"base/16384/16385.1", "", 1, true},
		{"pg/base/16384/16385_fsm", "", 1, true},
		{"pg/base/16384/16385_vm.2", "", 1, true},
		{"pg/base/16384/16385_tmp", "", 1, false},
		{"pg/base/16384/PG_VERSION", "3", 3, false},
		{"pg/base/16384/16385.old", "", 1, false},
		{"pg/global/1262", "", 8192, true},
		{"pg/global/pg_control", "", 8192, false},
		{"pg_tblspc/16400/PG_17_202406281/16384/16401", "", 8192, true},
		{"photos/2024/0001", "", 8192, false},
		{"mysql/shop/orders.ibd", "", 1 << 20, true},
		{"mysql/ibdata1", "", 1 << 20, true},
		{"mysql/undo_001", "", 1 << 20, true},
		{"mysql/undo001", "", 1 << 20, true},
		{"mysql/undo_log", "", 1 << 20, false},
		{".ibd", "", 1, false},
		{"vm/disk.QCOW2", "", 1 << 20, true},
		{"vm/disk", "QFI\xfb\x00\x00\x00\x03", 1 << 20, true},
		{"vm/disk.img", "", 1 << 20, true},
		{"vm/disk.vmdk", "", 1 << 20, true},
		{"vm/disk", at(64, "\x7f\x10\xda\xbe"), 1 << 20, true},
		{"vm/root", at(1080, "\x53\xef"), 4 << 20, true},
		{"vm/root", at(1080, "\x53\xef"), 4<<20 + 1, false},
		{"vm/root", at(1080, "\x53\xef"), 4096, false},
		{"vm/mbr", at(510, "\x55\xaa"), 1 << 20, true},
		{"vm/mbr", at(510, "\x55\xaa"), 512, false},
		{"vm/gpt", at(512, "EFI PART"), 1 << 30, true},
		{"text", "hello", 1 << 20, false},
		{"", "", 1, false},
	} {
		piece, ok := PageFile(tt.name, []byte(tt.head), tt.size)
		if ok != tt.want || ok && piece != 32768 || !ok && piece != 0 {
			t.Errorf("%s, %.20q, %d: %d, %v", tt.name, tt.head, tt.size, piece, ok)
		}
		if len(tt.head) > PageHead {
			t.Errorf("%s: needs %d bytes, more than PageHead", tt.name, len(tt.head))
		}
	}
}

func FuzzPageFile(f *testing.F) {
	f.Add("base/1/2_fsm.1", []byte("SQLite format 3\x00"), int64(4096))
	f.Fuzz(func(t *testing.T, name string, head []byte, size int64) {
		if piece, ok := PageFile(name, head, size); ok != (piece == pagePiece) {
			t.Errorf("%d, %v", piece, ok)
		}
	})
}
