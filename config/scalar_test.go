package config

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour,
		"500ms": 500 * time.Millisecond, "1d12h": 36 * time.Hour, "1w1d1h1m1s1ms": 193*time.Hour + 61*time.Second + time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%s) = %s, %v", text, got, err)
		}
		again, err := ParseDuration(Duration(got).String())
		if err != nil || again != got {
			t.Errorf("%s prints as %s, which reads as %s (%v)", text, Duration(got), again, err)
		}
	}
	for _, text := range []string{"", "15", "m", "1h1h", "1m1h", "-1h", "1.5h", "1y", "1 h", "99999999999999999999h", "9000000000000h", "1hm"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %s, want an error", text, d)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "512MiB": 512 << 20, "1.5 GiB": 3 << 29, "80MB": 80e6, "4kB": 4000, "4kib": 4096, "12B": 12,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%s) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5G", "MiB", "-1", "1.5", "1e9", "1XiB", "9999999PiB", "1.2.3MB", "NaN"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, n)
		}
	}
}

func TestAmount(t *testing.T) {
	for text, want := range map[string]Amount{
		"all": {All: true}, "100%": {All: true}, "none": {}, "0": {}, "3%": {Ratio: 0.03}, "0.5%": {Ratio: 0.005}, "10GiB": {Bytes: 10 << 30},
	} {
		if got, err := ParseAmount(text); err != nil || got != want {
			t.Errorf("ParseAmount(%s) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "101%", "-1%", "%", "some", "NaN%", "Inf%"} {
		if a, err := ParseAmount(text); err == nil {
			t.Errorf("ParseAmount(%q) = %v, want an error", text, a)
		}
	}
}

func FuzzScalars(f *testing.F) {
	for _, text := range []string{"15m", "1h30m", "512MiB", "3%", "all"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(Duration(d).String()); err != nil || again != d {
				t.Errorf("%q: %s, %v", text, again, err)
			}
		}
		if n, err := ParseSize(text); err == nil {
			if again, err := ParseSize(Size(n).String()); n < 0 || err != nil || again != n {
				t.Errorf("%q: %d, %d, %v", text, n, again, err)
			}
		}
		if a, err := ParseAmount(text); err == nil {
			if again, err := ParseAmount(a.String()); err != nil || again.All != a.All || again.Bytes != a.Bytes {
				t.Errorf("%q: %v, %v, %v", text, a, again, err)
			}
		}
	})
}

func TestSchema(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Required   []string
		Properties map[string]any
		Defs       map[string]struct {
			Properties           map[string]map[string]any
			AdditionalProperties any
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	if len(schema.Properties) != 11 || len(schema.Required) != 2 {
		t.Errorf("%d properties, required %v", len(schema.Properties), schema.Required)
	}
	if got := schema.Defs["Volume"].Properties["paths"]["description"]; got != "absolute paths" {
		t.Errorf("description = %v", got)
	}
	for name, def := range schema.Defs {
		if def.AdditionalProperties != false {
			t.Errorf("%s takes unknown keys", name)
		}
	}
}
