// Command lifeboat protects volumes in several regions, restores them, and
// proves by drills that it can. This package is the face: flags, output, exit
// codes, and the wiring of the packages that do the work. It holds no logic of
// backup or restore of its own.
package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"
	_ "time/tzdata" // time zones on hosts that have none
)

// gcPercent trades a little processor time for a third of the heap: what lives are
// mostly buffers, so collections are cheap, and the memory budget is tight.
const gcPercent = 10

func main() {
	debug.SetGCPercent(gcPercent)
	ctx, stop := interruptible(context.Background())
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv, time.Now))
}
