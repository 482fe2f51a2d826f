// Package e2e tests the built program from outside, as a user or a script
// would meet it: against real S3 servers, real file systems and real faults.
// It also holds the house rules of the whole repository. It imports nothing of
// lifeboat's own packages, so that no bug can hide in code shared with them.
package e2e
