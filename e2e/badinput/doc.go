// Package badinput tests what the built program does with everything that can be
// wrong around it: keys, regions, disks, objects, listings, targets, words, a
// second run, a signal. It holds tests alone, apart from the other stories of
// package e2e, so that they can be run by themselves.
package badinput
