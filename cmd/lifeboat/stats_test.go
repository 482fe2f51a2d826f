package main

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

func TestStats(t *testing.T) {
	l := newLab(t)
	if data := l.must("stats"); data["snapshots"] != 0.0 || data["logical_bytes"] != 0.0 {
		t.Errorf("of nothing: %v", data)
	}
	noise := make([]byte, 300_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	l.write("noise", string(noise))
	l.write("zeros", strings.Repeat("compressible ", 20_000))
	l.backup()
	l.backup()
	size := float64(300_000 + 13*20_000)
	data := l.must("stats")
	stored, _ := data["stored_bytes"].(float64)
	if data["snapshots"] != 2.0 || data["logical_bytes"] != 2*size || data["latest_bytes"] != size || data["unique_bytes"] != size || data["dedup_ratio"] != 0.5 {
		t.Errorf("data = %v", data)
	}
	if ratio, _ := data["compression_ratio"].(float64); stored < 300_000 || stored > 320_000 || ratio < 0.4 || ratio > 0.5 {
		t.Errorf("stored %v, compression %v", stored, ratio)
	}
	if d, m := data["data_stored_bytes"].(float64), data["metadata_stored_bytes"]; d <= 300_000 || m != nil && d+m.(float64) != stored {
		t.Errorf("contents %v, metadata %v of %v", d, m, stored)
	}
	if rows := list(data, "by"); len(rows) != 1 || rows[0]["name"] != "files" || rows[0]["logical_bytes"] != 2*size {
		t.Errorf("rows = %v", rows)
	}
	points := list(l.must("stats", "files", "--by", "snapshot"), "by")
	if len(points) != 2 || points[0]["name"] != l.ids[0] || points[0]["unique_bytes"] != size || points[1]["unique_bytes"] != 0.0 || points[1]["workload"] != "files" {
		t.Errorf("by snapshot: %v", points)
	}
	if kinds := list(l.must("stats", "--by", "kind"), "by"); len(kinds) != 1 || kinds[0]["name"] != "volume" {
		t.Errorf("by kind: %v", kinds)
	}
	l.fails(NoRecoveryPoint, `no recovery point of "mail"`, "stats", "mail")
	l.fails(Usage, `did you mean "region"`, "stats", "--by", "regoin")
}

func TestStatsByRegion(t *testing.T) {
	l := newLab(t)
	l.write("x", strings.Repeat("x", 10_000))
	l.backup()
	if err := os.Rename(l.path("b"), l.path("b.away")); err != nil {
		t.Fatal(err)
	}
	l.write("y", strings.Repeat("y", 10_000))
	l.clock = l.clock.Add(3600e9)
	l.exits(ReplicationDegraded, "backup", "files")
	rows := list(l.must("stats", "--by", "region"), "by")
	if len(rows) != 2 || rows[0]["snapshots"] != 2.0 || rows[1]["error"] == nil {
		t.Fatalf("with b away: %v", rows)
	}
	if err := os.Rename(l.path("b.away"), l.path("b")); err != nil {
		t.Fatal(err)
	}
	rows = list(l.must("stats", "--by", "region"), "by")
	a, b := rows[0], rows[1]
	if a["snapshots"] != 2.0 || b["snapshots"] != 1.0 || b["snapshots_not_shown"] != 1.0 || a["logical_bytes"] != 30_000.0 || b["logical_bytes"] != 10_000.0 ||
		a["stored_bytes"].(float64) <= b["stored_bytes"].(float64) || b["stored_bytes"].(float64) == 0 || a["packs_not_in_index"] != nil {
		t.Errorf("with b back: %v", rows)
	}
	if exit := l.run("stats", "--by", "region"); exit != 0 {
		t.Fatalf("exit %d", exit)
	}
	if text := l.rows(); text[0][0] != "REGION" || text[2][8] != "1 points behind" || text[3][0] != "total" {
		t.Errorf("text: %q", text)
	}
}
