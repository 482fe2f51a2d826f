// Package harness runs the built program and what it needs beside it: S3
// servers, a proxy that makes the network slow or broken, small file systems.
// Only e2e's tests and benchmarks use it. It judges nothing itself.
package harness
