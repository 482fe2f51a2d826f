package tree

import (
	"bytes"
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes makes user attributes on files and directories, and, for root,
// trusted ones on all kinds of objects and file capabilities.
func (m *maker) attributes() error {
	if err := m.mkdir("attributes"); err != nil {
		return err
	}
	user := []xattr{
		{"user.text", []byte("value")}, {"user.empty", nil}, {"user.binary", []byte{0, 1, 0xff, '\n', 0}},
		{"user." + strings.Repeat("n", 200), []byte("long name")}, {"user.bytes.\xff\xfe", []byte("name of no text")},
		{"user.with space\nand line", []byte("odd name")},
	}
	sets := map[string][]xattr{
		"one": user[:1], "empty": user[1:2], "many": user,
		"large": {{"user.large", bytes.Repeat([]byte("large "), 500)}}, // 3,000 bytes: more than an inode holds, less than a block
	}
	for _, name := range []string{"one", "empty", "many", "large"} {
		a := m.plain(0o644)
		a.xattrs = sets[name]
		if err := m.fileAs("attributes/file-"+name, []byte("attributes"), a); err != nil {
			return err
		}
		a.mode = 0o755
		if err := m.mkdirAs("attributes/dir-"+name, a); err != nil {
			return err
		}
	}
	a := m.plain(0o444)
	a.xattrs = user[:1]
	if err := m.fileAs("attributes/file-read-only", []byte("read only"), a); err != nil {
		return err
	}
	if !m.o.Privileged {
		return nil
	}
	return m.rootAttributes()
}

func (m *maker) rootAttributes() error {
	trusted := []xattr{{"trusted.lifeboat-test", []byte("trusted\x00value")}}
	a := m.plain(0o600)
	a.xattrs = trusted
	if err := m.fileAs("attributes/file-trusted", nil, a); err != nil {
		return err
	}
	if err := m.symlink("file-trusted", "attributes/link-trusted"); err != nil {
		return err
	}
	m.finals[len(m.finals)-1].xattrs = trusted
	if err := m.node("attributes/fifo-trusted", unix.S_IFIFO, 0, &m.made.Fifos); err != nil {
		return err
	}
	m.finals[len(m.finals)-1].xattrs = trusted
	c := m.plain(0o755)
	c.uid, c.gid = 1, 1 // a restore that sets the owner last loses the capability
	c.xattrs = []xattr{{"security.capability", capability(1 << 10)}}
	return m.fileAs("attributes/file-capability", []byte("#!/bin/true\n"), c)
}

// capability is the raw value of security.capability, version 2: the permitted
// capabilities, effective at once.
func capability(permitted uint32) []byte {
	const revision2, effective = 0x02000000, 1
	b := binary.LittleEndian.AppendUint32(nil, revision2|effective)
	b = binary.LittleEndian.AppendUint32(b, permitted)
	return append(b, make([]byte, 12)...) // inheritable, and the upper halves
}

// The tags of entries of a POSIX access control list.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	aclNoID     = 1<<32 - 1
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// acl is the raw value of system.posix_acl_access and _default.
func acl(entries ...aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

func (m *maker) accessLists() error {
	if err := m.mkdir("lists"); err != nil {
		return err
	}
	small := acl(aclEntry{aclUserObj, 6, aclNoID}, aclEntry{aclUser, 4, 1234}, aclEntry{aclGroupObj, 4, aclNoID},
		aclEntry{aclMask, 4, aclNoID}, aclEntry{aclOther, 0, aclNoID})
	// The mask differs from the group's own bits: a chmod after the list destroys it.
	full := acl(aclEntry{aclUserObj, 7, aclNoID}, aclEntry{aclUser, 6, 1234}, aclEntry{aclUser, 1, 4321}, aclEntry{aclGroupObj, 5, aclNoID},
		aclEntry{aclGroup, 7, 777}, aclEntry{aclMask, 2, aclNoID}, aclEntry{aclOther, 1, aclNoID})
	for _, f := range []struct {
		name string
		list []byte
	}{{"small", small}, {"full", full}} {
		a := m.plain(0o640)
		a.xattrs = []xattr{{aclAccess, f.list}}
		if err := m.fileAs("lists/file-"+f.name, []byte("list"), a); err != nil {
			return err
		}
	}
	d := m.plain(0o750)
	d.xattrs = []xattr{{aclAccess, full}, {aclDefault, small}}
	if err := m.mkdirAs("lists/dir-both", d); err != nil {
		return err
	}
	d = m.plain(0o755)
	d.xattrs = []xattr{{aclDefault, full}}
	if err := m.mkdirAs("lists/dir-default", d); err != nil {
		return err
	}
	// Made without the default list: a restore that sets it first would hand it on.
	for _, n := range []string{"lists/dir-both/plain", "lists/dir-default/plain"} {
		if err := m.file(n, []byte("no list")); err != nil {
			return err
		}
		if err := m.mkdir(n + "-dir"); err != nil {
			return err
		}
	}
	return nil
}
