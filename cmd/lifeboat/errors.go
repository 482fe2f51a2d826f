package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"lifeboat/config"
	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// Code is an exit code. Each has a stable name for machines.
type Code int

// The exit codes. Code 2 is never used: the Go runtime crashes with it.
const (
	OK                  Code = 0
	Failed              Code = 1
	Partial             Code = 3
	VerifyFailed        Code = 4
	ObjectiveMissed     Code = 5
	ReplicationDegraded Code = 6
	RepoNotFound        Code = 10
	Locked              Code = 11
	NoMatchingKey       Code = 12
	NoRecoveryPoint     Code = 13
	TargetRefused       Code = 14
	RegionUnreachable   Code = 15
	AwaitingApproval    Code = 16
	WrongRepository     Code = 17
	NoSpace             Code = 18
	Usage               Code = 64
	Internal            Code = 70
	TempFail            Code = 75
	ConfigInvalid       Code = 78
	Timeout             Code = 124
	Interrupted         Code = 130
	Terminated          Code = 143
)

// codeInfo is one row of the exit code table.
type codeInfo struct {
	Code      Code   `json:"code"`
	Name      string `json:"name"`
	Meaning   string `json:"meaning"`
	Retry     string `json:"retry,omitempty"`
	Retryable bool   `json:"retryable"`
	Hint      string `json:"-"` // used when a failure brings none
}

// codeTable is the one place that says what the codes mean.
func codeTable() []codeInfo {
	return []codeInfo{
		{OK, "ok", "Done, objectives met where the command checks them", "", false, ""},
		{Failed, "failed", "Failed, nothing more specific", "maybe", false, "run again with -vv to see more"},
		{Partial, "partial", "Completed with some items unreadable or not restored", "look first", false, "look at the items that are named above, then run again"},
		{VerifyFailed, "verify_failed", "Damage found, or a restored copy failed its checks", "no", false, "run: lifeboat check --read-data=all"},
		{ObjectiveMissed, "objective_missed", "Worked, but an RPO or RTO objective is not met", "no", false, "run: lifeboat status"},
		{ReplicationDegraded, "replication_degraded", "Fewer good copies than regions.required", "yes", true, "run: lifeboat replicate status"},
		{RepoNotFound, "repo_not_found", "Repository absent or not initialised", "no", false, "check the region's URL; a new repository is made with: lifeboat init"},
		{Locked, "locked", "Another operation holds the lock", "yes", true, "wait for it, or use --lock-wait 10m"},
		{NoMatchingKey, "no_matching_key", "No supplied identity opens the repository", "no", false, "name the recovery kit with --identity-file"},
		{NoRecoveryPoint, "no_recovery_point", "Snapshot, path or time not found or not coverable", "no", false, "list what there is with: lifeboat snapshots"},
		{TargetRefused, "target_refused", "Target not empty, in use, too small, or confirmation missing", "no", false, "choose an empty target"},
		{RegionUnreachable, "region_unreachable", "No region reachable, or the forced --region is not", "yes", true, "check the network and run: lifeboat replicate status"},
		{AwaitingApproval, "awaiting_approval", "Stopped at an approval", "resume", false, ""},
		{WrongRepository, "wrong_repository", "The region holds another repository, or not the pinned one", "no", false, "compare the region's URL with repository.id in the configuration"},
		{NoSpace, "no_space", "Not enough room at source cache, region or target", "no", false, "free space, then run again; what was stored is kept"},
		{Usage, "usage", "Bad flag or argument, or a prompt was needed without a terminal", "no", false, "see: lifeboat help"},
		{Internal, "internal", "A bug; a report file is written and its path printed", "report", false, ""},
		{TempFail, "tempfail", "Transient; safe to run again", "yes", true, "run again in a moment"},
		{ConfigInvalid, "config", "Configuration invalid", "no", false, "run: lifeboat config check"},
		{Timeout, "timeout", "--timeout passed", "yes", true, "run again to go on, or give it longer"},
		{Interrupted, "interrupted", "SIGINT, stopped cleanly", "yes", true, "run again to go on"},
		{Terminated, "interrupted", "SIGTERM, stopped cleanly", "yes", true, "run again to go on"},
	}
}

// info is c's row; an unknown code is a plain failure.
func (c Code) info() codeInfo {
	table := codeTable()
	if i := slices.IndexFunc(table, func(row codeInfo) bool { return row.Code == c }); i >= 0 {
		return table[i]
	}
	return Failed.info()
}

// Fail is an error for the user: what went wrong, what to do next, and the
// exit code. Message may be empty when Err says it all.
type Fail struct {
	Code    Code
	Message string
	Hint    string
	Err     error
}

// Error is the message, or the cause's.
func (f *Fail) Error() string {
	if f.Message == "" && f.Err != nil {
		return f.Err.Error()
	}
	return f.Message
}

// Unwrap gives the cause.
func (f *Fail) Unwrap() error { return f.Err }

// errTimeout is the cause of a context that --timeout ended.
var errTimeout = errors.New("--timeout passed")

// errUsage marks flags and arguments that make no sense.
var errUsage = errors.New("usage")

// usageError is a Fail with exit code 64.
func usageError(err error) *Fail {
	return &Fail{Code: Usage, Message: firstUpToNewline(err.Error()), Hint: "see: lifeboat help", Err: errUsage}
}

func firstUpToNewline(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// sentinel maps an error of a lower package to an exit code and a hint.
type sentinel struct {
	err  error
	code Code
	hint string // "" takes the code's
}

// sentinels are looked through in order; the first match decides.
func sentinels() []sentinel {
	return []sentinel{
		{errTimeout, Timeout, ""},
		{repo.ErrWrongRepository, WrongRepository, ""},
		{repo.ErrNotMember, WrongRepository, "the region must be brought back as it was, or replaced; restores and backups go on with the others"},
		{repo.ErrNoKey, NoMatchingKey, ""},
		{seal.ErrNoKey, NoMatchingKey, ""},
		{repo.ErrNoSnapshot, NoRecoveryPoint, ""},
		{repo.ErrInUse, Locked, ""},
		{repo.ErrTooFewRegions, ReplicationDegraded, ""},
		{repo.ErrNotEmpty, TargetRefused, ""},
		{repo.ErrNoState, NoMatchingKey, "join the repository with: lifeboat host enroll --kit FILE --root FILE"},
		{config.ErrSecretExposed, ConfigInvalid, "take the rights of group and others away, as shown"},
		{storage.ErrNoSpace, NoSpace, ""},
		{syscall.ENOSPC, NoSpace, ""},
		{syscall.EDQUOT, NoSpace, "raise the quota or free space, then run again"},
		{storage.ErrCorrupt, VerifyFailed, ""},
		{storage.ErrListing, VerifyFailed, "the region's listing is cut short or lies; look at it with: lifeboat check"},
		{storage.ErrDenied, Failed, "the region refused the credentials; check them and the bucket's policy"},
		{storage.ErrReadOnly, Failed, "the region cannot be written; check its mount or policy"},
		{storage.ErrNoBucket, RepoNotFound, "the bucket or directory must exist; check the URL and whether it is mounted"},
		{storage.ErrUnreachable, RegionUnreachable, ""},
		{repo.ErrNoRepository, RepoNotFound, ""},
		{storage.ErrNotFound, VerifyFailed, ""},
		{context.DeadlineExceeded, TempFail, ""},
		{fs.ErrPermission, Failed, "run it as a user who may, or give that user the rights"},
		{os.ErrNotExist, Failed, "check the path"},
	}
}

// classify gives every error its code and hint. Of several joined errors the
// weightiest decides; all are kept as causes.
func classify(err error) *Fail {
	if err == nil {
		return nil
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return worst(list.Unwrap())
	}
	var fail *Fail
	if errors.As(err, &fail) {
		out := *fail
		if out.Message == "" || error(fail) != err {
			out.Message = err.Error()
		}
		if out.Hint == "" {
			out.Hint = out.Code.info().Hint
		}
		return &out
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		return &Fail{Code: ConfigInvalid, Message: err.Error(), Hint: ConfigInvalid.info().Hint, Err: err}
	}
	for _, s := range sentinels() {
		if errors.Is(err, s.err) {
			return &Fail{Code: s.code, Message: err.Error(), Hint: orElse(s.hint, s.code.info().Hint), Err: err}
		}
	}
	return &Fail{Code: Failed, Message: err.Error(), Hint: Failed.info().Hint, Err: err}
}

// worst chooses among several failures: 12, 15, 4, 3, 6, 5 win in this order,
// then the first that came.
func worst(errs []error) *Fail {
	var fails []*Fail
	for _, err := range errs {
		if f := classify(err); f != nil {
			fails = append(fails, f)
		}
	}
	if len(fails) == 0 {
		return nil
	}
	chosen := fails[0]
	for _, code := range []Code{NoMatchingKey, RegionUnreachable, VerifyFailed, Partial, ReplicationDegraded, ObjectiveMissed} {
		if i := slices.IndexFunc(fails, func(f *Fail) bool { return f.Code == code }); i >= 0 {
			chosen = fails[i]
			break
		}
	}
	out := *chosen
	out.Err = errors.Join(errs...)
	return &out
}

// causes lists the chain of an error without repeating its own message.
func causes(f *Fail) []string {
	var out []string
	var walk func(err error)
	walk = func(err error) {
		if err == nil || len(out) >= causesMax {
			return
		}
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range list.Unwrap() {
				walk(e)
			}
			return
		}
		if text := err.Error(); err != errUsage && text != f.Error() && !slices.Contains(out, text) {
			out = append(out, text)
		}
		walk(errors.Unwrap(err))
	}
	walk(f.Err)
	return out
}

// causesMax bounds the causes of one error in a result.
const causesMax = 50

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
