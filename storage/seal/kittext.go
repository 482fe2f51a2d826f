package seal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"rsc.io/qr"
)

// qrQuiet is the empty border of a QR code in modules.
const qrQuiet = 4

// kitUse is the part of a kit that says what to do. {repo} stands for the --repo
// options.
const kitUse = `
WHAT THIS IS
  The key that opens every backup in the repository named below, and what is
  needed to find that repository. Whoever holds this paper or file can read all
  of the backups; whoever has lost every copy of it can read none. Keep two
  copies in two places, offline, away from the machines that it protects.
  It stays good when keys are rotated. Storage credentials are not in it: keep
  them (or the way to get them) next to it. The root key that signs in new
  hosts is not in it either; it is a file of its own, and restoring does not
  need it.

ON THE WORST DAY
  1. Take a clean machine. Put this file on it, readable by you alone:
         chmod 600 THISFILE
     From paper: type the AGE-SECRET-KEY line at the end into a file, or scan
     the code. Type the lines "# name: value" too, and the checksum is tested.
  2. Get the lifeboat program, and the credentials of one region, for S3 as
         export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
  3. See what there is:
         lifeboat snapshots {repo} --identity-file THISFILE
  4. Bring one workload back, into an empty directory:
         lifeboat restore NAME --to DIR {repo} --identity-file THISFILE
     Without more options this takes the newest snapshot. It shows the plan
     first, and never overwrites anything. One region that still answers is
     enough; leave out the --repo of those that are gone.
  5. No configuration file and no running service is needed for any of this.

WITHOUT LIFEBOAT
  The repository can be read with tar, age (1.3 or newer), zstd and a page of
  Python. How, step by step, is in the object RECOVERY.txt at the top of every
  region; this file is the key for it, as it is: age -d -i THISFILE

WHICH REPOSITORY
  lifeboat compares the next lines with what a region claims, so that nobody
  can offer another repository in its place.
`

// text renders the kit.
func (k Kit) text() ([]byte, error) {
	var out bytes.Buffer
	comment := func(s string) { out.WriteString(strings.TrimRight("# "+s, " ") + "\n") }
	field := func(name, value string) { comment(name + ": " + value) }

	comment("LIFEBOAT RECOVERY KIT - SECRET")
	use := strings.ReplaceAll(strings.TrimSuffix(kitUse, "\n"), "{repo}", k.repoOptions())
	for line := range strings.SplitSeq(use, "\n") {
		comment(line)
	}
	comment("")
	field(kitLineVersion, kitVersion)
	for _, u := range k.RepoURLs {
		field(kitLineURL, u)
	}
	field(kitLineRepoID, hex.EncodeToString(k.RepoID[:]))
	field(kitLineRoot, k.RootPublic.String())
	field(kitLineCreated, k.created())
	field(kitLineProgram, k.Version)
	field(kitLineChecksum, groups(k.checksum()))
	comment("")
	comment("The key itself; its public half has the fingerprint " + k.Identity.Recipient().Fingerprint() + ".")
	rows, err := qrRows(k.Identity.Reveal())
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		comment(row)
	}
	out.WriteString(k.Identity.Reveal() + "\n")
	return out.Bytes(), nil
}

// repoOptions gives --repo URL for every region, quoted for a shell, on one line
// so that a command can be copied out of the comment.
func (k Kit) repoOptions() string {
	var options []string
	for _, u := range k.RepoURLs {
		options = append(options, "--repo '"+strings.ReplaceAll(u, "'", `'\''`)+"'")
	}
	return strings.Join(options, " ")
}

// groups sets a space after every four characters.
func groups(s string) string {
	var out strings.Builder
	for i := range len(s) {
		if i > 0 && i%4 == 0 {
			out.WriteByte(' ')
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// qrRows draws a QR code with half blocks: dark is ink. The texts of all
// identities are short enough (at most 80 capital letters) for 37 modules a side.
func qrRows(text string) ([]string, error) {
	code, err := qr.Encode(text, qr.Q)
	if err != nil {
		return nil, fmt.Errorf("draw the QR code: %w", err)
	}
	glyphs := [4]string{" ", "▀", "▄", "█"} // bit 0: upper module, bit 1: lower
	var rows []string
	for y := -qrQuiet; y < code.Size+qrQuiet; y += 2 {
		var row strings.Builder
		for x := -qrQuiet; x < code.Size+qrQuiet; x++ {
			dark := 0
			if code.Black(x, y) {
				dark |= 1
			}
			if code.Black(x, y+1) {
				dark |= 2
			}
			row.WriteString(glyphs[dark])
		}
		rows = append(rows, row.String())
	}
	return rows, nil
}
