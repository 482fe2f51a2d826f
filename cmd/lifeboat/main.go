// Command lifeboat protects volumes in several regions, restores them, and
// proves by drills that it can. This package is the face: flags, output, exit
// codes, and the wiring of the packages that do the work. It holds no logic of
// backup or restore of its own.
package main

import (
	"context"
	"os"
	"time"
	_ "time/tzdata" // time zones on hosts that have none
)

func main() {
	ctx, stop := interruptible(context.Background())
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv, time.Now))
}
