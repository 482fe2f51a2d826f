package main

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"

	"lifeboat/config"
)

// RegionSpec is one region as the user named it, from the configuration or
// from --repo, in a form that names no package of ours.
type RegionSpec struct {
	Name     string
	URL      string // file:///path or s3://bucket/prefix, without query
	Dir      string // of a file:// region
	S3       *S3Spec
	Optional bool
	// Connections, Upload and Download are limits; 0 is the default, or none.
	Connections      int
	Upload, Download int64 // bytes per second
}

// S3Spec says how to reach a bucket.
type S3Spec struct {
	Bucket, Prefix string
	Region         string
	Endpoint       string
	PathStyle      bool
	Profile        string
	CAFile         string
	// AccessKeyID and SecretAccessKey fetch the keys; nil means the profile or
	// the ambient AWS chain.
	AccessKeyID, SecretAccessKey func(ctx context.Context) (config.Secret, error)
}

// regionSet is what a command works on.
type regionSet struct {
	Regions  []RegionSpec
	Required int    // how many must have a snapshot before it counts
	RepoID   string // pinned; "" with --repo, or before init
	RootKey  string // pinned
}

// regions gives the regions from --repo, else from the configuration. It does
// not apply --region: that narrows reading only (see readFrom).
func (a *app) regions() (regionSet, error) {
	if a.coldStart() {
		return a.repoRegions()
	}
	file, err := a.configured()
	if err != nil {
		return regionSet{}, err
	}
	c := &file.Config
	set := regionSet{Required: c.Regions.Required, RepoID: c.Repository.ID, RootKey: c.Repository.RootKey}
	for _, r := range c.Regions.List {
		spec, err := a.regionSpec(r)
		if err != nil {
			return regionSet{}, err
		}
		set.Regions = append(set.Regions, spec)
	}
	return set, nil
}

// readFrom narrows a set to the region that --region names, if any.
func (a *app) readFrom(set regionSet) (regionSet, error) {
	if a.opt.Region == "" {
		return set, nil
	}
	var names []string
	for _, r := range set.Regions {
		if r.Name == a.opt.Region {
			set.Regions = []RegionSpec{r}
			return set, nil
		}
		names = append(names, r.Name)
	}
	hint := "there are: " + strings.Join(names, ", ")
	if s := config.Suggest(a.opt.Region, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return regionSet{}, &Fail{Code: Usage, Message: fmt.Sprintf("there is no region %q", a.opt.Region), Hint: hint}
}

// repoRegions names each --repo after its last path element.
func (a *app) repoRegions() (regionSet, error) {
	var set regionSet
	seen := map[string]bool{}
	for _, text := range a.opt.Repos {
		spec, err := a.regionSpec(config.Region{URL: text})
		if err == nil && spec.S3 != nil && !bucketName(spec.S3.Bucket) {
			err = fmt.Errorf("%s: %q cannot be the name of a bucket", withoutUser(text), spec.S3.Bucket)
		}
		if err != nil {
			return regionSet{}, &Fail{Code: Usage, Message: err.Error(), Hint: "such as --repo file:///mnt/dr or --repo 's3://bucket/prefix?region=eu-central-1'"}
		}
		spec.Name = repoName(spec)
		for n := 2; seen[spec.Name]; n++ {
			spec.Name = fmt.Sprintf("%s-%d", repoName(spec), n)
		}
		seen[spec.Name] = true
		set.Regions = append(set.Regions, spec)
	}
	set.Required = min(2, len(set.Regions))
	return set, nil
}

// bucketName holds a name against the rules that all S3 servers share: 3 to 63
// lower-case letters, digits, dots and hyphens, a letter or digit at both ends.
func bucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return false
	}
	ends := "abcdefghijklmnopqrstuvwxyz0123456789"
	return strings.Contains(ends, name[:1]) && strings.Contains(ends, name[len(name)-1:])
}

// repoName makes a region name out of a URL: bucket for S3, folder for files.
func repoName(spec RegionSpec) string {
	text := path.Base(spec.Dir)
	if spec.S3 != nil {
		text = spec.S3.Bucket
	}
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(text)), "-")
	if len(name) > 50 {
		name = name[:50]
	}
	return orElse(name, "repo")
}

// regionSpec joins the URL's query with the fields of the configuration.
func (a *app) regionSpec(r config.Region) (RegionSpec, error) {
	address, err := config.ParseRegionURL(r.URL)
	if err != nil {
		return RegionSpec{}, fmt.Errorf("region URL %s %w", withoutUser(r.URL), err)
	}
	spec := RegionSpec{
		Name: r.Name, URL: address.URL, Dir: address.Dir, Optional: r.Optional,
		Connections: r.Limits.Connections, Upload: int64(r.Limits.Upload), Download: int64(r.Limits.Download),
	}
	if address.Dir != "" {
		return spec, nil
	}
	s := S3Spec{
		Bucket: address.Bucket, Prefix: address.Prefix, Region: address.S3.Region, Endpoint: address.S3.Endpoint,
		PathStyle: address.S3.PathStyle, Profile: address.S3.Profile, CAFile: address.S3.CAFile,
	}
	if f := r.S3; f != nil {
		s.Region, s.Endpoint = orElse(f.Region, s.Region), orElse(f.Endpoint, s.Endpoint)
		s.Profile, s.CAFile = orElse(f.Profile, s.Profile), orElse(f.CAFile, s.CAFile)
		s.PathStyle = s.PathStyle || f.PathStyle
		s.AccessKeyID, s.SecretAccessKey = a.secretReader(f.AccessKeyID), a.secretReader(f.SecretAccessKey)
	}
	spec.S3 = &s
	return spec, nil
}

// secretReader defers reading a secret until a region is opened.
func (a *app) secretReader(ref *config.SecretRef) func(context.Context) (config.Secret, error) {
	if ref == nil {
		return nil
	}
	return func(ctx context.Context) (config.Secret, error) { return ref.Read(ctx, a.getenv) }
}

// withoutUser keeps credentials that were put into a URL out of messages.
func withoutUser(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(unreadable)"
	}
	return u.Redacted()
}
