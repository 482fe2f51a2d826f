// Package tree makes directory trees that are hard to back up, changes them,
// and compares them. It is written with system calls alone and shares nothing
// with the product, so that a mistake made there cannot be made here again.
// It does not back up or restore anything.
package tree
