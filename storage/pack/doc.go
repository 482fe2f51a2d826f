// Package pack turns chunks into the objects that regions keep, and back.
//
// A frame is one chunk, or a bundle of small ones: its plaintext is compressed
// with zstd, padded with a zstd skippable frame, and sealed as one standard age
// file. It is the unit of encryption, of damage and of copying. A pack is a
// plain ustar archive of frames, then a sealed table of contents, then a clear
// 512-byte footer which says where that table lies:
//
//	000000.zst.age … NNNNNN.zst.age   frames, sealed to the content key
//	toc.zst.age                       CBOR ["toc1", kind, frames], sealed to the index key
//	footer                            "lifeboat-pack 1 <toc offset> <toc length>\n", zero padded
//
// so that tar, age and zstd alone bring everything back. Builder writes a pack
// into a buffer that it is handed; Decoder opens frames; ReadTOC finds the table
// with one request in nearly every case; Walk reads the archive strictly. Every
// reader here expects hostile bytes: each length is checked against a named
// limit before anything is allocated for it.
//
// The package does not know stores beyond one ranged read, does not choose what
// goes into a frame, keeps no keys (it is handed sealers and openers), and never
// checks chunk ids: who holds the chunk key does that after decoding.
package pack
