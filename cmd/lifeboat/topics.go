package main

// The help topics. They are constants, since everything else that a program
// carries as text would be a variable.
const (
	topicTimes = `Times are written in any of these forms:

  2026-11-22T14:05:00Z, 2026-11-22T15:05+01:00   RFC 3339, seconds may be left out
  "2026-11-22 14:05", "2026-11-22 14:05:06"      in the time zone of the configuration, else of this host
  2026-11-22                                     that day at 00:00
  14:05                                          today
  "90m ago", "2d ago"                            before now
  now

The instant that was understood is printed before any work begins: local time, UTC and distance.
JSON output always has UTC with a Z. --utc makes text do so too.

Durations: 500ms, 90s, 15m, 1h30m, 30d, 2w; a day is 24 hours.
Sizes: 512MiB (1024) and 4GB (1000); a bare letter, as in 5G, is refused.
`

	topicJSON = `With --json (or --output json) stdout carries exactly one JSON document, on success and on failure:

  {"schema":"lifeboat.result/v1","kind":"restore","ok":true,"exit_code":0,"changed":true,
   "run_id":"…","started_at":"…","finished_at":"…","duration_ms":1234,"host":"…","version":"…",
   "data":{…},"warnings":[{"code":"…","message":"…"}],"error":null}

On failure "ok" is false, "data" holds what is known, and "error" is
  {"code":"no_recovery_point","exit_code":13,"message":"…","hint":"…","retryable":false,"docs":"…","causes":["…"]}

stderr then carries events, one JSON object per line of at most 64 KiB:
  {"schema":"lifeboat.event/v1","seq":17,"time":"…","run_id":"…","type":"progress",…}
Types: start, phase, progress, item, warning, error, log, waiting, checkpoint, end (always last).
Progress may be dropped when the reader is slow. --events FILE, fd:N or none sends them elsewhere.

Fields: snake_case; *_bytes are integers, *_ms milliseconds, *_at RFC 3339 in UTC, *_ratio 0 to 1.
A field that is absent does not apply; null is not known; 0 is zero.
Later versions add fields and values: ignore what you do not know.

Commands that list things also take --output jsonl: one record per line, then the result as the last line.
`

	topicSecrets = `No secret is ever taken from the command line, or kept in the configuration. The configuration refers to secrets:

  {from_file: /etc/lifeboat/s3-key}        a file that only its owner can read (chmod 600)
  {from_credential: s3-key}                a systemd credential (LoadCredential=)
  {from_command: [/usr/bin/pass, s3-key]}  what a command prints; no shell
  {from_env: S3_KEY}                       an environment variable; never for private keys

Files that group or others can read are refused, unless they lie in the systemd credentials
folder or under /run/secrets.

S3 keys that are not given come from the profile, or from the usual AWS places (AWS_* variables,
shared files, instance role).

The identity that opens backups comes from --identity-file PATH ("-" reads standard input),
LIFEBOAT_IDENTITY_FILE, or keys.data_identity of the configuration. A recovery kit is such a file.
The passphrase of an identity is asked for on the terminal, or read from --passphrase-file.
`

	topicEnvironment = `LIFEBOAT_<FLAG>   any global flag but --confirm and --json, such as LIFEBOAT_CONFIG, LIFEBOAT_OUTPUT,
                  LIFEBOAT_IDENTITY_FILE, LIFEBOAT_LOCK_WAIT or LIFEBOAT_STATE_DIR; a flag overrides it
LIFEBOAT_PROGRESS_INTERVAL   time between progress lines off a terminal (default 60s)
LIFEBOAT_NO_COLOR, NO_COLOR  not empty: no colour
CLICOLOR_FORCE, CLICOLOR     1: colour even on a pipe; CLICOLOR=0: none
TERM                         dumb: no colour, no bars
LC_ALL, LC_CTYPE, LANG       without UTF-8, signs are written in ASCII
TZ                           time zone of text, unless the configuration names one
XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME, HOME   places of an ordinary user's files
STATE_DIRECTORY, CACHE_DIRECTORY, CREDENTIALS_DIRECTORY, NOTIFY_SOCKET   set by systemd
AWS_*                        credentials and profile of S3 regions
HTTPS_PROXY, NO_PROXY        proxy of S3 regions
TMPDIR                       temporary files

The configuration is --config or LIFEBOAT_CONFIG; else, for root, /etc/lifeboat/lifeboat.yaml;
else $XDG_CONFIG_HOME/lifeboat/lifeboat.yaml, then /etc/lifeboat/lifeboat.yaml.
A value is taken from the flag, else the environment, else the file, else the default;
lifeboat config show --origin says which.
`
)
